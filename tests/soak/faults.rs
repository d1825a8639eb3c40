//! Injects faults. Each begins after a number of further acknowledged writes, in an order that the seed
//! determines, and is repaired before the next one.

use std::collections::BTreeMap;
use std::time::Duration;

use sea_orm::{ConnectionTrait, Database, IsolationLevel, TransactionTrait};
use tokio::time::sleep;

use crate::cluster::{Cluster, Role};
use crate::harness::DatabaseKind;
use crate::log::Log;
use crate::rng::Rng;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// A process gets SIGKILL and is replaced.
    KillApi,
    KillWorker,
    /// A process gets SIGTERM. It must exit with code 0 in time.
    EndApi,
    EndWorker,
    /// A process is suspended with SIGSTOP for a while. A worker is suspended longer than its lease.
    FreezeApi,
    FreezeWorkerPastItsLease,
    /// PostgreSQL is stopped in immediate mode and started again.
    CrashDatabase,
    /// Redis is flushed, killed, or suspended.
    FlushRedis,
    RestartRedis,
    StallRedis,
    /// Connections are closed, silent, or slow.
    CutDatabase,
    SilenceDatabase,
    SlowDatabase,
    CutRedis,
    SilenceRedis,
    /// Another session holds the account row of a user.
    LockUser,
    /// The default isolation level of the database is changed.
    ChangeIsolation,
    /// Writes to the WAL of SQLite fail with ENOSPC, EDQUOT or EIO, or syncs fail with EIO.
    FillDisk,
    ExceedQuota,
    BreakDisk,
    BreakSync,
    /// Nothing can be stored in the folder of the payloads.
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

/// The longest time that a process may take to exit.
const EXIT_MAX: Duration = Duration::from_secs(10);

/// Decides which fault is injected when.
pub struct Schedule {
    kinds: &'static [Fault],
    rng: Rng,
    /// The faults of this round that are left. The last one is the next.
    round: Vec<Fault>,
    /// The number of acknowledged writes at which the next fault is due.
    next_at: u64,
    injected: BTreeMap<Fault, u64>,
}

impl Schedule {
    pub fn new(database_kind: DatabaseKind, rng: Rng) -> Self {
        let kinds: &[Fault] = if database_kind == DatabaseKind::Sqlite { &SQLITE } else { &POSTGRES };
        Self { kinds, rng, round: Vec::new(), next_at: 100, injected: BTreeMap::new() }
    }

    /// Returns the number of injected faults.
    pub fn count(&self) -> u64 {
        self.injected.values().sum()
    }

    pub fn summary(&self) -> String {
        self.injected.iter().map(|(fault, count)| format!("{fault:?} {count}")).collect::<Vec<_>>().join(", ")
    }

    /// Checks that each kind of fault was injected.
    pub fn check(&self, log: &Log) {
        for fault in self.kinds.iter().filter(|fault| !self.injected.contains_key(fault)) {
            log.wrong(format!("{fault:?} was never injected"));
        }
    }

    /// Injects the next fault, if it is due. Returns when the fault is repaired.
    pub async fn inject_due(&mut self, cluster: &mut Cluster, log: &Log) {
        if log.progress() < self.next_at {
            return;
        }
        let fault = self.draw();
        inject(fault, cluster, log, &mut self.rng).await;
        *self.injected.entry(fault).or_default() += 1;
        self.next_at = log.progress() + 60 + self.rng.below(240) as u64;
    }

    /// Returns the next fault. Each round has every kind once, in a random order.
    fn draw(&mut self) -> Fault {
        if self.round.is_empty() {
            self.round = self.kinds.to_vec();
            for end in (1..self.round.len()).rev() {
                self.round.swap(end, self.rng.below(end + 1));
            }
        }
        self.round.pop().unwrap_or(self.kinds[0])
    }
}

/// Returns a random process of a role.
fn any(cluster: &Cluster, role: Role, rng: &mut Rng) -> usize {
    let slots: Vec<usize> =
        (0..cluster.slots.len()).filter(|slot| cluster.slots[*slot].role == role).collect();
    slots[rng.below(slots.len())]
}

/// Returns a worker that runs an import, if one is found within 5 s, because a fault of an idle worker tests
/// nothing.
async fn busy_worker(cluster: &Cluster, rng: &mut Rng) -> usize {
    for _ in 0..50 {
        let slot = any(cluster, Role::Worker, rng);
        if cluster.runs_import(slot).await {
            return slot;
        }
        sleep(Duration::from_millis(100)).await;
    }
    any(cluster, Role::Worker, rng)
}

/// Draws a duration between two numbers of seconds.
fn seconds(rng: &mut Rng, from: usize, to: usize) -> Duration {
    Duration::from_millis((from * 1_000 + rng.below((to - from) * 1_000)) as u64)
}

async fn inject(fault: Fault, cluster: &mut Cluster, log: &Log, rng: &mut Rng) {
    match fault {
        Fault::KillApi => {
            let slot = any(cluster, Role::Api, rng);
            kill(cluster, slot, log).await;
        }
        Fault::KillWorker => {
            let slot = busy_worker(cluster, rng).await;
            kill(cluster, slot, log).await;
        }
        Fault::EndApi => end(cluster, Role::Api, log, rng).await,
        Fault::EndWorker => end(cluster, Role::Worker, log, rng).await,
        Fault::FreezeApi => {
            let slot = any(cluster, Role::Api, rng);
            freeze(cluster, slot, seconds(rng, 1, 8)).await;
        }
        Fault::FreezeWorkerPastItsLease => {
            let slot = busy_worker(cluster, rng).await;
            freeze(cluster, slot, seconds(rng, 32, 36)).await;
        }
        Fault::CrashDatabase => run_commands(cluster, &["stop-postgres", "start-postgres"]),
        Fault::FlushRedis => {
            if let Some(servers) = &cluster.servers {
                servers.redis_cli(0, &["FLUSHALL"]);
            }
        }
        Fault::RestartRedis => run_commands(cluster, &["kill-redis", "start-redis"]),
        Fault::StallRedis => run_commands(cluster, &["stall-redis"]),
        Fault::CutDatabase | Fault::SilenceDatabase | Fault::SlowDatabase => {
            let slot = rng.below(cluster.slots.len());
            let Some(network) = &cluster.slots[slot].database else { return };
            match fault {
                Fault::CutDatabase => network.cut(),
                Fault::SilenceDatabase => {
                    network.vanish();
                    sleep(seconds(rng, 3, 15)).await;
                    network.appear();
                }
                _ => {
                    network.slow_down(Duration::from_millis(20));
                    sleep(seconds(rng, 2, 5)).await;
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
                sleep(seconds(rng, 2, 8)).await;
                redis.appear();
            }
        }
        Fault::LockUser => lock_user(cluster, rng).await,
        Fault::ChangeIsolation => change_isolation(cluster, rng).await,
        Fault::FillDisk => break_disk(cluster, log, "28 write -wal").await,
        Fault::ExceedQuota => break_disk(cluster, log, "122 write -wal").await,
        Fault::BreakDisk => break_disk(cluster, log, "5 write -wal").await,
        Fault::BreakSync => break_disk(cluster, log, "5 sync -wal").await,
        Fault::BreakPayloads => break_payloads(cluster, rng).await,
    }
}

async fn kill(cluster: &mut Cluster, slot: usize, log: &Log) {
    cluster.signal(slot, "KILL");
    cluster.wait_for_exit(slot, EXIT_MAX).await;
    cluster.replace(slot);
    cluster.wait_until_ready(slot, log).await;
}

async fn end(cluster: &mut Cluster, role: Role, log: &Log, rng: &mut Rng) {
    let slot = any(cluster, role, rng);
    cluster.signal(slot, "TERM");
    if cluster.wait_for_exit(slot, EXIT_MAX).await != Some(Some(0)) {
        log.wrong(format!("{role:?} did not exit with code 0 within {EXIT_MAX:?}"));
        cluster.signal(slot, "KILL");
        cluster.wait_for_exit(slot, EXIT_MAX).await;
    }
    cluster.replace(slot);
    cluster.wait_until_ready(slot, log).await;
}

async fn freeze(cluster: &Cluster, slot: usize, time: Duration) {
    cluster.signal(slot, "STOP");
    sleep(time).await;
    cluster.signal(slot, "CONT");
}

fn run_commands(cluster: &mut Cluster, commands: &[&str]) {
    if let Some(servers) = &mut cluster.servers {
        commands.iter().for_each(|command| servers.run_command(command));
    }
}

async fn lock_user(cluster: &Cluster, rng: &mut Rng) {
    let sql = Database::connect(&cluster.database).await.unwrap();
    let held = sql.begin_with_config(Some(IsolationLevel::ReadCommitted), None).await.unwrap();
    let user = rng.below(crate::USERS);
    let lock = format!("SELECT 1 FROM account WHERE subject = 'user {user}' FOR UPDATE");
    held.execute_unprepared(&lock).await.unwrap();
    sleep(seconds(rng, 2, 9)).await;
    held.rollback().await.unwrap();
    sql.close().await.unwrap();
}

async fn change_isolation(cluster: &Cluster, rng: &mut Rng) {
    let sql = Database::connect(&cluster.database).await.unwrap();
    let level = ["serializable", "repeatable read", "read committed"][rng.below(3)];
    let change = format!("ALTER DATABASE soak SET default_transaction_isolation = '{level}'");
    sql.execute_unprepared(&change).await.unwrap();
    sql.close().await.unwrap();
    for slot in &cluster.slots {
        if let Some(network) = &slot.database {
            network.cut();
        }
    }
}

/// Makes the disk fail until five requests were refused, or for 2 s.
async fn break_disk(cluster: &Cluster, log: &Log, failure: &str) {
    std::fs::write(cluster.disk_control(), failure).unwrap();
    let before = log.refused();
    for _ in 0..40 {
        if log.refused() >= before + 5 {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    std::fs::remove_file(cluster.disk_control()).unwrap();
}

async fn break_payloads(cluster: &Cluster, rng: &mut Rng) {
    let hidden = cluster.dir.path().join("hidden");
    if std::fs::rename(cluster.payloads(), &hidden).is_err() {
        return;
    }
    // A file takes the path of the folder, so that nothing can be stored below it.
    std::fs::write(cluster.payloads(), "").unwrap();
    sleep(seconds(rng, 1, 3)).await;
    std::fs::remove_file(cluster.payloads()).unwrap();
    std::fs::rename(&hidden, cluster.payloads()).unwrap();
}
