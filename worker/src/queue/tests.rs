//! The queue inside the process; the one in Redis is tried by the tests that start a Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use domain::limits::NOTIFICATIONS_MAX;
use service::notifier::{Notification, Notifier};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Message, Queue, memory};

const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_notification_reaches_the_handler_and_a_panic_stops_nothing() {
    let (notifier, consumer) = memory();
    let (heard, mut ids) = mpsc::unbounded_channel();
    let shutdown = CancellationToken::new();
    let bad = Uuid::from_u128(1);
    let run = tokio::spawn(consumer.run(2, shutdown.clone(), move |id| {
        let heard = heard.clone();
        async move {
            assert_ne!(id, bad, "one that panics");
            let _ = heard.send(id);
        }
    }));
    let wanted: Vec<Uuid> = (2..50).map(Uuid::from_u128).collect();
    notifier.notify(Notification::Import(bad));
    wanted.iter().for_each(|id| notifier.notify(Notification::Import(*id)));
    let mut got = Vec::new();
    while got.len() < wanted.len() {
        got.push(timeout(DEADLINE, ids.recv()).await.expect("in time").expect("a notification"));
    }
    got.sort();
    assert_eq!(got, wanted);
    shutdown.cancel();
    timeout(DEADLINE, run).await.expect("in time").expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_waits_for_the_handlers_and_no_more_than_two_run() {
    let (notifier, consumer) = memory();
    let shutdown = CancellationToken::new();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let done = Arc::new(AtomicBool::new(false));
    let run = {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        let (begun, go_on, done) = (Arc::clone(&begun), Arc::clone(&go_on), Arc::clone(&done));
        tokio::spawn(consumer.run(2, shutdown.clone(), move |_| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            let (begun, go_on, done) = (Arc::clone(&begun), Arc::clone(&go_on), Arc::clone(&done));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                begun.notify_one();
                go_on.notified().await;
                running.fetch_sub(1, Ordering::SeqCst);
                done.store(true, Ordering::SeqCst);
            }
        }))
    };
    (1..10).map(Uuid::from_u128).for_each(|id| notifier.notify(Notification::Import(id)));
    for _ in 0..2 {
        timeout(DEADLINE, begun.notified()).await.expect("in time");
        if running.load(Ordering::SeqCst) == 2 {
            break;
        }
    }
    shutdown.cancel();
    assert!(!run.is_finished());
    assert!(!done.load(Ordering::SeqCst));
    while !run.is_finished() {
        go_on.notify_waiters();
        tokio::task::yield_now().await;
    }
    run.await.expect("no panic");
    assert_eq!(running.load(Ordering::SeqCst), 0);
    assert!(most.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn notifying_without_a_consumer_returns_and_is_bounded() {
    let (notifier, consumer) = memory();
    drop(consumer);
    for n in 0..u128::from(NOTIFICATIONS_MAX) * 10 {
        notifier.notify(Notification::Import(Uuid::from_u128(n)));
    }
}

#[test]
fn a_notification_is_one_id_and_nothing_else() {
    let id = Uuid::from_u128(7);
    let text = serde_json::to_string(&Message { import_id: id }).expect("serialises");
    assert_eq!(text, format!(r#"{{"import_id":"{id}"}}"#));
    assert!(serde_json::from_str::<Message>(&format!(r#"{{"import_id":"{id}","user":1}}"#)).is_err());
}

#[test]
fn the_address_of_the_queue_is_never_printed() {
    let queue = Queue::Redis { url: "redis://:secret@host".to_owned() };
    assert_eq!(format!("{queue:?}"), "Redis");
}
