//! How a process begins and ends: opens the database, the payloads and the queue, serves, works, and on
//! SIGTERM stops in the order in which nothing is lost.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use api::{Keys, Probes, Server, Services};
use domain::limits::ImportLimits;
use futures::FutureExt;
use migration::{Migrator, MigratorTrait};
use service::Clock;
use service::Payloads;
use service::backfill::Backfill;
use service::{Store, feeds};
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
use crate::open_files;
use crate::payloads::open_payloads;
use crate::readiness::Readiness;
use crate::telemetry::Telemetry;
use crate::token;

const SERVE_CONNECTIONS: u32 = 20;
const WORKER_CONNECTIONS: u32 = 8;
const SLICES_AT_ONCE: usize = 4;
/// A process that has heard nothing from its database for so long, though it asked, is better started anew.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long what has begun may take at the end, and how long to close what is open: together less than the 10 s that
/// are promised.
const TASKS_END_MAX: Duration = Duration::from_secs(8);
const CLOSE_MAX: Duration = Duration::from_secs(1);
const REFILL_TOLD_EVERY: Duration = Duration::from_secs(2);
const DEV_TOKEN_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// `idem serve`
pub(crate) async fn serve(config: Config, args: &ServeArgs) -> anyhow::Result<()> {
    config.require_keys()?;
    if args.no_worker && config.redis_url.is_none() {
        bail!("serve --no-worker needs IDEM_REDIS_URL: without it the queue is in this process");
    }
    let telemetry = Telemetry::install(&config)?;
    open_files::raise_limit(config.connections_max);
    preflight(&config).await?;
    if !args.no_migrate {
        prepare_database(&config).await?;
    }
    let store = open_store(&config, SERVE_CONNECTIONS).await?;
    if !args.no_migrate && config.is_sqlite() {
        // Nobody is served yet, and nothing waits.
        refill(&store, Pace::Alone, |words| tracing::info!("{words}")).await?;
    }
    // Imports have connections of their own; SQLite has one that writes, whoever does.
    let mut stores = vec![store.clone()];
    if !config.is_sqlite() {
        stores.push(open_store(&config, WORKER_CONNECTIONS).await?);
    }
    let import_store = stores[stores.len() - 1].clone();
    let payloads = open_payloads(&config)?;
    let (notifier, consumer) = queue(&config).open().context("the queue cannot be opened")?;
    let keys = Keys::load(
        &config.jwt_secrets,
        config.jwks.clone(),
        config.jwt_issuers.clone(),
        config.jwt_audience.clone(),
    )
    .await
    .context("the keys cannot be loaded")?;

    let (ending, is_ending) = watch::channel(false);
    let (stop_serving, stop_working) = (CancellationToken::new(), CancellationToken::new());
    let tasks = TaskTracker::new();
    if !args.no_worker {
        spawn_worker(&tasks, &config, &import_store, &payloads, &notifier, consumer, &stop_working);
    }
    tasks.spawn(sweeper(&config, &import_store, &payloads, &notifier).run(stop_working.clone()));
    tasks.spawn(backfill::run(import_store.clone(), stop_working.clone()));
    let listener = bind(config.listen).await?;
    let metrics_listener = bind(config.metrics_listen).await?;
    announce(&config, &listener)?;
    tasks.spawn(serve_metrics(metrics_listener, &telemetry, stores.clone(), stop_serving.clone()));
    let server = Server {
        services: Services {
            store: store.clone(),
            payloads,
            notifier: Arc::new(notifier),
            import_limits: import_limits(&config),
        },
        keys,
        cors_origins: config.cors_origins.clone(),
        cors_headers: config.cors_headers.clone(),
        connections_max: config.connections_max,
        rate_limit: config.rate_limit,
        hints: config.dev,
        probes: probes(&store, is_ending),
    };
    tasks.spawn(api::serve(listener, server, stop_serving.clone()));

    terminated().await?;
    tracing::info!("stopping");
    ending.send_replace(true);
    stop_working.cancel();
    tokio::time::sleep(config.drain_delay).await;
    stop_serving.cancel();
    end(&tasks, telemetry, &stores).await;
    Ok(())
}

/// `idem worker`
pub(crate) async fn work(config: Config) -> anyhow::Result<()> {
    if config.redis_url.is_none() {
        bail!("worker needs IDEM_REDIS_URL: without it the queue is inside `idem serve`");
    }
    let telemetry = Telemetry::install(&config)?;
    preflight(&config).await?;
    let store = open_store(&config, WORKER_CONNECTIONS).await?;
    let payloads = open_payloads(&config)?;
    let (notifier, consumer) = queue(&config).open().context("the queue cannot be opened")?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    spawn_worker(&tasks, &config, &store, &payloads, &notifier, consumer, &stop);
    tasks.spawn(sweeper(&config, &store, &payloads, &notifier).run(stop.clone()));
    tasks.spawn(backfill::run(store.clone(), stop.clone()));
    match TcpListener::bind(config.metrics_listen).await {
        Ok(listener) => {
            tasks.spawn(serve_metrics(listener, &telemetry, vec![store.clone()], stop.clone()));
        }
        // Several workers of one machine share a default port; only metrics are missed.
        Err(error) => tracing::warn!(%error, "metrics are not served: set IDEM_METRICS_LISTEN"),
    }
    tracing::info!("working");
    terminated().await?;
    tracing::info!("stopping");
    stop.cancel();
    end(&tasks, telemetry, &[store]).await;
    Ok(())
}

/// Waits until what has begun is finished, within bounds: whatever is not was not acknowledged.
async fn end(tasks: &TaskTracker, telemetry: Telemetry, stores: &[Store]) {
    tasks.close();
    if timeout(TASKS_END_MAX, tasks.wait()).await.is_err() {
        tracing::warn!("something was still under way at the end");
    }
    let close = async {
        telemetry.end().await;
        for store in stores {
            store.close().await;
        }
    };
    let _left_open = timeout(CLOSE_MAX, close).await;
}

/// `idem migrate`. With `check` it only asks, and changes nothing; with `refill` derived columns are filled once more.
pub(crate) async fn migrate(config: &Config, check: bool, refill_all: bool) -> anyhow::Result<ExitCode> {
    preflight(config).await?;
    if !check {
        prepare_database(config).await?;
        let store = open_store(config, 4).await?;
        if refill_all {
            service::backfill::restart(&store).await.context("the backfills cannot be begun anew")?;
        }
        refill(&store, Pace::BesideTraffic, |words| eprintln!("{words}")).await?;
        store.close().await;
    }
    let looked =
        service::open_to_look(&config.database_url).await.context("the database cannot be reached")?;
    let pending = match looked {
        Some(connection) => {
            let pending = migration::pending(&connection).await?;
            connection.close().await?;
            pending
        }
        // There is no database yet.
        None => Migrator::migrations().len(),
    };
    println!("{pending} migrations pending");
    Ok(if pending == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fills derived columns of older rows, and tells how far that is.
async fn refill(store: &Store, pace: Pace, say: impl Fn(String) + Sync) -> anyhow::Result<()> {
    let told_at = Mutex::new(Instant::now());
    let tell = |backfill: &Backfill| {
        let Ok(mut told_at) = told_at.lock() else { return };
        if !backfill.is_done && told_at.elapsed() >= REFILL_TOLD_EVERY {
            *told_at = Instant::now();
            let Backfill { name, rows, .. } = backfill;
            say(format!("filling {name}: {rows} rows, {:.0} % of the users", backfill.share() * 100.0));
        }
    };
    backfill::fill(store, pace, &tell).await.map_err(|error| anyhow!(error.in_full()))
}

/// `idem restored`
pub(crate) async fn restored(config: &Config) -> anyhow::Result<()> {
    preflight(config).await?;
    let store = open_store(config, 2).await?;
    feeds::renew_all(&store).await.context("the feeds could not be renewed")?;
    println!("all feeds begin anew: devices send what they have once more, then read all");
    Ok(())
}

fn queue(config: &Config) -> Queue {
    match &config.redis_url {
        Some(url) => Queue::Redis { url: url.clone() },
        None => Queue::Memory,
    }
}

/// Refuses a database that would lose or garble something later.
async fn preflight(config: &Config) -> anyhow::Result<()> {
    Ok(service::preflight(&config.database_url, &Clock::System).await?)
}

/// Makes the data directory and brings the tables up to date.
async fn prepare_database(config: &Config) -> anyhow::Result<()> {
    make_data_dir(config).await?;
    let connection =
        service::open_to_migrate(&config.database_url).await.context("the database cannot be reached")?;
    migration::apply(&connection).await.context("the migrations failed")?;
    Ok(connection.close().await?)
}

async fn make_data_dir(config: &Config) -> anyhow::Result<()> {
    tokio::fs::create_dir_all(&config.data_dir).await.context("the data directory cannot be made")
}

async fn open_store(config: &Config, connections: u32) -> anyhow::Result<Store> {
    make_data_dir(config).await?;
    let store = Store::open(&config.database_url, connections, config.failover, Clock::System).await;
    store.map_err(|error| anyhow!(error.in_full())).context("the database cannot be reached")
}

fn import_limits(config: &Config) -> ImportLimits {
    ImportLimits {
        running_max: config.imports_running_max,
        waiting_max: config.imports_waiting_max,
        records_a_day: config.import_records_a_day.map(|most| i64::try_from(most).unwrap_or(i64::MAX)),
        bytes_a_day: config.import_bytes_a_day.map(|most| i64::try_from(most).unwrap_or(i64::MAX)),
    }
}

fn sweeper(
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

fn spawn_worker(
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
        limits: import_limits(config),
        shutdown: stop.clone(),
    };
    tasks.spawn(consumer.run(SLICES_AT_ONCE, stop.clone(), move |import_id| {
        let context = context.clone();
        async move { run_slice(&context, import_id).await }
    }));
}

async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

fn serve_metrics(
    listener: TcpListener,
    telemetry: &Telemetry,
    stores: Vec<Store>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let (metrics, upkeep) = (telemetry.metrics(stores), telemetry.upkeep());
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

/// What `/readyz` and `/livez` answer.
fn probes(store: &Store, is_ending: watch::Receiver<bool>) -> Probes {
    let (readiness, store) = (Arc::new(Readiness::new(store.clone(), is_ending)), store.clone());
    Probes {
        is_ready: Arc::new(move || {
            let readiness = Arc::clone(&readiness);
            async move { readiness.is_ready().await }.boxed()
        }),
        is_alive: Arc::new(move || store.health().silent_for() < SILENCE_MAX),
    }
}

fn announce(config: &Config, listener: &TcpListener) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "serving");
    if !config.dev {
        return Ok(());
    }
    let token = token::sign(
        &config.signing_secret()?,
        "dev",
        config.jwt_issuers.first().map(String::as_str),
        config.jwt_audience.as_deref(),
        DEV_TOKEN_TTL,
        Clock::System.now_ms(),
    )?;
    let query = r#"mutation { createEventType(input: { eventType: { name: \"run\" } }) { result { outcome eventType { id name } } } }"#;
    println!(
        "Idem listens on http://{address}/graphql\n\nA token for the user `dev`:\n\n{token}\n\nA first mutation:\n"
    );
    println!(
        "curl -s http://{address}/graphql -H 'Content-Type: application/json' \\\n  -H 'Authorization: Bearer {token}' \\\n  -d '{{\"query\":\"{query}\"}}'\n"
    );
    Ok(())
}

async fn terminated() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
