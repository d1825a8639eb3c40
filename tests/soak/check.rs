//! Checks at the end of a soak test, and the growth of memory during it.

use std::collections::BTreeMap;
use std::time::Duration;

use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::harness::{assert_feeds_are_whole, number};
use crate::imports::Imported;
use crate::log::Log;
use crate::readers::Replica;
use crate::writers::{Known, Model};

/// Compares the responses that the devices got with what is stored.
pub async fn all(
    cluster: &Cluster,
    log: &Log,
    models: &[Model],
    imported: &[Imported],
    replicas: &[Replica],
) {
    let sql = Database::connect(&cluster.database).await.unwrap();
    if number(&sql, "SELECT count(*) FROM account").await == 0 {
        log.wrong("the clients did nothing".to_owned());
        return;
    }
    check_feeds(&sql, log).await;
    for user in 0..crate::USERS {
        let table = table(&sql, user).await;
        let models: Vec<&Model> = models.iter().filter(|model| model.user == user).collect();
        check_acknowledged(user, &table, &models, log);
        let rows_of_imports: i64 = imported.iter().filter(|it| it.user == user).map(|it| it.inserted).sum();
        let rows_of_devices: usize = models.iter().map(|model| model.own.len()).sum();
        let contested = models.iter().flat_map(|model| model.contested.keys());
        let contested = contested.collect::<std::collections::BTreeSet<_>>().len();
        let expected = i64::try_from(rows_of_devices + contested).unwrap() + rows_of_imports;
        if !log.is_over() && i64::try_from(table.len()).unwrap() != expected {
            log.wrong(format!("user {user} has {} events, not {expected}", table.len()));
        }
        for replica in replicas.iter().filter(|replica| replica.user == user) {
            check_replica(replica, &table, log);
        }
    }
    check_imports(&sql, imported, log).await;
    check_resources(cluster, log).await;
    check_process_logs(cluster, log);
    sql.close().await.unwrap();
}

/// Returns the version and the notes of all events of a user by their ids. The notes of a deleted event are
/// `None`.
async fn table(sql: &DatabaseConnection, user: usize) -> BTreeMap<String, (i64, Option<String>)> {
    let text = format!(
        "SELECT e.id, e.version, e.notes, e.deleted_at FROM event e JOIN account a ON a.user_id = e.user_id \
         WHERE a.subject = 'user {user}'"
    );
    let rows = sql.query_all_raw(Statement::from_string(sql.get_database_backend(), text)).await.unwrap();
    let row = |row: &sea_orm::QueryResult| {
        let id: Uuid = row.try_get_by_index(0).unwrap();
        let version: i32 = row.try_get_by_index(1).unwrap();
        let deleted_at: Option<i64> = row.try_get_by_index(3).unwrap();
        let notes: Option<String> = row.try_get_by_index(2).unwrap();
        (id.to_string(), (i64::from(version), notes.filter(|_| deleted_at.is_none())))
    };
    rows.iter().map(row).collect()
}

/// Checks that all feeds are consistent.
async fn check_feeds(sql: &DatabaseConnection, log: &Log) {
    let other = sql.clone();
    if tokio::spawn(async move { assert_feeds_are_whole(&other).await }).await.is_err() {
        log.wrong(
            "a feed is inconsistent: positions are not unique, or the greatest is not the head".to_owned(),
        );
    }
}

/// Checks that all acknowledged writes are stored. At most five findings of a user are recorded.
fn check_acknowledged(
    user: usize,
    table: &BTreeMap<String, (i64, Option<String>)>,
    models: &[&Model],
    log: &Log,
) {
    let mut wrong = 0;
    let mut report = |finding: String| {
        wrong += 1;
        if wrong <= 5 {
            log.wrong(finding);
        }
    };
    for model in models {
        for (id, Known { notes, version }) in &model.own {
            match table.get(id) {
                None => report(format!("{id} of user {user} was acknowledged and is not stored")),
                Some(stored) if *stored != (*version, notes.clone()) => {
                    report(format!("{id} of user {user} is {stored:?}, not {notes:?} of version {version}"));
                }
                Some(_) => {}
            }
        }
        for (id, notes) in &model.contested {
            if table.get(id).and_then(|(_, notes)| notes.as_ref()) != Some(notes) {
                report(format!("{id} of user {user} is {:?}, and the response had {notes:?}", table.get(id)));
            }
        }
    }
}

/// Checks that a replica has exactly the living events of its user.
fn check_replica(replica: &Replica, table: &BTreeMap<String, (i64, Option<String>)>, log: &Log) {
    // Deleted events are left out, because a bootstrap does not have the deletions before it.
    let living = |all: &BTreeMap<String, (i64, Option<String>)>| -> BTreeMap<String, (i64, Option<String>)> {
        all.iter()
            .filter(|(_, (_, notes))| notes.is_some())
            .map(|(id, row)| (id.clone(), row.clone()))
            .collect()
    };
    let (received, stored) = (living(&replica.events), living(table));
    let missed = stored.iter().filter(|(id, row)| received.get(*id) != Some(row)).count();
    let extra = received.keys().filter(|id| !stored.contains_key(*id)).count();
    if missed + extra > 0 {
        let Replica { user, transport, .. } = replica;
        log.wrong(format!(
            "user {user} by {transport}: {missed} changes are missing, {extra} events are not stored"
        ));
    }
}

/// Checks that each import has the expected counts, and as many rows as it inserted.
async fn check_imports(sql: &DatabaseConnection, imported: &[Imported], log: &Log) {
    let text = "SELECT j.id, j.state, j.count_inserted, j.count_duplicates, coalesce(e.rows_of, 0) \
        FROM import_job j LEFT JOIN (SELECT import_job_id, count(*) AS rows_of FROM event GROUP BY import_job_id) e \
        ON e.import_job_id = j.id";
    let rows = sql.query_all_raw(Statement::from_string(sql.get_database_backend(), text)).await.unwrap();
    let row = |row: &sea_orm::QueryResult| {
        let id: Uuid = row.try_get_by_index(0).unwrap();
        let state: String = row.try_get_by_index(1).unwrap();
        let number = |index| row.try_get_by_index::<i64>(index).unwrap();
        (id.to_string(), (state, number(2), number(3), number(4)))
    };
    let stored: BTreeMap<_, _> = rows.iter().map(row).collect();
    for import in imported {
        let expected = ("COMPLETED".to_owned(), import.inserted, import.duplicates, import.inserted);
        if stored.get(&import.id) != Some(&expected) {
            log.wrong(format!("import {} is {:?}, not {expected:?}", import.id, stored.get(&import.id)));
        }
    }
}

/// Checks that all connections are back in their pools, and that no worker runs an import.
async fn check_resources(cluster: &Cluster, log: &Log) {
    tokio::time::sleep(Duration::from_secs(2)).await;
    for url in cluster.metrics() {
        let Ok(response) = reqwest::get(&url).await else { continue };
        let text = response.text().await.unwrap_or_default();
        for metric in ["idem_database_connections{state=\"in_use\"}", "idem_imports_in_flight"] {
            let line = text.lines().find_map(|line| line.strip_prefix(metric));
            if line.is_some_and(|count| count.trim().parse::<f64>().unwrap_or_default() > 1.0) {
                log.wrong(format!("{metric} is {} at the end", line.unwrap_or_default().trim()));
            }
        }
    }
}

/// Checks that no process has logged notes of a user, a panic, or a contradiction.
fn check_process_logs(cluster: &Cluster, log: &Log) {
    for slot in 0..cluster.slots.len() {
        let text = std::fs::read_to_string(cluster.log_of(slot)).unwrap_or_default();
        if text.contains("canary of user") {
            log.wrong(format!("the log of process {slot} has notes of a user"));
        }
        for line in
            text.lines().filter(|line| line.contains("panicked") || line.contains("contradicts")).take(3)
        {
            log.wrong(format!("the log of process {slot}: {line}"));
        }
    }
}

/// The memory of all processes over time.
#[derive(Default)]
pub struct Memory {
    /// One sample a second in KiB, for each process.
    samples: Vec<Vec<u64>>,
    sampled_at: Option<std::time::Instant>,
}

/// The allowed growth. A process may have been replaced and be young, and its caches fill up.
const GROWTH_MAX_KIB: u64 = 48 * 1024;

impl Memory {
    /// Takes a sample, unless the last one was less than a second ago.
    pub fn sample(&mut self, cluster: &Cluster) {
        if self.sampled_at.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
            return;
        }
        self.sampled_at = Some(std::time::Instant::now());
        self.samples.resize(cluster.slots.len(), Vec::new());
        for (slot, samples) in self.samples.iter_mut().enumerate() {
            samples.push(cluster.memory_kib(slot));
        }
    }

    /// Returns the medians of the second quarter and of the last one, in KiB.
    fn quarters(samples: &[u64]) -> (u64, u64) {
        let quarter = samples.len() / 4;
        let median = |part: &[u64]| {
            let mut part = part.to_vec();
            part.sort_unstable();
            part.get(part.len() / 2).copied().unwrap_or_default()
        };
        (median(&samples[quarter..2 * quarter]), median(&samples[3 * quarter..]))
    }

    /// Checks that the memory of no process grows. It needs at least 240 samples.
    pub fn check(&self, log: &Log) {
        for samples in self.samples.iter().filter(|samples| samples.len() >= 240) {
            let (early, late) = Self::quarters(samples);
            if late > early + GROWTH_MAX_KIB {
                log.wrong(format!("memory grows: {early} KiB in the second quarter, {late} KiB in the last"));
            }
        }
    }

    pub fn summary(&self) -> String {
        let each = self.samples.iter().map(|samples| {
            let (early, late) = Self::quarters(samples);
            format!("{} → {} (max {})", early / 1024, late / 1024, samples.iter().max().unwrap_or(&0) / 1024)
        });
        format!("memory in MiB, second quarter → last: {}", each.collect::<Vec<_>>().join("; "))
    }
}
