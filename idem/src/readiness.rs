//! Whether this process can serve: its database answers, all migrations ran, and it is not about to end.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use migration::{Migrator, MigratorTrait};
use service::Store;
use tokio::sync::{Mutex, watch};

/// An answer is given again for so long. Whoever asks more often costs the database nothing.
const ANSWER_MAX_AGE: Duration = Duration::from_secs(1);

/// Answers `/readyz`. One question at a time goes to the database, on a connection that nothing else uses.
pub(crate) struct Readiness {
    store: Store,
    migrations: HashSet<String>,
    ending: watch::Receiver<bool>,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Readiness {
    /// Not ready once `ending` is true.
    pub(crate) fn new(store: Store, ending: watch::Receiver<bool>) -> Self {
        Self { store, migrations: names(), ending, last: Mutex::new(None) }
    }

    /// Asks the database, unless it was asked a moment ago.
    pub(crate) async fn is_ready(&self) -> bool {
        if *self.ending.borrow() {
            return false;
        }
        let mut last = self.last.lock().await;
        if let Some((at, is_ready)) = *last
            && at.elapsed() < ANSWER_MAX_AGE
        {
            return is_ready;
        }
        let is_ready = self.ask().await;
        *last = Some((Instant::now(), is_ready));
        is_ready && !*self.ending.borrow()
    }

    async fn ask(&self) -> bool {
        match self.store.applied_migrations().await {
            Ok(applied) => {
                applied.iter().filter(|name| self.migrations.contains(*name)).count() == self.migrations.len()
            }
            Err(error) => {
                tracing::debug!(error = error.in_full(), "the database cannot be used");
                false
            }
        }
    }
}

/// The names of all migrations that this program knows.
pub(crate) fn names() -> HashSet<String> {
    Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect()
}
