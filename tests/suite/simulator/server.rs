//! Executes operations on the real schema in this process, without HTTP. Each user has their own clock.

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

use super::network::{FlushMutation, Operation};
use crate::harness::{DatabaseKind, migrate, servers};

const EVENT: &str = "fragment E on Event { id eventTypeId timestamp endDate isAllDay timeZone notes sourceType \
    externalId location { latitude longitude name } properties version createdAt updatedAt }";
const TYPE: &str = "fragment T on EventType { id name color icon version createdAt updatedAt }";
const RESULT: &str = "__typename index sentId outcome matchedBy differs version \
    problem { code retryable retryAfterMs errors { pointer code } }";

/// The time at which every simulation begins: 2026-01-05T00:00:00Z.
const BEGIN_MS: i64 = 1_767_571_200_000;

/// The tables of a backup, in the order in which they are restored.
const TABLES: [&str; 3] = ["event_type", "event", "id_alias"];

/// A notifier that sends nothing, because simulated devices only pull.
#[derive(Debug)]
struct SilentNotifier;

impl Notifier for SilentNotifier {
    fn notify(&self, _notification: Notification) {}

    fn subscribe_to_moved_feeds(&self) -> BoxStream<'static, Uuid> {
        stream::pending().boxed()
    }
}

/// The database and the schema that all simulations of a run share.
pub struct SimulatedServer {
    store: Store,
    schema: Schema,
    pub sql: DatabaseConnection,
    _dir: TempDir,
}

impl SimulatedServer {
    pub async fn open(database_kind: DatabaseKind) -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let url = match database_kind {
            DatabaseKind::Sqlite => format!("sqlite://{}/idem.db", dir.path().display()),
            DatabaseKind::Postgres => servers().database().await,
        };
        if database_kind == DatabaseKind::Sqlite {
            migrate(&url).await;
        }
        let store = Store::open(&url, 8, Failover::Lossy, Clock::new_fixed(BEGIN_MS)).await.unwrap();
        let sql = Database::connect(&url).await.unwrap();
        for table in TABLES {
            let kept = format!("CREATE TABLE kept_{table} AS SELECT * FROM {table} WHERE 1 = 0");
            sql.execute_unprepared(&kept).await.unwrap();
        }
        let payloads = Payloads::new(Arc::new(InMemory::new()), Path::default());
        let (notifier, import_limits) = (Arc::new(SilentNotifier), ImportLimits::default());
        let services = api::Services { store: store.clone(), payloads, notifier, import_limits };
        Self { store, schema: api::graphql::build_schema(services, false), sql, _dir: dir }
    }

    pub async fn close(self) {
        self.sql.close().await.unwrap();
        self.store.close().await;
    }

    /// Returns the server for a new user.
    pub async fn server(&self, subject: &str) -> Server {
        let user_id = account::find_or_create_user_id(&self.store, "", subject).await.unwrap();
        let now = Arc::new(AtomicI64::new(BEGIN_MS));
        let mut store = self.store.clone();
        store.clock = Clock::Fixed(Arc::clone(&now));
        let actor = Actor { user_id, issuer: String::new(), subject: subject.to_owned() };
        Server { schema: self.schema.clone(), store, sql: self.sql.clone(), actor, now }
    }
}

/// The server for one user.
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

    /// Advances the clock.
    pub fn wait(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::SeqCst);
    }

    pub async fn head(&self) -> i64 {
        account::load_head_or_recreate_account(&self.store, self.actor.user_id).await.unwrap().feed_head
    }

    /// Runs SQL whose parameters are the user id and perhaps a number.
    async fn run(&self, text: &str, number: Option<i64>) {
        let values = [Some(Sql::from(self.actor.user_id)), number.map(Sql::from)].into_iter().flatten();
        let statement = Statement::from_sql_and_values(self.sql.get_database_backend(), text, values);
        self.sql.execute_raw(statement).await.unwrap();
    }

    /// Makes a backup of everything that the user has.
    pub async fn back_up(&self) {
        for table in TABLES {
            self.run(&format!("DELETE FROM kept_{table} WHERE user_id = $1"), None).await;
            let keep = format!("INSERT INTO kept_{table} SELECT * FROM {table} WHERE user_id = $1");
            self.run(&keep, None).await;
        }
    }

    /// Restores the backup. `head` is the feed head at the time of the backup.
    pub async fn restore(&self, head: i64) {
        for table in TABLES.iter().rev() {
            self.run(&format!("DELETE FROM {table} WHERE user_id = $1"), None).await;
        }
        for table in TABLES {
            let insert = format!("INSERT INTO {table} SELECT * FROM kept_{table} WHERE user_id = $1");
            self.run(&insert, None).await;
        }
        self.run("UPDATE account SET feed_head = $2 WHERE user_id = $1", Some(head)).await;
    }

    /// Renews the feed epoch of this user, as an operator does for all users after a restore.
    pub async fn renew_epoch(&self) {
        let user_id = self.actor.user_id;
        let head = account::load_head_or_recreate_account(&self.store, user_id).await.unwrap();
        account::renew_feed_epoch(&self.store, user_id, head.feed_epoch, i64::MAX).await.unwrap();
    }

    /// Executes an operation of a device. Returns its part of `data`. The error is the text of the errors in
    /// the response.
    pub async fn execute(&self, operation: &Operation) -> Result<Value, String> {
        let (query, variables, path) = graphql_request(operation);
        let request = Request::new(query).variables(Variables::from_json(variables));
        let text =
            api::graphql::execute_to_json(&self.schema, self.actor.clone(), &self.store, request).await;
        let mut response: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if let Some(errors) = response.get("errors") {
            return Err(format!("the response has errors: {errors}"));
        }
        let mut data = response["data"].take();
        Ok(data.pointer_mut(path).map(Value::take).unwrap_or_default())
    }
}

/// Returns the document of an operation, its variables, and the JSON pointer to its result in `data`.
fn graphql_request(operation: &Operation) -> (String, Value, &'static str) {
    let event = format!("{RESULT} event {{ ...E eventType {{ id name }} }}");
    match operation {
        Operation::Flush { mutation: FlushMutation::ApplyMutations, client, items } => (
            format!(
                "mutation($i: ApplyMutationsInput!) {{ applyMutations(input: $i) {{ results {{ {RESULT} \
                 ... on EventResult {{ event {{ ...E eventType {{ id name }} }} }} \
                 ... on EventTypeResult {{ eventType {{ ...T }} }} }} }} }} {EVENT} {TYPE}"
            ),
            json!({ "i": { "clientId": client, "mutations": items } }),
            "/applyMutations/results",
        ),
        Operation::Flush { mutation: FlushMutation::CreateEvents, client, items } => {
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
        Operation::Flush { mutation: FlushMutation::CreateEvent, client, items } => (
            format!(
                "mutation($i: CreateEventInput!) {{ createEvent(input: $i) {{ result {{ {event} }} }} }} {EVENT}"
            ),
            json!({ "i": { "clientId": client, "event": items[0]["createEvent"] } }),
            "/createEvent/result",
        ),
        Operation::Pull { after, first } => (
            format!(
                "query($after: Cursor, $first: Int!) {{ changes(after: $after, first: $first) {{ cursor hasMore \
                 reset changes {{ entity entityId version deleted originClientId event {{ ...E }} \
                 eventType {{ ...T }} }} }} }} {EVENT} {TYPE}"
            ),
            json!({ "after": after, "first": first }),
            "/changes",
        ),
        Operation::Fetch { ids } => (
            format!("query($ids: [ID!]!) {{ nodes(ids: $ids) {{ __typename ...E ...T }} }} {EVENT} {TYPE}"),
            json!({ "ids": ids }),
            "/nodes",
        ),
    }
}
