//! What goes wrong, and when: each fault begins when so much more was acknowledged, in an order that the seed decides, and
//! heals by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use sea_orm::{ConnectionTrait, Database, IsolationLevel, TransactionTrait};
use tokio::time::sleep;

use crate::cluster::{Cluster, Role};
use crate::dice::Dice;
use crate::harness::Column;
use crate::log::Log;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// SIGKILL, and another process in its place.
    KillApi,
    KillWorker,
    /// SIGTERM: it ends with 0, in time.
    EndApi,
    EndWorker,
    /// SIGSTOP for a while; of a worker longer than its lease.
    FreezeApi,
    FreezeWorkerPastItsLease,
    /// PostgreSQL stops at once and comes back.
    CrashDatabase,
    /// Redis forgets everything, dies, stalls.
    FlushRedis,
    RestartRedis,
    StallRedis,
    /// Connections are cut, or fall silent, or are slow.
    CutDatabase,
    SilenceDatabase,
    SlowDatabase,
    CutRedis,
    SilenceRedis,
    /// Somebody holds the row of a user.
    LockUser,
    /// The database says that transactions are another kind by default.
    ChangeIsolation,
    /// The disk is full, over quota, or broken.
    FillDisk,
    ExceedQuota,
    BreakDisk,
    BreakSync,
    /// The payload store takes nothing.
    BreakPayloads,
}

const POSTGRES: [Fault; 18] = [
    Fault::KillApi,
    Fault::KillWorker,
    Fault::EndApi,
    Fault::EndWorker,
    Fault::FreezeApi,
    Fault::FreezeWorkerPastItsLease,
    Fault::CrashDatabase,
    Fault::FlushRedis,
    Fault::RestartRedis,
    Fault::StallRedis,
    Fault::CutDatabase,
    Fault::SilenceDatabase,
    Fault::SlowDatabase,
    Fault::CutRedis,
    Fault::SilenceRedis,
    Fault::LockUser,
    Fault::ChangeIsolation,
    Fault::BreakPayloads,
];

const SQLITE: [Fault; 8] = [
    Fault::KillApi,
    Fault::EndApi,
    Fault::FreezeApi,
    Fault::FillDisk,
    Fault::ExceedQuota,
    Fault::BreakDisk,
    Fault::BreakSync,
    Fault::BreakPayloads,
];

/// A server must have ended by then.
const END_MAX: Duration = Duration::from_secs(10);

/// Which fault comes when.
pub struct Schedule {
    kinds: &'static [Fault],
    dice: Dice,
    /// Those of this round, the next one last.
    round: Vec<Fault>,
    /// How much must be acknowledged before the next one.
    next_at: u64,
    happened: BTreeMap<Fault, u64>,
}

impl Schedule {
    pub fn new(column: Column, dice: Dice) -> Self {
        let kinds: &[Fault] = if column == Column::Sqlite { &SQLITE } else { &POSTGRES };
        Self { kinds, dice, round: Vec::new(), next_at: 100, happened: BTreeMap::new() }
    }

    /// How many faults there were.
    pub fn count(&self) -> u64 {
        self.happened.values().sum()
    }

    pub fn told(&self) -> String {
        self.happened.iter().map(|(fault, count)| format!("{fault:?} {count}")).collect::<Vec<_>>().join(", ")
    }

    /// Each kind must have happened.
    pub fn check(&self, log: &Log) {
        for fault in self.kinds.iter().filter(|fault| !self.happened.contains_key(fault)) {
            log.wrong(format!("{fault:?} never happened"));
        }
    }

    /// Lets the next fault happen, if it is time for it. Returns when it is healed.
    pub async fn go_on(&mut self, cluster: &mut Cluster, log: &Log) {
        if log.progress() < self.next_at {
            return;
        }
        let fault = self.draw();
        happen(fault, cluster, log, &mut self.dice).await;
        *self.happened.entry(fault).or_default() += 1;
        self.next_at = log.progress() + 60 + self.dice.below(240) as u64;
    }

    /// Each kind once a round, in another order each time.
    fn draw(&mut self) -> Fault {
        if self.round.is_empty() {
            self.round = self.kinds.to_vec();
            for end in (1..self.round.len()).rev() {
                self.round.swap(end, self.dice.below(end + 1));
            }
        }
        self.round.pop().unwrap_or(self.kinds[0])
    }
}

/// One of the processes of a role.
fn any(cluster: &Cluster, role: Role, dice: &mut Dice) -> usize {
    let places: Vec<usize> =
        (0..cluster.places.len()).filter(|place| cluster.places[*place].role == role).collect();
    places[dice.below(places.len())]
}

/// One of the workers that work, if there is one within a moment: those that rest have nothing to lose.
async fn busy_worker(cluster: &Cluster, dice: &mut Dice) -> usize {
    for _ in 0..50 {
        let place = any(cluster, Role::Worker, dice);
        if cluster.works_on_imports(place).await {
            return place;
        }
        sleep(Duration::from_millis(100)).await;
    }
    any(cluster, Role::Worker, dice)
}

fn seconds(dice: &mut Dice, from: usize, to: usize) -> Duration {
    Duration::from_millis((from * 1_000 + dice.below((to - from) * 1_000)) as u64)
}

async fn happen(fault: Fault, cluster: &mut Cluster, log: &Log, dice: &mut Dice) {
    match fault {
        Fault::KillApi => {
            let place = any(cluster, Role::Api, dice);
            kill(cluster, place, log).await;
        }
        Fault::KillWorker => {
            let place = busy_worker(cluster, dice).await;
            kill(cluster, place, log).await;
        }
        Fault::EndApi => end(cluster, Role::Api, log, dice).await,
        Fault::EndWorker => end(cluster, Role::Worker, log, dice).await,
        Fault::FreezeApi => {
            let place = any(cluster, Role::Api, dice);
            freeze(cluster, place, seconds(dice, 1, 8)).await;
        }
        Fault::FreezeWorkerPastItsLease => {
            let place = busy_worker(cluster, dice).await;
            freeze(cluster, place, seconds(dice, 32, 36)).await;
        }
        Fault::CrashDatabase => order(cluster, &["stop-postgres", "start-postgres"]),
        Fault::FlushRedis => {
            if let Some(servers) = &cluster.servers {
                servers.redis_cli(0, &["FLUSHALL"]);
            }
        }
        Fault::RestartRedis => order(cluster, &["kill-redis", "start-redis"]),
        Fault::StallRedis => order(cluster, &["stall-redis"]),
        Fault::CutDatabase | Fault::SilenceDatabase | Fault::SlowDatabase => {
            let place = dice.below(cluster.places.len());
            let Some(network) = &cluster.places[place].database else { return };
            match fault {
                Fault::CutDatabase => network.cut(),
                Fault::SilenceDatabase => {
                    network.vanish();
                    sleep(seconds(dice, 3, 15)).await;
                    network.appear();
                }
                _ => {
                    network.slow_down(Duration::from_millis(20));
                    sleep(seconds(dice, 2, 5)).await;
                    network.slow_down(Duration::ZERO);
                }
            }
        }
        Fault::CutRedis => {
            if let Some(redis) = &cluster.redis {
                redis.cut();
            }
        }
        Fault::SilenceRedis => {
            if let Some(redis) = &cluster.redis {
                redis.vanish();
                sleep(seconds(dice, 2, 8)).await;
                redis.appear();
            }
        }
        Fault::LockUser => lock_user(cluster, dice).await,
        Fault::ChangeIsolation => change_isolation(cluster, dice).await,
        Fault::FillDisk => break_disk(cluster, log, "28 write -wal").await,
        Fault::ExceedQuota => break_disk(cluster, log, "122 write -wal").await,
        Fault::BreakDisk => break_disk(cluster, log, "5 write -wal").await,
        Fault::BreakSync => break_disk(cluster, log, "5 sync -wal").await,
        Fault::BreakPayloads => break_payloads(cluster, dice).await,
    }
}

async fn kill(cluster: &mut Cluster, place: usize, log: &Log) {
    cluster.signal(place, "KILL");
    cluster.ends(place, END_MAX).await;
    cluster.replace(place);
    cluster.is_ready(place, log).await;
}

async fn end(cluster: &mut Cluster, role: Role, log: &Log, dice: &mut Dice) {
    let place = any(cluster, role, dice);
    cluster.signal(place, "TERM");
    if cluster.ends(place, END_MAX).await != Some(Some(0)) {
        log.wrong(format!("{role:?} did not end well, or not within {END_MAX:?}"));
        cluster.signal(place, "KILL");
        cluster.ends(place, END_MAX).await;
    }
    cluster.replace(place);
    cluster.is_ready(place, log).await;
}

async fn freeze(cluster: &Cluster, place: usize, time: Duration) {
    cluster.signal(place, "STOP");
    sleep(time).await;
    cluster.signal(place, "CONT");
}

fn order(cluster: &mut Cluster, commands: &[&str]) {
    if let Some(servers) = &mut cluster.servers {
        commands.iter().for_each(|command| servers.order(command));
    }
}

async fn lock_user(cluster: &Cluster, dice: &mut Dice) {
    let sql = Database::connect(&cluster.database).await.unwrap();
    let held = sql.begin_with_config(Some(IsolationLevel::ReadCommitted), None).await.unwrap();
    let user = dice.below(crate::USERS);
    let lock = format!("SELECT 1 FROM account WHERE subject = 'user {user}' FOR UPDATE");
    held.execute_unprepared(&lock).await.unwrap();
    sleep(seconds(dice, 2, 9)).await;
    held.rollback().await.unwrap();
    sql.close().await.unwrap();
}

async fn change_isolation(cluster: &Cluster, dice: &mut Dice) {
    let sql = Database::connect(&cluster.database).await.unwrap();
    let level = ["serializable", "repeatable read", "read committed"][dice.below(3)];
    let change = format!("ALTER DATABASE soak SET default_transaction_isolation = '{level}'");
    sql.execute_unprepared(&change).await.unwrap();
    sql.close().await.unwrap();
    for place in &cluster.places {
        if let Some(network) = &place.database {
            network.cut();
        }
    }
}

/// Until a few writes have met it.
async fn break_disk(cluster: &Cluster, log: &Log, what: &str) {
    std::fs::write(cluster.disk_order(), what).unwrap();
    let before = log.refused();
    for _ in 0..40 {
        if log.refused() >= before + 5 {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    std::fs::remove_file(cluster.disk_order()).unwrap();
}

async fn break_payloads(cluster: &Cluster, dice: &mut Dice) {
    let hidden = cluster.dir.path().join("hidden");
    if std::fs::rename(cluster.payloads(), &hidden).is_err() {
        return;
    }
    // A file in the place of the folder: nothing can be put below it.
    std::fs::write(cluster.payloads(), "").unwrap();
    sleep(seconds(dice, 1, 3)).await;
    std::fs::remove_file(cluster.payloads()).unwrap();
    std::fs::rename(&hidden, cluster.payloads()).unwrap();
}
