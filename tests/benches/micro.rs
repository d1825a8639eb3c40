//! Measures single steps: the rules of ids, the query limits, a record of an import, and a page of events.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use api::graphql::Schema;
use api::{Services, query_limits};
use criterion::Criterion;
use domain::draft::{MissingId, parse_event};
use domain::{event_id, instant};
use formats::json;
use futures::StreamExt;
use futures::stream::BoxStream;
use migration::{Migrator, MigratorTrait};
use serde_json::{Value, json};
use service::Actor;
use service::Clock;
use service::Payloads;
use service::notifier::{Notification, Notifier};
use store::{Failover, Store, account, open_to_migrate};
use uuid::Uuid;

const NOW_MS: i64 = 1_790_000_000_000;
const RECORD: &str = r#"{"eventType":"flight","timestamp":"2013-01-01T10:15:00Z","endDate":"2013-01-01T14:04:00Z",
    "sourceType":"flights","externalId":"UA1545-EWR-20130101T1015","properties":{"carrier":"UA","flight":1545,
    "tailnum":"N14228","origin":"EWR","dest":"IAH","dep_delay":2,"arr_delay":11,"distance":1400}}"#;
const PAGE: &str = "query($first: Int) { events(first: $first) { nodes { id eventTypeId timestamp endDate isAllDay \
    timeZone notes sourceType externalId location { latitude longitude name } properties version importJobId \
    createdAt updatedAt } pageInfo { hasNextPage endCursor } } }";
const CREATE: &str =
    "mutation($events: [EventInput!]!) { createEvents(input: { events: $events }) { created } }";
const CREATE_TYPE: &str = "mutation($id: ID) { createEventType(input: { eventType: { id: $id, name: \"run\" } }) \
    { result { outcome } } }";

fn rules(criterion: &mut Criterion) {
    let text = event_id::compose_uuid_v7(NOW_MS, [7; 10]).to_string();
    criterion.bench_function("parse and check an id", |bencher| {
        bencher.iter(|| {
            let id = event_id::parse(black_box(&text));
            id.map(|id| event_id::check_new_id(id, NOW_MS, true).is_ok())
        });
    });
    criterion.bench_function("format an instant", |bencher| {
        bencher.iter(|| instant::format_ascii(black_box(NOW_MS)))
    });
    criterion.bench_function("check the query limits of a page", |bencher| {
        bencher.iter(|| query_limits::parse_document_within_limits(black_box(PAGE)).is_ok());
    });
    criterion.bench_function("parse a record of an import", |bencher| {
        bencher.iter(|| {
            let draft = json::parse_record(black_box(RECORD.as_bytes()))?;
            parse_event(draft, MissingId::Derived(Uuid::nil()), Uuid::nil())
        });
    });
}

/// A notifier that sends nothing.
#[derive(Debug)]
struct SilentNotifier;

impl Notifier for SilentNotifier {
    fn notify(&self, _notification: Notification) {}

    fn subscribe_to_moved_feeds(&self) -> BoxStream<'static, Uuid> {
        futures::stream::pending().boxed()
    }
}

/// Returns a schema on a new SQLite database, its store, and a user with so many events.
async fn open(folder: &Path, events: usize) -> (Schema, Store, Actor) {
    let url = format!("sqlite://{}/idem.db", folder.display());
    let tables = open_to_migrate(&url).await.expect("a database");
    Migrator::up(&tables, None).await.expect("its tables");
    tables.close().await.expect("it closes");
    let store = Store::open(&url, 4, Failover::Lossy, Clock::System).await.expect("a store");
    let actor = Actor {
        user_id: account::find_or_create_user_id(&store, "", "ann").await.expect("a user"),
        issuer: String::new(),
        subject: "ann".to_owned(),
    };
    let services = Services {
        store: store.clone(),
        payloads: Payloads::new(
            Arc::new(object_store::memory::InMemory::new()),
            object_store::path::Path::default(),
        ),
        notifier: Arc::new(SilentNotifier),
        import_limits: domain::limits::ImportLimits::default(),
    };
    let schema = api::graphql::build_schema(services, false);
    let type_id = Clock::System.new_id();
    ask(&schema, &store, &actor, CREATE_TYPE, json!({ "id": type_id })).await;
    let event = |_| {
        json!({ "id": Clock::System.new_id(), "eventTypeId": type_id, "timestamp": "2026-01-02T03:04:05Z",
            "notes": "Along the river to the old bridge and back", "properties": { "distance_m": 8214 } })
    };
    let events: Vec<Value> = (0..events).map(event).collect();
    ask(&schema, &store, &actor, CREATE, json!({ "events": events })).await;
    (schema, store, actor)
}

async fn ask(schema: &Schema, store: &Store, actor: &Actor, query: &str, variables: Value) -> String {
    let request =
        async_graphql::Request::new(query).variables(async_graphql::Variables::from_json(variables));
    api::graphql::execute_to_json(schema, actor.clone(), store, request).await
}

fn page(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let (schema, store, actor) = runtime.block_on(open(folder.path(), 500));
    for rows in [1, 50, 500] {
        let variables = json!({ "first": rows });
        let response = runtime.block_on(ask(&schema, &store, &actor, PAGE, variables.clone()));
        assert_eq!(response.matches("\"timestamp\"").count(), rows, "{response}");
        criterion.bench_function(&format!("read a page of {rows} from SQLite"), |bencher| {
            bencher.iter(|| runtime.block_on(ask(&schema, &store, &actor, PAGE, variables.clone())));
        });
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    rules(&mut criterion);
    page(&mut criterion);
    criterion.final_summary();
}
