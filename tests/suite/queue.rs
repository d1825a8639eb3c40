//! The queue in a real Redis, trap by trap: what a notification may count on, whatever apalis-redis or Redis do.
//!
//! Each test has a database of Redis of its own, for all queues have the same name.

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

/// What a notification may take, behind a fault.
const RECOVERY_MAX: Duration = Duration::from_secs(15);
/// Until a notification that was not heard is notified again, as the sweeper does.
const RING_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// One queue, seen from within Redis.
struct Line<'a> {
    servers: &'a Servers,
    database: u8,
}

impl Line<'static> {
    fn new() -> Self {
        static DATABASES: AtomicU8 = AtomicU8::new(1);
        Self { servers: servers(), database: DATABASES.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Line<'_> {
    fn open(&self) -> (QueueNotifier, Consumer) {
        Queue::Redis { url: format!("{}/{}", self.servers.redis, self.database) }.open().unwrap()
    }

    fn redis(&self, command: &[&str]) -> String {
        self.servers.redis_cli(self.database, command)
    }

    fn count(&self, command: &str, key: &str) -> u64 {
        self.redis(&[command, &name(key)]).parse().unwrap()
    }

    /// Rings that no worker has fetched.
    fn waiting(&self) -> u64 {
        self.count("LLEN", "active") + self.count("ZCARD", "scheduled")
    }

    /// The workers, each with the second of its last heartbeat.
    fn workers(&self) -> BTreeMap<String, u64> {
        let found = self.redis(&["ZRANGE", &name("workers"), "0", "-1", "WITHSCORES"]);
        let lines: Vec<_> = found.lines().collect();
        lines.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].parse().unwrap())).collect()
    }

    /// Puts an entry in as apalis would: an id in the list, and what belongs to it.
    fn plant(&self, id: &str, data: Option<&str>, has_meta: bool) {
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

/// A consumer that works, and what its handler hears.
struct Working {
    heard: mpsc::UnboundedReceiver<Uuid>,
    /// Handlers go on once it is true.
    go_on: watch::Sender<bool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Working {
    /// Handlers of `held` ids wait for `go_on`, those of `bad` ids panic.
    fn start(consumer: Consumer, hands: usize, held: fn(Uuid) -> bool, bad: fn(Uuid) -> bool) -> Self {
        let (says, heard) = mpsc::unbounded_channel();
        let (go_on, waits) = watch::channel(false);
        let stop = CancellationToken::new();
        let task = tokio::spawn(consumer.run(hands, stop.clone(), move |id| {
            let (says, mut waits) = (says.clone(), waits.clone());
            async move {
                let _ = says.send(id);
                assert!(!bad(id), "a handler that panics");
                if held(id) {
                    waits.wait_for(|go_on| *go_on).await.unwrap();
                }
            }
        }));
        Self { heard, go_on, stop, task }
    }

    fn quick(consumer: Consumer) -> Self {
        Self::start(consumer, 2, |_| false, |_| false)
    }

    async fn hears(&mut self) -> Uuid {
        timeout(RECOVERY_MAX, self.heard.recv()).await.expect("a notification arrives in time").unwrap()
    }

    /// Rings until it is heard; fails when that takes too long.
    async fn hears_again(&mut self, notifier: &QueueNotifier, behind: &str) {
        let id = import_id();
        let begun = Instant::now();
        let heard = async {
            loop {
                notifier.notify(Notification::Import(id));
                let again = tokio::time::sleep(RING_AGAIN_AFTER);
                tokio::pin!(again);
                loop {
                    tokio::select! {
                        () = &mut again => break,
                        heard = self.heard.recv() => if heard == Some(id) { return },
                    }
                }
            }
        };
        assert!(timeout(RECOVERY_MAX, heard).await.is_ok(), "no notification arrives behind: {behind}");
        eprintln!("behind {behind} a notification arrived after {:?}", begun.elapsed());
    }

    async fn end(self) {
        self.stop.cancel();
        self.go_on.send_replace(true);
        timeout(RECOVERY_MAX, self.task).await.expect("the consumer ends").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_fetches_only_what_it_runs() {
    let line = Line::new();
    let (notifier, consumer) = line.open();
    (0..10).for_each(|_| notifier.notify(Notification::Import(import_id())));
    eventually("all notifications wait", || async { line.waiting() == 10 }).await;
    let mut working = Working::start(consumer, 2, |_| true, |_| false);
    working.hears().await;
    working.hears().await;
    // What an idle worker would do in these looks, one with its hands full must not.
    let enough = Instant::now() + Duration::from_secs(2);
    while Instant::now() < enough {
        assert!(line.waiting() >= 8, "{} of 10 wait while 2 run", line.waiting());
        tokio::task::yield_now().await;
    }
    working.go_on.send_replace(true);
    for _ in 2..10 {
        working.hears().await;
    }
    working.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_consumer_takes_a_notification_within_a_second() {
    let line = Line::new();
    let (notifier, consumer) = line.open();
    let mut working = Working::quick(consumer);
    notifier.notify(Notification::Import(import_id()));
    working.hears().await;
    for done in 1..=5 {
        eventually("the worker is idle", || async { line.count("SCARD", "done") == done }).await;
        let begun = Instant::now();
        notifier.notify(Notification::Import(import_id()));
        working.hears().await;
        assert!(begun.elapsed() < Duration::from_secs(1), "it took {:?}", begun.elapsed());
    }
    working.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_than_two_hundred_notifications_wait() {
    let line = Line::new();
    let (notifier, consumer) = line.open();
    drop(consumer);
    (0..1_000).for_each(|_| notifier.notify(Notification::Import(import_id())));
    // Its connection ends behind its last notification.
    drop(notifier);
    let ours = format!(" db={} ", line.database);
    eventually("all notifications are carried", || async {
        assert!(line.waiting() <= NOTIFICATIONS_MAX);
        line.waiting() > 0 && !line.servers.redis_cli(0, &["CLIENT", "LIST"]).contains(&ours)
    })
    .await;
    assert_eq!(line.waiting(), NOTIFICATIONS_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_or_takes_long_runs_once_and_stops_no_consumer() {
    const LONG: Uuid = Uuid::from_u128(1);
    const BAD: Uuid = Uuid::from_u128(2);
    // Workers are given up for dead after 30 s.
    let beats = if std::env::var("TESTS_FULL").is_ok() { 4 } else { 1 };
    let line = Line::new();
    let (notifier, one) = line.open();
    let (_, other) = line.open();
    let mut workings = [one, other].map(|it| Working::start(it, 1, |id| id == LONG, |id| id == BAD));
    notifier.notify(Notification::Import(LONG));
    notifier.notify(Notification::Import(BAD));
    let mut heard = Vec::new();
    for beat in 0..=beats {
        eventually("both show that they live", || async { line.workers().len() == 2 }).await;
        let before = line.workers();
        let more: Vec<_> = (0..5).map(|_| import_id()).collect();
        more.iter().for_each(|id| notifier.notify(Notification::Import(*id)));
        eventually("the others are handled", || {
            workings.iter_mut().for_each(|working| {
                while let Ok(id) = working.heard.try_recv() {
                    heard.push(id);
                }
            });
            let are_heard = more.iter().all(|id| heard.contains(id));
            async move { are_heard }
        })
        .await;
        let begun = Instant::now();
        eventually("both still show that they live", || async {
            let now = line.workers();
            beat == beats || before.iter().all(|(worker, at)| now[worker] > *at)
        })
        .await;
        assert!(begun.elapsed() < RECOVERY_MAX, "no sign of life for {:?}", begun.elapsed());
    }
    for working in &workings {
        working.go_on.send_replace(true);
    }
    eventually("all is done", || async {
        line.waiting() == 0 && line.count("SCARD", "done") == heard.len() as u64
    })
    .await;
    for id in [LONG, BAD] {
        assert_eq!(heard.iter().filter(|heard| **heard == id).count(), 1, "{id}");
    }
    for working in workings {
        working.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_garbage_in_the_queue_stops_the_consumer() {
    let line = Line::new();
    let active = name("active");
    let no_messages = || {
        for data in ["", "rubbish", "[]", "{\"import_id\":7}", &"x".repeat(100_000)] {
            line.plant(&import_id().to_string(), Some(data), true);
        }
    };
    let rubbish = || {
        for n in 0..50 {
            line.redis(&["LPUSH", &active, &format!("{{\"import_id\":\"{n}\"}}")]);
        }
    };
    let no_list = || {
        line.redis(&["DEL", &active]);
        line.redis(&["SET", &active, "rubbish"]);
    };
    let kinds: [(&str, &dyn Fn()); 6] = [
        ("what is no notification", &no_messages),
        ("an id without data", &|| line.plant("no-data", None, true)),
        ("an id without its meta", &|| line.plant("no-meta", Some("{}"), false)),
        ("a scheduled id of nothing", &|| drop(line.redis(&["ZADD", &name("scheduled"), "0", "rubbish"]))),
        ("a list of rubbish", &rubbish),
        ("a list that is none", &no_list),
    ];
    for (kind, plant) in kinds {
        let (notifier, consumer) = line.open();
        let mut working = Working::quick(consumer);
        working.hears_again(&notifier, "nothing").await;
        plant();
        working.hears_again(&notifier, kind).await;
        working.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_arrive_again_behind_flushall_and_a_stall_and_a_restart() {
    let mut servers = Servers::start();
    let (notifier, consumer) = Line { servers: &servers, database: 0 }.open();
    let mut working = Working::quick(consumer);
    working.hears_again(&notifier, "nothing").await;
    servers.redis_cli(0, &["FLUSHALL"]);
    working.hears_again(&notifier, "FLUSHALL").await;
    servers.order("stall-redis");
    working.hears_again(&notifier, "a stall").await;
    servers.order("kill-redis");
    servers.order("start-redis");
    working.hears_again(&notifier, "a restart").await;
    working.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn done_notifications_are_swept_up_an_hour_later() {
    let line = Line::new();
    let (notifier, consumer) = line.open();
    let mut working = Working::quick(consumer);
    for _ in 0..3 {
        notifier.notify(Notification::Import(import_id()));
        working.hears().await;
    }
    eventually("all are done", || async { line.count("SCARD", "done") == 3 }).await;
    working.end().await;
    let ids = line.redis(&["SMEMBERS", &name("done")]);
    let metas: Vec<_> = ids.lines().map(|id| format!("{}:{id}", name("meta"))).collect();
    let (fresh, old) = metas.split_last().unwrap();
    for meta in old {
        let done_at: i64 = line.redis(&["HGET", meta, "done_at"]).parse().unwrap();
        line.redis(&["HSET", meta, "done_at", &(done_at - 3_601).to_string()]);
    }
    // Each consumer sweeps as it begins, and then by the hour.
    let (_, consumer) = line.open();
    let working = Working::quick(consumer);
    eventually("the old ones are gone", || async {
        line.count("HLEN", "data") == 1 && line.count("EXISTS", "done") == 0
    })
    .await;
    assert_eq!(line.redis(&["EXISTS", &old[0], &old[1]]), "0");
    assert_eq!(line.redis(&["EXISTS", fresh]), "1");
    working.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_returns_at_once_though_redis_is_down() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (notifier, consumer) = Queue::Redis { url: format!("redis://127.0.0.1:{port}") }.open().unwrap();
    let working = Working::quick(consumer);
    for _ in 0..2_000 {
        let begun = Instant::now();
        notifier.notify(Notification::Import(import_id()));
        assert!(begun.elapsed() < Duration::from_millis(50), "it took {:?}", begun.elapsed());
    }
    working.end().await;
}
