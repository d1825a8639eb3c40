//! Tests the queue in a real Redis: notifications arrive in spite of known defects of apalis-redis and faults
//! of Redis.
//!
//! Each test has its own database in Redis, because all queues have the same name.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use domain::limits::NOTIFICATIONS_MAX;
use service::Clock;
use service::notifier::{Notification, Notifier};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::notifier::QueueNotifier;
use worker::queue::{Consumer, QUEUE_NAME, Queue};

use crate::harness::{Servers, eventually, servers};

/// The longest time that a notification may take after a fault.
const RECOVERY_MAX: Duration = Duration::from_secs(15);
/// How long a test waits before it repeats a notification that did not arrive, as the sweeper does.
const NOTIFY_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// One queue, and access to its keys in Redis.
struct RedisQueue<'a> {
    servers: &'a Servers,
    database: u8,
}

impl RedisQueue<'static> {
    fn new() -> Self {
        static DATABASES: AtomicU8 = AtomicU8::new(1);
        Self { servers: servers(), database: DATABASES.fetch_add(1, Ordering::Relaxed) }
    }
}

impl RedisQueue<'_> {
    fn open(&self) -> (QueueNotifier, Consumer) {
        Queue::Redis { url: format!("{}/{}", self.servers.redis, self.database) }
            .open_notifier_and_consumer()
            .unwrap()
    }

    fn redis(&self, command: &[&str]) -> String {
        self.servers.redis_cli(self.database, command)
    }

    fn count(&self, command: &str, key: &str) -> u64 {
        self.redis(&[command, &name(key)]).parse().unwrap()
    }

    /// Counts the notifications that no worker has fetched.
    fn waiting(&self) -> u64 {
        self.count("LLEN", "active") + self.count("ZCARD", "scheduled")
    }

    /// Returns the workers, each with the second of its last heartbeat.
    fn workers(&self) -> BTreeMap<String, u64> {
        let output = self.redis(&["ZRANGE", &name("workers"), "0", "-1", "WITHSCORES"]);
        let lines: Vec<_> = output.lines().collect();
        lines.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].parse().unwrap())).collect()
    }

    /// Adds an entry as apalis does: an id in the list, and optionally its data and its metadata.
    fn add_entry(&self, id: &str, data: Option<&str>, has_meta: bool) {
        if let Some(data) = data {
            self.redis(&["HSET", &name("data"), id, data]);
        }
        if has_meta {
            let meta = format!("{}:{id}", name("meta"));
            self.redis(&["HSET", &meta, "attempts", "0", "max_attempts", "25", "status", "Pending"]);
        }
        self.redis(&["RPUSH", &name("active"), id]);
    }
}

fn name(key: &str) -> String {
    format!("{QUEUE_NAME}:{key}")
}

fn import_id() -> Uuid {
    Clock::System.new_id()
}

/// A running consumer, and the notifications that its handler receives.
struct RunningConsumer {
    received: mpsc::UnboundedReceiver<Uuid>,
    /// Waiting handlers return once it is true.
    release: watch::Sender<bool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl RunningConsumer {
    /// Starts a consumer that handles `concurrency` notifications at once. Handlers of ids that `waits`
    /// accepts wait for `release`, and those of ids that `panics` accepts panic.
    fn start(
        consumer: Consumer,
        concurrency: usize,
        waits: fn(Uuid) -> bool,
        panics: fn(Uuid) -> bool,
    ) -> Self {
        let (sender, received) = mpsc::unbounded_channel();
        let (release, released) = watch::channel(false);
        let stop = CancellationToken::new();
        let task = tokio::spawn(consumer.run_handlers(concurrency, stop.clone(), move |id| {
            let (sender, mut released) = (sender.clone(), released.clone());
            async move {
                let _ = sender.send(id);
                assert!(!panics(id), "this panic is intended");
                if waits(id) {
                    released.wait_for(|is_released| *is_released).await.unwrap();
                }
            }
        }));
        Self { received, release, stop, task }
    }

    /// Starts a consumer that handles two notifications at once, whose handlers return at once.
    fn quick(consumer: Consumer) -> Self {
        Self::start(consumer, 2, |_| false, |_| false)
    }

    /// Waits for the next notification. Fails if it takes too long.
    async fn receive(&mut self) -> Uuid {
        timeout(RECOVERY_MAX, self.received.recv()).await.expect("a notification arrives in time").unwrap()
    }

    /// Sends a notification again and again until it arrives. Fails if it takes too long.
    async fn notify_until_received(&mut self, notifier: &QueueNotifier, fault: &str) {
        let id = import_id();
        let started_at = Instant::now();
        let arrival = async {
            loop {
                notifier.notify(Notification::Import(id));
                let again = tokio::time::sleep(NOTIFY_AGAIN_AFTER);
                tokio::pin!(again);
                loop {
                    tokio::select! {
                        () = &mut again => break,
                        received = self.received.recv() => if received == Some(id) { return },
                    }
                }
            }
        };
        assert!(timeout(RECOVERY_MAX, arrival).await.is_ok(), "no notification arrives after {fault}");
        eprintln!("after {fault} a notification arrived within {:?}", started_at.elapsed());
    }

    async fn end(self) {
        self.stop.cancel();
        self.release.send_replace(true);
        timeout(RECOVERY_MAX, self.task).await.expect("the consumer ends").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_fetches_only_what_it_runs() {
    let redis_queue = RedisQueue::new();
    let (notifier, consumer) = redis_queue.open();
    (0..10).for_each(|_| notifier.notify(Notification::Import(import_id())));
    eventually("all notifications wait", || async { redis_queue.waiting() == 10 }).await;
    let mut running = RunningConsumer::start(consumer, 2, |_| true, |_| false);
    running.receive().await;
    running.receive().await;
    // A worker whose handlers are all busy must not fetch more, as an idle one would in this time.
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        assert!(redis_queue.waiting() >= 8, "{} of 10 wait while 2 run", redis_queue.waiting());
        tokio::task::yield_now().await;
    }
    running.release.send_replace(true);
    for _ in 2..10 {
        running.receive().await;
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_consumer_takes_a_notification_within_a_second() {
    let redis_queue = RedisQueue::new();
    let (notifier, consumer) = redis_queue.open();
    let mut running = RunningConsumer::quick(consumer);
    notifier.notify(Notification::Import(import_id()));
    running.receive().await;
    for done in 1..=5 {
        eventually("the worker is idle", || async { redis_queue.count("SCARD", "done") == done }).await;
        let started_at = Instant::now();
        notifier.notify(Notification::Import(import_id()));
        running.receive().await;
        assert!(started_at.elapsed() < Duration::from_secs(1), "it took {:?}", started_at.elapsed());
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_than_two_hundred_notifications_wait() {
    let redis_queue = RedisQueue::new();
    let (notifier, consumer) = redis_queue.open();
    drop(consumer);
    (0..1_000).for_each(|_| notifier.notify(Notification::Import(import_id())));
    // The connection of the notifier closes after its last notification.
    drop(notifier);
    let ours = format!(" db={} ", redis_queue.database);
    eventually("all notifications are sent", || async {
        assert!(redis_queue.waiting() <= NOTIFICATIONS_MAX);
        redis_queue.waiting() > 0 && !redis_queue.servers.redis_cli(0, &["CLIENT", "LIST"]).contains(&ours)
    })
    .await;
    assert_eq!(redis_queue.waiting(), NOTIFICATIONS_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_or_takes_long_runs_once_and_stops_no_consumer() {
    const LONG: Uuid = Uuid::from_u128(1);
    const BAD: Uuid = Uuid::from_u128(2);
    // A worker without a heartbeat for 30 s is taken for dead, so the full run is longer than that.
    let beats = if std::env::var("TESTS_FULL").is_ok() { 4 } else { 1 };
    let redis_queue = RedisQueue::new();
    let (notifier, one) = redis_queue.open();
    let (_, other) = redis_queue.open();
    let mut consumers = [one, other].map(|it| RunningConsumer::start(it, 1, |id| id == LONG, |id| id == BAD));
    notifier.notify(Notification::Import(LONG));
    notifier.notify(Notification::Import(BAD));
    let mut handled = Vec::new();
    for beat in 0..=beats {
        eventually("both workers are registered", || async { redis_queue.workers().len() == 2 }).await;
        let before = redis_queue.workers();
        let more: Vec<_> = (0..5).map(|_| import_id()).collect();
        more.iter().for_each(|id| notifier.notify(Notification::Import(*id)));
        eventually("the others are handled", || {
            consumers.iter_mut().for_each(|running| {
                while let Ok(id) = running.received.try_recv() {
                    handled.push(id);
                }
            });
            let are_handled = more.iter().all(|id| handled.contains(id));
            async move { are_handled }
        })
        .await;
        let started_at = Instant::now();
        eventually("both workers send another heartbeat", || async {
            let now = redis_queue.workers();
            beat == beats || before.iter().all(|(worker, at)| now[worker] > *at)
        })
        .await;
        assert!(started_at.elapsed() < RECOVERY_MAX, "no heartbeat for {:?}", started_at.elapsed());
    }
    for running in &consumers {
        running.release.send_replace(true);
    }
    eventually("all are done", || async {
        redis_queue.waiting() == 0 && redis_queue.count("SCARD", "done") == handled.len() as u64
    })
    .await;
    for id in [LONG, BAD] {
        assert_eq!(handled.iter().filter(|other| **other == id).count(), 1, "{id}");
    }
    for running in consumers {
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_entries_in_the_queue_do_not_stop_the_consumer() {
    let redis_queue = RedisQueue::new();
    let active = name("active");
    let invalid_data = || {
        for data in ["", "invalid", "[]", "{\"import_id\":7}", &"x".repeat(100_000)] {
            redis_queue.add_entry(&import_id().to_string(), Some(data), true);
        }
    };
    let invalid_ids = || {
        for n in 0..50 {
            redis_queue.redis(&["LPUSH", &active, &format!("{{\"import_id\":\"{n}\"}}")]);
        }
    };
    let wrong_type = || {
        redis_queue.redis(&["DEL", &active]);
        redis_queue.redis(&["SET", &active, "invalid"]);
    };
    let faults: [(&str, &dyn Fn()); 6] = [
        ("entries whose data is no notification", &invalid_data),
        ("an id without data", &|| redis_queue.add_entry("no-data", None, true)),
        ("an id without metadata", &|| redis_queue.add_entry("no-meta", Some("{}"), false)),
        ("an unknown scheduled id", &|| {
            drop(redis_queue.redis(&["ZADD", &name("scheduled"), "0", "invalid"]))
        }),
        ("invalid ids", &invalid_ids),
        ("a key that is not a list", &wrong_type),
    ];
    for (fault, inject) in faults {
        let (notifier, consumer) = redis_queue.open();
        let mut running = RunningConsumer::quick(consumer);
        running.notify_until_received(&notifier, "the start").await;
        inject();
        running.notify_until_received(&notifier, fault).await;
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_arrive_again_after_flushall_a_stall_and_a_restart() {
    let mut servers = Servers::start();
    let (notifier, consumer) = RedisQueue { servers: &servers, database: 0 }.open();
    let mut running = RunningConsumer::quick(consumer);
    running.notify_until_received(&notifier, "the start").await;
    servers.redis_cli(0, &["FLUSHALL"]);
    running.notify_until_received(&notifier, "FLUSHALL").await;
    servers.run_command("stall-redis");
    running.notify_until_received(&notifier, "a stall").await;
    servers.run_command("kill-redis");
    servers.run_command("start-redis");
    running.notify_until_received(&notifier, "a restart").await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn done_notifications_are_removed_an_hour_later() {
    let redis_queue = RedisQueue::new();
    let (notifier, consumer) = redis_queue.open();
    let mut running = RunningConsumer::quick(consumer);
    for _ in 0..3 {
        notifier.notify(Notification::Import(import_id()));
        running.receive().await;
    }
    eventually("all are done", || async { redis_queue.count("SCARD", "done") == 3 }).await;
    running.end().await;
    let ids = redis_queue.redis(&["SMEMBERS", &name("done")]);
    let metas: Vec<_> = ids.lines().map(|id| format!("{}:{id}", name("meta"))).collect();
    let (fresh, old) = metas.split_last().unwrap();
    for meta in old {
        let done_at: i64 = redis_queue.redis(&["HGET", meta, "done_at"]).parse().unwrap();
        redis_queue.redis(&["HSET", meta, "done_at", &(done_at - 3_601).to_string()]);
    }
    // Each consumer removes old entries when it starts, and then every hour.
    let (_, consumer) = redis_queue.open();
    let running = RunningConsumer::quick(consumer);
    eventually("the old ones are removed", || async {
        redis_queue.count("HLEN", "data") == 1 && redis_queue.count("EXISTS", "done") == 0
    })
    .await;
    assert_eq!(redis_queue.redis(&["EXISTS", &old[0], &old[1]]), "0");
    assert_eq!(redis_queue.redis(&["EXISTS", fresh]), "1");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_returns_at_once_though_redis_is_down() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (notifier, consumer) =
        Queue::Redis { url: format!("redis://127.0.0.1:{port}") }.open_notifier_and_consumer().unwrap();
    let running = RunningConsumer::quick(consumer);
    for _ in 0..2_000 {
        let started_at = Instant::now();
        notifier.notify(Notification::Import(import_id()));
        assert!(started_at.elapsed() < Duration::from_millis(50), "it took {:?}", started_at.elapsed());
    }
    running.end().await;
}
