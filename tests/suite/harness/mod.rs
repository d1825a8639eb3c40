//! Starts servers for the tests, and clients that talk to them.
//!
//! [`TestServer`] runs in this process, on a new SQLite or PostgreSQL database. [`TestServer::end`] fails the
//! test if imports are left to run or if a feed is inconsistent. [`process`] starts servers as processes of
//! their own.

mod client;
pub mod network;
pub mod process;
mod servers;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use domain::limits::{ImportLimits, RateLimit};
use migration::{Migrator, MigratorTrait};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use service::Clock;
use service::Payloads;
use service::notifier::Notifier;
use store::{Failover, Store, open_to_migrate};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use worker::jobs::run_slice::{RunnerContext, run_slice};
use worker::queue::Queue;

pub use client::{Client, event, new_id, sha256};
pub use servers::{Servers, servers};
pub use socket::{CHANGES, Socket, StreamedResponse};

/// The secret that test tokens are signed with.
pub const SECRET: &str = "a secret of the tests, 32 bytes or more";

/// The database system that a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseKind {
    Sqlite,
    Postgres,
}

/// A server in this process, with a database that no other test uses.
pub struct TestServer {
    pub url: String,
    /// It is made once, because each client reads all root certificates, which is slow in a debug build.
    pub http: reqwest::Client,
    pub store: Store,
    pub payloads: Payloads,
    pub sql: DatabaseConnection,
    pub notifier: Arc<dyn Notifier>,
    stop: CancellationToken,
    tasks: TaskTracker,
    pub dir: TempDir,
    /// The URL of the server's database.
    pub database: String,
}

/// Defines two tests for each of these functions: one on SQLite and one on PostgreSQL.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let test_server = $crate::harness::TestServer::open($crate::harness::DatabaseKind::Sqlite).await;
                super::$name(&test_server).await;
                test_server.end().await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let test_server = $crate::harness::TestServer::open($crate::harness::DatabaseKind::Postgres).await;
                super::$name(&test_server).await;
                test_server.end().await;
            })+
        }
    };
}
pub(crate) use on_both;

impl TestServer {
    pub async fn open(database_kind: DatabaseKind) -> Self {
        Self::open_with(database_kind, keys().await, Clock::System).await
    }

    /// Starts a server with other keys for its tokens, or with a clock that the test moves.
    pub async fn open_with(database_kind: DatabaseKind, keys: api::Keys, clock: Clock) -> Self {
        Self::open_as(database_kind, keys, clock, &[], |notifier| notifier).await
    }

    /// Starts a server with this rate limit. `None` is no limit.
    pub async fn open_for(database_kind: DatabaseKind, rate_limit: Option<RateLimit>) -> Self {
        Self::build(database_kind, keys().await, Clock::System, &[], rate_limit, |notifier| notifier).await
    }

    /// Starts a server that allows these CORS origins. Its API uses the notifier that `wrap` returns for its
    /// own one.
    pub async fn open_as(
        database_kind: DatabaseKind,
        keys: api::Keys,
        clock: Clock,
        cors_origins: &[&str],
        wrap: impl FnOnce(Arc<dyn Notifier>) -> Arc<dyn Notifier>,
    ) -> Self {
        Self::build(database_kind, keys, clock, cors_origins, Some(RateLimit::default()), wrap).await
    }

    async fn build(
        database_kind: DatabaseKind,
        keys: api::Keys,
        clock: Clock,
        cors_origins: &[&str],
        rate_limit: Option<RateLimit>,
        wrap: impl FnOnce(Arc<dyn Notifier>) -> Arc<dyn Notifier>,
    ) -> Self {
        let dir = TempDir::new().unwrap();
        let url = match database_kind {
            DatabaseKind::Sqlite => format!("sqlite://{}/idem.db", dir.path().display()),
            DatabaseKind::Postgres => servers().database().await,
        };
        if database_kind == DatabaseKind::Sqlite {
            migrate(&url).await;
        }
        let store = Store::open(&url, 16, Failover::Lossy, clock).await.unwrap();
        let sql = Database::connect(&url).await.unwrap();
        let payloads =
            Payloads::new(Arc::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap()), Path::default());
        let (notifier, consumer) = Queue::Memory.open_notifier_and_consumer().unwrap();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let runner_context = RunnerContext {
            store: store.clone(),
            payloads: payloads.clone(),
            notifier: notifier.clone(),
            owner: "test".to_owned(),
            limits: ImportLimits::default(),
            shutdown: stop.clone(),
        };
        tasks.spawn(consumer.run_handlers(2, stop.clone(), move |id| {
            let runner_context = runner_context.clone();
            async move { run_slice(&runner_context, id).await }
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let notifier: Arc<dyn Notifier> = Arc::new(notifier);
        let server = api::Server {
            services: api::Services {
                store: store.clone(),
                payloads: payloads.clone(),
                notifier: wrap(Arc::clone(&notifier)),
                import_limits: ImportLimits::default(),
            },
            keys,
            cors_origins: cors_origins.iter().map(|&origin| origin.to_owned()).collect(),
            cors_headers: vec!["x-my-header".to_owned()],
            connections_max: 10_000,
            rate_limit,
            hints: false,
            probes: api::Probes::always_passing(),
        };
        tasks.spawn(api::serve(listener, server, stop.clone()));
        let (http, database_url) = (reqwest::Client::new(), url.clone());
        Self {
            url: format!("http://{address}"),
            http,
            store,
            payloads,
            sql,
            notifier,
            stop,
            tasks,
            dir,
            database: database_url,
        }
    }

    /// Returns a client of this user.
    pub fn client(&self, subject: &str) -> Client {
        Client::new(&self.url, subject)
    }

    /// Runs SQL on a connection that the server does not use.
    pub async fn execute(&self, sql: &str) {
        self.sql.execute_unprepared(sql).await.unwrap();
    }

    /// Runs a query that returns one integer.
    pub async fn number(&self, sql: &str) -> i64 {
        number(&self.sql, sql).await
    }

    /// Stops the server. Fails if an import is left to run, if a feed is inconsistent, or if a task of the
    /// server does not end within 20 s.
    pub async fn end(self) {
        let unfinished =
            "SELECT count(*) FROM import_job WHERE state IN ('QUEUED', 'RUNNING', 'ROLLING_BACK')";
        assert_eq!(self.number(unfinished).await, 0, "imports are left to run");
        assert_feeds_are_whole(&self.sql).await;
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(Duration::from_secs(20), self.tasks.wait()).await.expect("the server stops");
        self.sql.close().await.unwrap();
        self.store.close().await;
    }
}

/// Runs all migrations on a database.
pub async fn migrate(url: &str) {
    let connection = open_to_migrate(url).await.unwrap();
    Migrator::up(&connection, None).await.unwrap();
    connection.close().await.unwrap();
}

/// Returns the keys that verify the tokens of [`Client`].
pub async fn keys() -> api::Keys {
    api::Keys::load(&[SECRET.to_owned()], None, Vec::new(), None).await.unwrap()
}

/// Fails unless, for every user, all positions in the feed are unique and the greatest one is the feed head.
pub async fn assert_feeds_are_whole(sql: &DatabaseConnection) {
    let broken = "SELECT count(*) FROM account a WHERE \
        a.feed_head <> coalesce((SELECT max(s) FROM (SELECT change_seq AS s FROM event e WHERE e.user_id = a.user_id \
            UNION ALL SELECT change_seq FROM event_type t WHERE t.user_id = a.user_id) m), 0) \
        OR (SELECT count(*) FROM (SELECT change_seq AS s FROM event e WHERE e.user_id = a.user_id \
            UNION ALL SELECT change_seq FROM event_type t WHERE t.user_id = a.user_id) m) \
        <> (SELECT count(DISTINCT s) FROM (SELECT change_seq AS s FROM event e WHERE e.user_id = a.user_id \
            UNION ALL SELECT change_seq FROM event_type t WHERE t.user_id = a.user_id) m)";
    assert_eq!(number(sql, broken).await, 0, "a feed is inconsistent");
}

/// Runs a query that returns one integer, of 32 or 64 bits.
pub async fn number(sql: &DatabaseConnection, text: &str) -> i64 {
    let statement = Statement::from_string(sql.get_database_backend(), text);
    let row = sql.query_one_raw(statement).await.unwrap().unwrap();
    let wide = row.try_get_by_index::<i64>(0);
    wide.unwrap_or_else(|_| i64::from(row.try_get_by_index::<i32>(0).unwrap()))
}

/// Waits until a condition holds. Fails if it does not hold within 60 s.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not within 60 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether a connection leads to PostgreSQL.
pub fn is_postgres(sql: &DatabaseConnection) -> bool {
    sql.get_database_backend() == DbBackend::Postgres
}
