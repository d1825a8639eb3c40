//! Tests the queue in memory. The queue in Redis is tested in the suite that starts a Redis
//! (`tests/suite/queue.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use domain::limits::NOTIFICATIONS_MAX;
use service::notifier::{Notification, Notifier};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Message, Queue, open_memory_queue};

const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_notification_reaches_the_handler_and_a_panic_stops_nothing() {
    let (notifier, consumer) = open_memory_queue();
    let (handled, mut ids) = mpsc::unbounded_channel();
    let shutdown = CancellationToken::new();
    let bad = Uuid::from_u128(1);
    let run = tokio::spawn(consumer.run_handlers(2, shutdown.clone(), move |id| {
        let handled = handled.clone();
        async move {
            assert_ne!(id, bad, "this handler panics");
            let _ = handled.send(id);
        }
    }));
    let expected: Vec<Uuid> = (2..50).map(Uuid::from_u128).collect();
    notifier.notify(Notification::Import(bad));
    expected.iter().for_each(|id| notifier.notify(Notification::Import(*id)));
    let mut got = Vec::new();
    while got.len() < expected.len() {
        got.push(timeout(DEADLINE, ids.recv()).await.expect("in time").expect("a notification"));
    }
    got.sort();
    assert_eq!(got, expected);
    shutdown.cancel();
    timeout(DEADLINE, run).await.expect("in time").expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_waits_for_the_handlers_and_no_more_than_two_run() {
    let (notifier, consumer) = open_memory_queue();
    let shutdown = CancellationToken::new();
    let (running, running_max) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (started, may_return) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let done = Arc::new(AtomicBool::new(false));
    let run = {
        let (running, running_max) = (Arc::clone(&running), Arc::clone(&running_max));
        let (started, may_return, done) = (Arc::clone(&started), Arc::clone(&may_return), Arc::clone(&done));
        tokio::spawn(consumer.run_handlers(2, shutdown.clone(), move |_| {
            let (running, running_max) = (Arc::clone(&running), Arc::clone(&running_max));
            let (started, may_return, done) =
                (Arc::clone(&started), Arc::clone(&may_return), Arc::clone(&done));
            async move {
                running_max.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                started.notify_one();
                may_return.notified().await;
                running.fetch_sub(1, Ordering::SeqCst);
                done.store(true, Ordering::SeqCst);
            }
        }))
    };
    (1..10).map(Uuid::from_u128).for_each(|id| notifier.notify(Notification::Import(id)));
    for _ in 0..2 {
        timeout(DEADLINE, started.notified()).await.expect("in time");
        if running.load(Ordering::SeqCst) == 2 {
            break;
        }
    }
    shutdown.cancel();
    assert!(!run.is_finished());
    assert!(!done.load(Ordering::SeqCst));
    while !run.is_finished() {
        may_return.notify_waiters();
        tokio::task::yield_now().await;
    }
    run.await.expect("no panic");
    assert_eq!(running.load(Ordering::SeqCst), 0);
    assert!(running_max.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn notifying_without_a_consumer_returns_and_is_bounded() {
    let (notifier, consumer) = open_memory_queue();
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
