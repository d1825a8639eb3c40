//! Tests defects that simulations have found, each with the shortest sequence of calls that shows it.

use serde_json::json;

use super::network::{FlushMutation, Operation};
use super::server::SimulatedServer;
use crate::harness::DatabaseKind;

const KIND: &str = "019b8b75-0000-7000-8000-000000000001";
const ALIAS: &str = "019b8b75-0000-7000-8000-000000000002";
const EVENT: &str = "019b8b75-0000-7000-8000-000000000003";

/// Seed 8 found that the type was deleted and its event was left without a type.
async fn a_type_in_use_is_not_deleted_under_an_alias_of_the_same_call(database_kind: DatabaseKind) {
    let simulated = SimulatedServer::open(database_kind).await;
    let server = simulated.server("ann").await;
    let flush = |client: &str, items| Operation::Flush {
        mutation: FlushMutation::ApplyMutations,
        client: Some(client.to_owned()),
        items,
    };
    let event = json!({ "id": EVENT, "eventTypeId": KIND, "timestamp": "2026-01-01T00:00:00Z" });
    let first =
        vec![json!({ "createEventType": { "id": KIND, "name": "run" } }), json!({ "createEvent": event })];
    server.execute(&flush("phone", first)).await.unwrap();
    let second = vec![
        json!({ "createEventType": { "id": ALIAS, "name": "run" } }),
        json!({ "deleteEventType": { "id": ALIAS } }),
    ];
    let results = server.execute(&flush("watch", second)).await.unwrap();
    assert_eq!(results[0]["matchedBy"], "NAME", "{results}");
    assert_eq!(results[1]["problem"]["code"], "EVENT_TYPE_IN_USE", "{results}");
    simulated.close().await;
}

#[tokio::test]
async fn a_type_in_use_is_not_deleted_under_an_alias_of_the_same_call_on_sqlite() {
    a_type_in_use_is_not_deleted_under_an_alias_of_the_same_call(DatabaseKind::Sqlite).await;
}

#[tokio::test]
async fn a_type_in_use_is_not_deleted_under_an_alias_of_the_same_call_on_postgres() {
    a_type_in_use_is_not_deleted_under_an_alias_of_the_same_call(DatabaseKind::Postgres).await;
}
