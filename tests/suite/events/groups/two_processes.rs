//! Tests several processes that write for one user at the same time. What one of them reads under the lock
//! includes everything that the others have committed before.

use service::Clock;
use store::{Failover, Store};

use super::*;

/// Each process sends the same creates, in outboxes that need the lock. Each event is created by exactly one
/// of them.
#[tokio::test(flavor = "multi_thread")]
async fn processes_that_send_the_same_outboxes_at_once_store_each_event_once() {
    let server = TestServer::open(DatabaseKind::Postgres).await;
    let ann = user(&server, "ann").await;
    let kind = EventTypeDraft {
        id: Sent::Value(new_id()),
        name: Sent::Value("run".to_owned()),
        ..EventTypeDraft::default()
    };
    let type_id = kind.id.clone();
    let made = vec![Mutation::CreateEventType(kind)];
    apply_mutations(&server.store, server.notifier.as_ref(), &ann, None, made, &|_| true).await.unwrap();
    let ids: Arc<Vec<String>> = Arc::new((0..400).map(|_| new_id()).collect());
    let processes = (0..4).map(|_| {
        let (url, ids, type_id) = (server.database.clone(), Arc::clone(&ids), type_id.clone());
        let (notifier, ann) = (Arc::clone(&server.notifier), ann.clone());
        tokio::spawn(async move {
            let store = Store::open(&url, 4, Failover::Lossy, Clock::System).await.unwrap();
            let mut created = 0;
            for id in ids.iter() {
                // A deletion of an unknown id makes the outbox read its rows under the lock.
                let unknown = RemovalDraft { id: Sent::Value(new_id()), ..RemovalDraft::default() };
                let event = EventDraft {
                    id: Sent::Value(id.clone()),
                    event_type_id: type_id.clone(),
                    timestamp: Sent::Value("2026-01-01T00:00:00Z".to_owned()),
                    ..EventDraft::default()
                };
                let outbox = vec![Mutation::DeleteEvent(unknown), Mutation::CreateEvent(event)];
                let answers =
                    apply_mutations(&store, notifier.as_ref(), &ann, None, outbox, &|_| true).await.unwrap();
                let [_, event] = <[_; 2]>::try_from(answers).unwrap();
                created += usize::from(event.into_event_answer().unwrap().answer.outcome == Outcome::Created);
            }
            store.close().await;
            created
        })
    });
    let created = futures::future::join_all(processes.collect::<Vec<_>>()).await;
    assert_eq!(created.into_iter().map(Result::unwrap).sum::<usize>(), ids.len());
    assert_eq!(server.number("SELECT count(*) FROM event").await, 400);
    server.end().await;
}
