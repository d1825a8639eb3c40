//! What schedules have found, each as short as it can be said.

use serde_json::json;

use super::network::{Door, Errand};
use super::server::SimulatedServer;
use crate::harness::Column;

const KIND: &str = "019b8b75-0000-7000-8000-000000000001";
const ALIAS: &str = "019b8b75-0000-7000-8000-000000000002";
const EVENT: &str = "019b8b75-0000-7000-8000-000000000003";

/// Seed 8: the type was deleted, and the event was left without one.
async fn a_type_in_use_is_not_deleted_under_an_alias_of_the_same_call(column: Column) {
    let house = SimulatedServer::open(column).await;
    let server = house.server("ann").await;
    let flush = |client: &str, items| Errand::Flush {
        door: Door::ApplyMutations,
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
    let answer = server.execute(&flush("watch", second)).await.unwrap();
    assert_eq!(answer[0]["matchedBy"], "NAME", "{answer}");
    assert_eq!(answer[1]["problem"]["code"], "EVENT_TYPE_IN_USE", "{answer}");
    house.close().await;
}

#[tokio::test]
async fn a_type_in_use_is_not_deleted_under_an_alias_of_the_same_call_on_sqlite() {
    a_type_in_use_is_not_deleted_under_an_alias_of_the_same_call(Column::Sqlite).await;
}

#[tokio::test]
async fn a_type_in_use_is_not_deleted_under_an_alias_of_the_same_call_on_postgres() {
    a_type_in_use_is_not_deleted_under_an_alias_of_the_same_call(Column::Postgres).await;
}
