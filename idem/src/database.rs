//! Opens and migrates the database, and runs the commands `idem migrate` and `idem restored`.

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use migration::{Migrator, MigratorTrait};
use service::backfill::Backfill;
use service::{Clock, Store, feeds};
use worker::backfill::{self, Pace};

use crate::config::Config;

/// The shortest time between two reports of the progress of a backfill.
const BACKFILL_REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// `idem migrate`: applies migrations and fills derived columns; with `refill` it fills all of them again.
/// With `check` it changes nothing. Prints how many migrations are pending at the end; the exit code is 0 if
/// none is.
pub(crate) async fn migrate(config: &Config, check: bool, refill: bool) -> anyhow::Result<ExitCode> {
    refuse_unsuitable_postgres(config).await?;
    if !check {
        create_and_migrate_database(config).await?;
        let store = open_store(config, 4).await?;
        if refill {
            service::backfill::restart_all(&store).await.context("cannot restart the backfills")?;
        }
        run_backfills_with_progress(&store, Pace::Throttled, |progress| eprintln!("{progress}")).await?;
        store.close().await;
    }
    let connection =
        service::open_to_check_migrations(&config.database_url).await.context("cannot open the database")?;
    let pending = match connection {
        Some(connection) => {
            let pending = migration::pending(&connection).await?;
            connection.close().await?;
            pending
        }
        // The SQLite file does not exist yet.
        None => Migrator::migrations().len(),
    };
    println!("{pending} migrations pending");
    Ok(if pending == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `idem restored`: resets the change feeds of all users after a backup was restored, so that every device
/// syncs from the start.
pub(crate) async fn reset_feeds_after_restore(config: &Config) -> anyhow::Result<()> {
    refuse_unsuitable_postgres(config).await?;
    let store = open_store(config, 2).await?;
    feeds::renew_generation(&store).await.context("cannot reset the change feeds")?;
    println!(
        "all change feeds are reset: each device sends what it has once more and then syncs from the start"
    );
    Ok(())
}

/// Fills the derived columns of older rows until all are done. Passes a line about the progress to `report`
/// at most every 2 s.
pub(crate) async fn run_backfills_with_progress(
    store: &Store,
    pace: Pace,
    report: impl Fn(String) + Sync,
) -> anyhow::Result<()> {
    let reported_at = Mutex::new(Instant::now());
    let on_progress = |backfill: &Backfill| {
        let Ok(mut reported_at) = reported_at.lock() else { return };
        if !backfill.is_done && reported_at.elapsed() >= BACKFILL_REPORT_INTERVAL {
            *reported_at = Instant::now();
            let Backfill { name, rows, .. } = backfill;
            let percent = backfill.estimate_progress() * 100.0;
            report(format!("filling {name}: {rows} rows done, {percent:.0} % of the users"));
        }
    };
    backfill::run_all_backfills(store, pace, &on_progress)
        .await
        .map_err(|error| anyhow!(error.to_string_with_cause()))
}

/// Refuses a PostgreSQL that cannot be reached, or that would lose or corrupt data later: one with another
/// encoding than UTF-8, a wrong clock or a pooler that shares sessions. On SQLite there is nothing to check.
pub(crate) async fn refuse_unsuitable_postgres(config: &Config) -> anyhow::Result<()> {
    Ok(service::preflight(&config.database_url, &Clock::System).await?)
}

/// Creates the data directory and, for SQLite, the database file if they are missing, and applies the
/// migrations that the database lacks.
pub(crate) async fn create_and_migrate_database(config: &Config) -> anyhow::Result<()> {
    create_data_dir(config).await?;
    let connection =
        service::open_to_migrate(&config.database_url).await.context("cannot open the database")?;
    migration::apply(&connection).await.context("cannot apply the migrations")?;
    Ok(connection.close().await?)
}

async fn create_data_dir(config: &Config) -> anyhow::Result<()> {
    let dir = &config.data_dir;
    tokio::fs::create_dir_all(dir)
        .await
        .with_context(|| format!("cannot create the data directory {} (IDEM_DATA_DIR)", dir.display()))
}

/// Opens the connection pools of the database, and applies no migrations. On PostgreSQL their sizes follow
/// from `connections` (see [`Store::open`]). Creates the data directory if it is missing.
pub(crate) async fn open_store(config: &Config, connections: u32) -> anyhow::Result<Store> {
    create_data_dir(config).await?;
    let store = Store::open(&config.database_url, connections, config.failover, Clock::System).await;
    store.map_err(|error| anyhow!(error.to_string_with_cause())).context("cannot open the database")
}
