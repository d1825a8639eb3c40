//! Decides whether this process is ready: its database responds, all migrations are applied, and it is not
//! shutting down.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use migration::{Migrator, MigratorTrait};
use service::Store;
use tokio::sync::{Mutex, watch};

/// How long the result of a readiness check is reused, so that frequent probes cost the database nothing.
const RESULT_MAX_AGE: Duration = Duration::from_secs(1);

/// Decides what `/readyz` responds. It sends one query at a time to the database, on a connection that
/// nothing else uses.
pub(crate) struct Readiness {
    store: Store,
    migrations: HashSet<String>,
    is_shutting_down: watch::Receiver<bool>,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Readiness {
    /// A check that reports not ready while `is_shutting_down` holds `true`.
    pub(crate) fn new(store: Store, is_shutting_down: watch::Receiver<bool>) -> Self {
        Self { store, migrations: migration_names(), is_shutting_down, last: Mutex::new(None) }
    }

    /// Whether the process is ready: it is not shutting down, its database responds, and all migrations are
    /// applied. Queries the database unless the last result is recent.
    pub(crate) async fn is_ready(&self) -> bool {
        if *self.is_shutting_down.borrow() {
            return false;
        }
        let mut last = self.last.lock().await;
        if let Some((at, is_ready)) = *last
            && at.elapsed() < RESULT_MAX_AGE
        {
            return is_ready;
        }
        let is_ready = self.query_readiness().await;
        *last = Some((Instant::now(), is_ready));
        is_ready && !*self.is_shutting_down.borrow()
    }

    async fn query_readiness(&self) -> bool {
        match self.store.load_applied_migrations().await {
            Ok(applied) => {
                applied.iter().filter(|name| self.migrations.contains(*name)).count() == self.migrations.len()
            }
            Err(error) => {
                tracing::debug!(
                    error = error.to_string_with_cause(),
                    "the readiness check cannot read the database"
                );
                false
            }
        }
    }
}

/// The names of all migrations that this version of the program knows.
fn migration_names() -> HashSet<String> {
    Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect()
}
