//! How a process begins and ends: opens the database, the payloads and the queue, serves, works, and on
//! SIGTERM stops in the order in which nothing is lost.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use api::{Keys, Server, Services};
use domain::clock::Clock;
use domain::limits::ImportLimits;
use domain::payload::Payloads;
use domain::store::{Store, account};
use futures::FutureExt;
use migration::{Migrator, MigratorTrait};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use worker::bell::QueueBell;
use worker::jobs::run_slice::{Workshop, run_slice};
use worker::queue::{Consumer, Queue};
use worker::sweeper::Sweeper;

use crate::cli::ServeArgs;
use crate::config::Config;
use crate::payloads::open_payloads;
use crate::telemetry::Telemetry;
use crate::token;

const SERVE_CONNECTIONS: u32 = 20;
const WORKER_CONNECTIONS: u32 = 8;
const SLICES_AT_ONCE: usize = 4;
const DEV_TOKEN_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// `idem serve`
pub(crate) async fn serve(config: Config, args: &ServeArgs) -> anyhow::Result<()> {
    config.require_keys()?;
    if args.no_worker && config.redis_url.is_none() {
        bail!("serve --no-worker needs IDEM_REDIS_URL: without it the queue is in this process");
    }
    let telemetry = Telemetry::install(&config)?;
    let store = open_store(&config, SERVE_CONNECTIONS, !args.no_migrate).await?;
    let payloads = open_payloads(&config)?;
    let (bell, consumer) = queue(&config).open().context("the queue cannot be opened")?;
    let keys = Keys::load(
        &config.jwt_secrets,
        config.jwks.clone(),
        config.jwt_issuers.clone(),
        config.jwt_audience.clone(),
    )
    .await
    .context("the keys cannot be loaded")?;

    let ending = Arc::new(AtomicBool::new(false));
    let (stop_serving, stop_working) = (CancellationToken::new(), CancellationToken::new());
    let tasks = TaskTracker::new();
    if !args.no_worker {
        spawn_worker(&tasks, &config, &store, &payloads, &bell, consumer, &stop_working);
    }
    tasks.spawn(sweeper(&config, &store, &payloads, &bell).run(stop_working.clone()));
    let listener = bind(config.listen).await?;
    let metrics_listener = bind(config.metrics_listen).await?;
    announce(&config, &listener)?;
    tasks.spawn(serve_metrics(metrics_listener, &telemetry, store.clone(), stop_serving.clone()));
    let server = Server {
        services: Services {
            store: store.clone(),
            payloads,
            bell: Arc::new(bell),
            import_limits: import_limits(&config),
        },
        keys,
        cors_origins: config.cors_origins.clone(),
        rate_limit: config.rate_limit,
        hints: config.dev,
        ready: readiness(store.clone(), Arc::clone(&ending)),
    };
    tasks.spawn(api::serve(listener, server, stop_serving.clone()));

    terminated().await?;
    tracing::info!("stopping");
    ending.store(true, Ordering::Relaxed);
    stop_working.cancel();
    tokio::time::sleep(config.drain_delay).await;
    stop_serving.cancel();
    tasks.close();
    tasks.wait().await;
    telemetry.end().await;
    store.close().await;
    Ok(())
}

/// `idem worker`
pub(crate) async fn work(config: Config) -> anyhow::Result<()> {
    if config.redis_url.is_none() {
        bail!("worker needs IDEM_REDIS_URL: without it the queue is inside `idem serve`");
    }
    let telemetry = Telemetry::install(&config)?;
    let store = open_store(&config, WORKER_CONNECTIONS, false).await?;
    let payloads = open_payloads(&config)?;
    let (bell, consumer) = queue(&config).open().context("the queue cannot be opened")?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    spawn_worker(&tasks, &config, &store, &payloads, &bell, consumer, &stop);
    tasks.spawn(sweeper(&config, &store, &payloads, &bell).run(stop.clone()));
    match TcpListener::bind(config.metrics_listen).await {
        Ok(listener) => {
            tasks.spawn(serve_metrics(listener, &telemetry, store.clone(), stop.clone()));
        }
        // Several workers of one machine share a default port; only metrics are missed.
        Err(error) => tracing::warn!(%error, "metrics are not served: set IDEM_METRICS_LISTEN"),
    }
    tracing::info!("working");
    terminated().await?;
    tracing::info!("stopping");
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    telemetry.end().await;
    store.close().await;
    Ok(())
}

/// `idem migrate`
pub(crate) async fn migrate(config: &Config, check: bool) -> anyhow::Result<ExitCode> {
    let store = open_store(config, 2, !check).await?;
    let pending = Migrator::get_pending_migrations(store.migrations()).await?.len();
    println!("{pending} migrations pending");
    Ok(if pending == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `idem restored`
pub(crate) async fn restored(config: &Config) -> anyhow::Result<()> {
    let store = open_store(config, 2, false).await?;
    let users = account::renew_all_epochs(&store).await.context("the feeds could not be renewed")?;
    println!("{users} feeds begin anew: devices send what they have once more, then read all");
    Ok(())
}

fn queue(config: &Config) -> Queue {
    match &config.redis_url {
        Some(url) => Queue::Redis { url: url.clone() },
        None => Queue::Memory,
    }
}

async fn open_store(config: &Config, connections: u32, migrate: bool) -> anyhow::Result<Store> {
    tokio::fs::create_dir_all(&config.data_dir).await.context("the data directory cannot be made")?;
    let store = Store::open(&config.database_url, connections, Clock::System)
        .await
        .context("the database cannot be reached")?;
    if migrate {
        Migrator::up(store.migrations(), None).await.context("the migrations failed")?;
    }
    Ok(store)
}

fn import_limits(config: &Config) -> ImportLimits {
    ImportLimits {
        running_max: config.imports_running_max,
        waiting_max: config.imports_waiting_max,
        records_a_day: config.import_records_a_day.map(|most| i64::try_from(most).unwrap_or(i64::MAX)),
        bytes_a_day: config.import_bytes_a_day.map(|most| i64::try_from(most).unwrap_or(i64::MAX)),
    }
}

fn sweeper(config: &Config, store: &Store, payloads: &Payloads, bell: &QueueBell) -> Sweeper<QueueBell> {
    Sweeper {
        store: store.clone(),
        payloads: payloads.clone(),
        bell: bell.clone(),
        payload_retention: config.payload_retention,
    }
}

fn spawn_worker(
    tasks: &TaskTracker,
    config: &Config,
    store: &Store,
    payloads: &Payloads,
    bell: &QueueBell,
    consumer: Consumer,
    stop: &CancellationToken,
) {
    let workshop = Workshop {
        store: store.clone(),
        payloads: payloads.clone(),
        bell: bell.clone(),
        owner: format!("{}", Clock::System.new_id()),
        limits: import_limits(config),
        shutdown: stop.clone(),
    };
    tasks.spawn(consumer.run(SLICES_AT_ONCE, stop.clone(), move |import_id| {
        let workshop = workshop.clone();
        async move { run_slice(&workshop, import_id).await }
    }));
}

async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

fn serve_metrics(
    listener: TcpListener,
    telemetry: &Telemetry,
    store: Store,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let (metrics, upkeep) = (telemetry.metrics(store), telemetry.upkeep());
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

/// Ready: the database answers and its migrations ran; the queue is not asked. Not ready once the end
/// has begun.
fn readiness(
    store: Store,
    ending: Arc<AtomicBool>,
) -> Arc<dyn Fn() -> futures::future::BoxFuture<'static, bool> + Send + Sync> {
    Arc::new(move || {
        let (store, ending) = (store.clone(), Arc::clone(&ending));
        async move {
            if ending.load(Ordering::Relaxed) {
                return false;
            }
            let pending = Migrator::get_pending_migrations(store.migrations());
            let answered = tokio::time::timeout(Duration::from_secs(2), pending).await;
            matches!(answered, Ok(Ok(pending)) if pending.is_empty())
        }
        .boxed()
    })
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
