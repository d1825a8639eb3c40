//! The real schema in process, without HTTP, for one user and with a clock of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use api::graphql::Schema;
use async_graphql::{Request, Variables};
use domain::limits::ImportLimits;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement, Value as Sql};
use serde_json::{Value, json};
use service::Actor;
use service::Clock;
use service::Payloads;
use service::notifier::{Notification, Notifier};
use store::{Failover, Store, account};
use tempfile::TempDir;
use uuid::Uuid;

use super::network::{Door, Errand};
use crate::harness::{Column, migrate, servers};

const EVENT: &str = "fragment E on Event { id eventTypeId timestamp endDate isAllDay timeZone notes sourceType \
    externalId location { latitude longitude name } properties version createdAt updatedAt }";
const TYPE: &str = "fragment T on EventType { id name color icon version createdAt updatedAt }";
const RESULT: &str = "__typename index sentId outcome matchedBy differs version \
    problem { code retryable retryAfterMs errors { pointer code } }";

/// When every schedule begins: 2026-01-05T00:00:00Z.
const BEGIN_MS: i64 = 1_767_571_200_000;

/// What a backup of a user holds, in the order in which it may come back.
const TABLES: [&str; 3] = ["event_type", "event", "id_alias"];

/// Nobody listens: devices of a schedule pull when it says so.
#[derive(Debug)]
struct Silence;

impl Notifier for Silence {
    fn notify(&self, _ring: Notification) {}

    fn feeds(&self) -> BoxStream<'static, Uuid> {
        stream::pending().boxed()
    }
}

/// One database and one schema for all seeds of a run.
pub struct SimulatedServer {
    store: Store,
    schema: Schema,
    pub sql: DatabaseConnection,
    _dir: TempDir,
}

impl SimulatedServer {
    pub async fn open(column: Column) -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let url = match column {
            Column::Sqlite => format!("sqlite://{}/idem.db", dir.path().display()),
            Column::Postgres => servers().database().await,
        };
        if column == Column::Sqlite {
            migrate(&url).await;
        }
        let store = Store::open(&url, 8, Failover::Lossy, Clock::fixed(BEGIN_MS)).await.unwrap();
        let sql = Database::connect(&url).await.unwrap();
        for table in TABLES {
            let kept = format!("CREATE TABLE kept_{table} AS SELECT * FROM {table} WHERE 1 = 0");
            sql.execute_unprepared(&kept).await.unwrap();
        }
        let payloads = Payloads::new(Arc::new(InMemory::new()), Path::default());
        let (notifier, import_limits) = (Arc::new(Silence), ImportLimits::default());
        let services = api::Services { store: store.clone(), payloads, notifier, import_limits };
        Self { store, schema: api::graphql::schema(services, false), sql, _dir: dir }
    }

    pub async fn close(self) {
        self.sql.close().await.unwrap();
        self.store.close().await;
    }

    /// The server as a new user sees it.
    pub async fn server(&self, subject: &str) -> Server {
        let user_id = account::resolve(&self.store, "", subject).await.unwrap();
        let now = Arc::new(AtomicI64::new(BEGIN_MS));
        let mut store = self.store.clone();
        store.clock = Clock::Fixed(Arc::clone(&now));
        let actor = Actor { user_id, issuer: String::new(), subject: subject.to_owned() };
        Server { schema: self.schema.clone(), store, sql: self.sql.clone(), actor, now }
    }
}

pub struct Server {
    schema: Schema,
    store: Store,
    sql: DatabaseConnection,
    actor: Actor,
    now: Arc<AtomicI64>,
}

impl Server {
    pub fn now_ms(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    pub fn wait(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::SeqCst);
    }

    pub async fn head(&self) -> i64 {
        account::head(&self.store, self.actor.user_id).await.unwrap().feed_head
    }

    async fn run(&self, text: &str, more: Option<i64>) {
        let values = [Some(Sql::from(self.actor.user_id)), more.map(Sql::from)].into_iter().flatten();
        let statement = Statement::from_sql_and_values(self.sql.get_database_backend(), text, values);
        self.sql.execute_raw(statement).await.unwrap();
    }

    /// Makes a backup of all that the user has.
    pub async fn back_up(&self) {
        for table in TABLES {
            self.run(&format!("DELETE FROM kept_{table} WHERE user_id = $1"), None).await;
            let keep = format!("INSERT INTO kept_{table} SELECT * FROM {table} WHERE user_id = $1");
            self.run(&keep, None).await;
        }
    }

    /// Restores the backup, whose head stood here.
    pub async fn restore(&self, head: i64) {
        for table in TABLES.iter().rev() {
            self.run(&format!("DELETE FROM {table} WHERE user_id = $1"), None).await;
        }
        for table in TABLES {
            let bring = format!("INSERT INTO {table} SELECT * FROM kept_{table} WHERE user_id = $1");
            self.run(&bring, None).await;
        }
        self.run("UPDATE account SET feed_head = $2 WHERE user_id = $1", Some(head)).await;
    }

    /// What an operator does when a backup was restored, for this user alone.
    pub async fn renew_epoch(&self) {
        let user_id = self.actor.user_id;
        let head = account::head(&self.store, user_id).await.unwrap();
        account::renew_epoch(&self.store, user_id, head.feed_epoch, i64::MAX).await.unwrap();
    }

    /// Executes what a device asks; what it asked for.
    pub async fn execute(&self, errand: &Errand) -> Result<Value, String> {
        let (query, variables, path) = spoken(errand);
        let request = Request::new(query).variables(Variables::from_json(variables));
        let answer = api::graphql::execute(&self.schema, self.actor.clone(), &self.store, request).await;
        let mut answer: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
        if let Some(errors) = answer.get("errors") {
            return Err(format!("an answer has errors: {errors}"));
        }
        let mut data = answer["data"].take();
        Ok(data.pointer_mut(path).map(Value::take).unwrap_or_default())
    }
}

/// The document, its variables, and where in the answer the matter is.
fn spoken(errand: &Errand) -> (String, Value, &'static str) {
    let event = format!("{RESULT} event {{ ...E eventType {{ id name }} }}");
    match errand {
        Errand::Flush { door: Door::ApplyMutations, client, items } => (
            format!(
                "mutation($i: ApplyMutationsInput!) {{ applyMutations(input: $i) {{ results {{ {RESULT} \
                 ... on EventResult {{ event {{ ...E eventType {{ id name }} }} }} \
                 ... on EventTypeResult {{ eventType {{ ...T }} }} }} }} }} {EVENT} {TYPE}"
            ),
            json!({ "i": { "clientId": client, "mutations": items } }),
            "/applyMutations/results",
        ),
        Errand::Flush { door: Door::CreateEvents, client, items } => {
            let events: Vec<_> = items.iter().map(|item| item["createEvent"].clone()).collect();
            (
                format!(
                    "mutation($i: CreateEventsInput!) {{ createEvents(input: $i) {{ created duplicates deleted \
                     rejected results {{ {event} }} }} }} {EVENT}"
                ),
                json!({ "i": { "clientId": client, "events": events } }),
                "/createEvents",
            )
        }
        Errand::Flush { door: Door::CreateEvent, client, items } => (
            format!(
                "mutation($i: CreateEventInput!) {{ createEvent(input: $i) {{ result {{ {event} }} }} }} {EVENT}"
            ),
            json!({ "i": { "clientId": client, "event": items[0]["createEvent"] } }),
            "/createEvent/result",
        ),
        Errand::Pull { after, first } => (
            format!(
                "query($after: Cursor, $first: Int!) {{ changes(after: $after, first: $first) {{ cursor hasMore \
                 reset changes {{ entity entityId version deleted originClientId event {{ ...E }} \
                 eventType {{ ...T }} }} }} }} {EVENT} {TYPE}"
            ),
            json!({ "after": after, "first": first }),
            "/changes",
        ),
        Errand::Fetch { ids } => (
            format!("query($ids: [ID!]!) {{ nodes(ids: $ids) {{ __typename ...E ...T }} }} {EVENT} {TYPE}"),
            json!({ "ids": ids }),
            "/nodes",
        ),
    }
}
