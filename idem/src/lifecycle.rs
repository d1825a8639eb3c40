//! Starts and stops the processes of `idem serve` and `idem worker`.
//!
//! A process opens the database, the payload store and the queue before it accepts anything. On SIGTERM it
//! first stops imports and reports that it is not ready, and then closes the listener, so that nothing
//! acknowledged is lost.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use api::{Keys, Probes, Server, Services};
use domain::limits::ImportLimits;
use futures::FutureExt;
use service::Clock;
use service::Payloads;
use service::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use worker::backfill::{self, Pace};
use worker::jobs::run_slice::{RunnerContext, run_slice};
use worker::notifier::QueueNotifier;
use worker::queue::{Consumer, Queue};
use worker::sweeper::Sweeper;

use crate::cli::ServeArgs;
use crate::config::Config;
use crate::database::{
    create_and_migrate_database, open_store, refuse_unsuitable_postgres, run_backfills_with_progress,
};
use crate::open_files;
use crate::payloads::open_payload_store;
use crate::readiness::Readiness;
use crate::telemetry::Telemetry;
use crate::token;

/// From how many connections to PostgreSQL the pools for requests are sized (see [`Store::open`]).
const SERVE_CONNECTIONS: u32 = 20;
/// From how many connections to PostgreSQL the pools for imports are sized (see [`Store::open`]).
const WORKER_CONNECTIONS: u32 = 8;
/// The most import slices that one process runs at the same time.
const SLICES_MAX: usize = 4;
/// `/livez` fails if the database has not responded for this long although it was asked: a restart may help
/// then.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long running tasks may take to end at shutdown. Together with [`CLOSE_MAX`] it must stay below 10 s,
/// after which the documentation allows SIGKILL.
const TASKS_END_MAX: Duration = Duration::from_secs(8);
/// How long closing the database connections and sending the last spans may take at shutdown.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// How long the token that `idem serve --dev` prints is valid.
const DEV_TOKEN_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// `idem serve`: serves the API and, unless `--no-worker` is given, runs imports, until SIGTERM or SIGINT.
pub(crate) async fn run_server(config: Config, args: &ServeArgs) -> anyhow::Result<()> {
    config.require_token_keys()?;
    if args.no_worker && config.redis_url.is_none() {
        bail!("serve --no-worker needs IDEM_REDIS_URL: without Redis, no worker can read the import queue");
    }
    let telemetry = Telemetry::install(&config)?;
    open_files::raise_open_files_limit(config.connections_max);
    refuse_unsuitable_postgres(&config).await?;
    if !args.no_migrate {
        create_and_migrate_database(&config).await?;
    }
    let store = open_store(&config, SERVE_CONNECTIONS).await?;
    if !args.no_migrate && config.is_sqlite() {
        // No request is served yet, so the backfill need not pause for others.
        run_backfills_with_progress(&store, Pace::Full, |progress| tracing::info!("{progress}")).await?;
    }
    // Imports get a pool of their own, so that they do not take the connections of requests. With SQLite that
    // would gain nothing, because only one connection writes.
    let mut stores = vec![store.clone()];
    if !config.is_sqlite() {
        stores.push(open_store(&config, WORKER_CONNECTIONS).await?);
    }
    let import_store = stores[stores.len() - 1].clone();
    let payloads = open_payload_store(&config)?;
    let (notifier, consumer) = queue_from_config(&config)
        .open_notifier_and_consumer()
        .context("cannot open the import queue of IDEM_REDIS_URL")?;
    let keys = Keys::load(
        &config.jwt_secrets,
        config.jwks.clone(),
        config.jwt_issuers.clone(),
        config.jwt_audience.clone(),
    )
    .await
    .context("cannot load the keys that verify tokens")?;

    let (shutdown, is_shutting_down) = watch::channel(false);
    let (stop_serving, stop_working) = (CancellationToken::new(), CancellationToken::new());
    let tasks = TaskTracker::new();
    if !args.no_worker {
        spawn_import_worker(&tasks, &config, &import_store, &payloads, &notifier, consumer, &stop_working);
    }
    tasks.spawn(
        new_sweeper(&config, &import_store, &payloads, &notifier).run_until_shutdown(stop_working.clone()),
    );
    tasks.spawn(backfill::run_all_throttled_with_retries(import_store.clone(), stop_working.clone()));
    let listener = bind_listener(config.listen).await?;
    let metrics_listener = bind_listener(config.metrics_listen).await?;
    log_start_and_print_token(&config, &listener)?;
    tasks.spawn(serve_metrics(metrics_listener, &telemetry, stores.clone(), stop_serving.clone()));
    let server = Server {
        services: Services {
            store: store.clone(),
            payloads,
            notifier: Arc::new(notifier),
            import_limits: import_limits_from_config(&config),
        },
        keys,
        cors_origins: config.cors_origins.clone(),
        cors_headers: config.cors_headers.clone(),
        connections_max: config.connections_max,
        rate_limit: config.rate_limit,
        hints: config.dev,
        probes: new_probes(&store, is_shutting_down),
    };
    tasks.spawn(api::serve(listener, server, stop_serving.clone()));

    wait_for_termination_signal().await?;
    tracing::info!("shutting down");
    shutdown.send_replace(true);
    stop_working.cancel();
    tokio::time::sleep(config.drain_delay).await;
    stop_serving.cancel();
    shut_down(&tasks, telemetry, &stores).await;
    Ok(())
}

/// `idem worker`: runs imports from the queue in Redis until SIGTERM or SIGINT.
pub(crate) async fn run_worker(config: Config) -> anyhow::Result<()> {
    if config.redis_url.is_none() {
        bail!("worker needs IDEM_REDIS_URL: without Redis, the import queue is inside `idem serve`");
    }
    let telemetry = Telemetry::install(&config)?;
    refuse_unsuitable_postgres(&config).await?;
    let store = open_store(&config, WORKER_CONNECTIONS).await?;
    let payloads = open_payload_store(&config)?;
    let (notifier, consumer) = queue_from_config(&config)
        .open_notifier_and_consumer()
        .context("cannot open the import queue of IDEM_REDIS_URL")?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    spawn_import_worker(&tasks, &config, &store, &payloads, &notifier, consumer, &stop);
    tasks.spawn(new_sweeper(&config, &store, &payloads, &notifier).run_until_shutdown(stop.clone()));
    tasks.spawn(backfill::run_all_throttled_with_retries(store.clone(), stop.clone()));
    match TcpListener::bind(config.metrics_listen).await {
        Ok(listener) => {
            tasks.spawn(serve_metrics(listener, &telemetry, vec![store.clone()], stop.clone()));
        }
        // Several workers on one machine have the same default port. A worker is useful without metrics.
        Err(error) => {
            tracing::warn!(%error, "metrics are not served: set IDEM_METRICS_LISTEN to a free address")
        }
    }
    tracing::info!("import worker started");
    wait_for_termination_signal().await?;
    tracing::info!("shutting down");
    stop.cancel();
    shut_down(&tasks, telemetry, &[store]).await;
    Ok(())
}

/// Waits until the running tasks have ended. Then closes the database connections and sends the last spans.
/// Both take a limited time. What a task had not finished by then was not acknowledged.
async fn shut_down(tasks: &TaskTracker, telemetry: Telemetry, stores: &[Store]) {
    tasks.close();
    if timeout(TASKS_END_MAX, tasks.wait()).await.is_err() {
        tracing::warn!(limit_s = TASKS_END_MAX.as_secs(), "some tasks did not end in time and are aborted");
    }
    let close_stores = async {
        for store in stores {
            store.close().await;
        }
    };
    // At the same time, because a collector that does not respond must not keep the stores from being closed.
    let _left_open = timeout(CLOSE_MAX, futures::future::join(telemetry.shut_down(), close_stores)).await;
}

fn queue_from_config(config: &Config) -> Queue {
    match &config.redis_url {
        Some(url) => Queue::Redis { url: url.clone() },
        None => Queue::Memory,
    }
}

fn import_limits_from_config(config: &Config) -> ImportLimits {
    ImportLimits {
        running_max: config.imports_running_max,
        waiting_max: config.imports_waiting_max,
        records_a_day: config.import_records_a_day.map(|most| i64::try_from(most).unwrap_or(i64::MAX)),
        bytes_a_day: config.import_bytes_a_day.map(|most| i64::try_from(most).unwrap_or(i64::MAX)),
    }
}

fn new_sweeper(
    config: &Config,
    store: &Store,
    payloads: &Payloads,
    notifier: &QueueNotifier,
) -> Sweeper<QueueNotifier> {
    Sweeper {
        store: store.clone(),
        payloads: payloads.clone(),
        notifier: notifier.clone(),
        payload_retention: config.payload_retention,
    }
}

fn spawn_import_worker(
    tasks: &TaskTracker,
    config: &Config,
    store: &Store,
    payloads: &Payloads,
    notifier: &QueueNotifier,
    consumer: Consumer,
    stop: &CancellationToken,
) {
    let context = RunnerContext {
        store: store.clone(),
        payloads: payloads.clone(),
        notifier: notifier.clone(),
        owner: format!("{}", Clock::System.new_id()),
        limits: import_limits_from_config(config),
        shutdown: stop.clone(),
    };
    tasks.spawn(consumer.run_handlers(SLICES_MAX, stop.clone(), move |import_id| {
        let context = context.clone();
        async move { run_slice(&context, import_id).await }
    }));
}

async fn bind_listener(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

fn serve_metrics(
    listener: TcpListener,
    telemetry: &Telemetry,
    stores: Vec<Store>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let (metrics, upkeep) = (telemetry.metrics_renderer(stores), telemetry.metrics_upkeep_closure());
    let upkeep = async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            upkeep();
        }
    };
    async move {
        tokio::select! {
            () = api::serve_metrics(listener, Arc::new(metrics), stop) => {}
            () = upkeep => {}
        }
    }
}

/// The checks of `/readyz` and `/livez`.
fn new_probes(store: &Store, is_shutting_down: watch::Receiver<bool>) -> Probes {
    let (readiness, store) = (Arc::new(Readiness::new(store.clone(), is_shutting_down)), store.clone());
    Probes {
        is_ready: Arc::new(move || {
            let readiness = Arc::clone(&readiness);
            async move { readiness.is_ready().await }.boxed()
        }),
        is_alive: Arc::new(move || store.health().silence_duration() < SILENCE_MAX),
    }
}

/// Logs the address of the API. A development server also prints a token and a first request on stdout.
fn log_start_and_print_token(config: &Config, listener: &TcpListener) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "API server started");
    if !config.dev {
        return Ok(());
    }
    let token = token::sign_token(
        &config.signing_secret()?,
        "dev",
        config.jwt_issuers.first().map(String::as_str),
        config.jwt_audience.as_deref(),
        DEV_TOKEN_TTL,
        Clock::System.now_ms(),
    )?;
    println!(
        r#"
Idem listens on http://{address}/graphql. Its data directory is {}. Press Ctrl-C to stop it.

Paste this into another terminal. The token is for the user `dev` and is valid for 30 days.

  export IDEM_URL=http://{address}
  export IDEM_TOKEN={token}

Then create a first event type:

  curl -s $IDEM_URL/graphql -H "Authorization: Bearer $IDEM_TOKEN" -H 'Content-Type: application/json' -d '{{
    "query": "mutation($input: CreateEventTypeInput!) {{ createEventType(input: $input) {{ result {{ outcome }} }} }}",
    "variables": {{"input": {{"eventType": {{"name": "run"}}}}}}}}'
"#,
        config.data_dir.display()
    );
    Ok(())
}

/// Waits for SIGTERM or SIGINT (Ctrl-C).
async fn wait_for_termination_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
