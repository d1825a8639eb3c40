//! What must hold in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::harness::{assert_feeds_are_whole, number};
use crate::imports::Imported;
use crate::log::Log;
use crate::readers::Fold;
use crate::writers::{Known, Model};

/// Compares what was told with what is stored.
pub async fn all(cluster: &Cluster, log: &Log, models: &[Model], imported: &[Imported], folds: &[Fold]) {
    let sql = Database::connect(&cluster.database).await.unwrap();
    if number(&sql, "SELECT count(*) FROM account").await == 0 {
        log.wrong("nothing was done".to_owned());
        return;
    }
    feeds_are_whole(&sql, log).await;
    for user in 0..crate::USERS {
        let table = table(&sql, user).await;
        let models: Vec<&Model> = models.iter().filter(|model| model.user == user).collect();
        what_is_acknowledged_is_stored(user, &table, &models, log);
        let rows_of_imports: i64 = imported.iter().filter(|it| it.user == user).map(|it| it.inserted).sum();
        let of_devices: usize = models.iter().map(|model| model.own.len()).sum();
        let contested = models.iter().flat_map(|model| model.contested.keys());
        let contested = contested.collect::<std::collections::BTreeSet<_>>().len();
        let expected = i64::try_from(of_devices + contested).unwrap() + rows_of_imports;
        if !log.is_over() && i64::try_from(table.len()).unwrap() != expected {
            log.wrong(format!("user {user} has {} events, not {expected}", table.len()));
        }
        for fold in folds.iter().filter(|fold| fold.user == user) {
            a_reader_has_all(fold, &table, log);
        }
    }
    imports_are_exact(&sql, imported, log).await;
    nothing_is_held(cluster, log).await;
    no_log_tells_a_note(cluster, log);
    sql.close().await.unwrap();
}

/// Events of a user by their ids.
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

async fn feeds_are_whole(sql: &DatabaseConnection, log: &Log) {
    let other = sql.clone();
    if tokio::spawn(async move { assert_feeds_are_whole(&other).await }).await.is_err() {
        log.wrong("a feed is not whole: positions are not unique, or the newest is not the head".to_owned());
    }
}

fn what_is_acknowledged_is_stored(
    user: usize,
    table: &BTreeMap<String, (i64, Option<String>)>,
    models: &[&Model],
    log: &Log,
) {
    let mut wrong = 0;
    let mut tell = |what: String| {
        wrong += 1;
        if wrong <= 5 {
            log.wrong(what);
        }
    };
    for model in models {
        for (id, Known { notes, version }) in &model.own {
            match table.get(id) {
                None => tell(format!("user {user} was told of {id}, which is not stored")),
                Some(stored) if *stored != (*version, notes.clone()) => {
                    tell(format!("{id} of user {user} is {stored:?}, not {notes:?} of version {version}"));
                }
                Some(_) => {}
            }
        }
        for (id, notes) in &model.contested {
            if table.get(id).and_then(|(_, notes)| notes.as_ref()) != Some(notes) {
                tell(format!("{id} of user {user} is {:?}, and {notes:?} was told", table.get(id)));
            }
        }
    }
}

fn a_reader_has_all(fold: &Fold, table: &BTreeMap<String, (i64, Option<String>)>, log: &Log) {
    // Whoever begins late is told of no deletion before.
    let living = |all: &BTreeMap<String, (i64, Option<String>)>| -> BTreeMap<String, (i64, Option<String>)> {
        all.iter()
            .filter(|(_, (_, notes))| notes.is_some())
            .map(|(id, row)| (id.clone(), row.clone()))
            .collect()
    };
    let (told, stored) = (living(&fold.events), living(table));
    let missed = stored.iter().filter(|(id, row)| told.get(*id) != Some(row)).count();
    let beyond = told.keys().filter(|id| !stored.contains_key(*id)).count();
    if missed + beyond > 0 {
        let Fold { user, how, .. } = fold;
        log.wrong(format!(
            "user {user} by {how}: {missed} changes missed, {beyond} events that are not there"
        ));
    }
}

async fn imports_are_exact(sql: &DatabaseConnection, imported: &[Imported], log: &Log) {
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
        let told = ("COMPLETED".to_owned(), import.inserted, import.duplicates, import.inserted);
        if stored.get(&import.id) != Some(&told) {
            log.wrong(format!("import {} is {:?}, and {told:?} was told", import.id, stored.get(&import.id)));
        }
    }
}

/// All connections are given back, and nobody works on an import.
async fn nothing_is_held(cluster: &Cluster, log: &Log) {
    tokio::time::sleep(Duration::from_secs(2)).await;
    for url in cluster.metrics() {
        let Ok(answer) = reqwest::get(&url).await else { continue };
        let text = answer.text().await.unwrap_or_default();
        for held in ["idem_database_connections{state=\"in_use\"}", "idem_imports_in_flight"] {
            let line = text.lines().find_map(|line| line.strip_prefix(held));
            if line.is_some_and(|count| count.trim().parse::<f64>().unwrap_or_default() > 1.0) {
                log.wrong(format!("{held} is {} at the end", line.unwrap_or_default().trim()));
            }
        }
    }
}

fn no_log_tells_a_note(cluster: &Cluster, log: &Log) {
    for place in 0..cluster.places.len() {
        let text = std::fs::read_to_string(cluster.log_of(place)).unwrap_or_default();
        if text.contains("canary of user") {
            log.wrong(format!("the log of process {place} tells notes"));
        }
        for line in
            text.lines().filter(|line| line.contains("panicked") || line.contains("contradicts")).take(3)
        {
            log.wrong(format!("the log of process {place}: {line}"));
        }
    }
}

/// How much memory processes took, as it was seen.
#[derive(Default)]
pub struct Memory {
    seen: Vec<Vec<u64>>,
    last: Option<std::time::Instant>,
}

/// Of a process that was replaced and is young, and of caches that fill up.
const GROWTH_MAX_KIB: u64 = 48 * 1024;

impl Memory {
    /// Once a second.
    pub fn look(&mut self, cluster: &Cluster) {
        if self.last.is_some_and(|last| last.elapsed() < Duration::from_secs(1)) {
            return;
        }
        self.last = Some(std::time::Instant::now());
        self.seen.resize(cluster.places.len(), Vec::new());
        for (place, seen) in self.seen.iter_mut().enumerate() {
            seen.push(cluster.memory_kib(place));
        }
    }

    /// The second quarter and the last one, medians in KiB.
    fn quarters(seen: &[u64]) -> (u64, u64) {
        let quarter = seen.len() / 4;
        let median = |part: &[u64]| {
            let mut part = part.to_vec();
            part.sort_unstable();
            part.get(part.len() / 2).copied().unwrap_or_default()
        };
        (median(&seen[quarter..2 * quarter]), median(&seen[3 * quarter..]))
    }

    /// Flat in time.
    pub fn check(&self, log: &Log) {
        for seen in self.seen.iter().filter(|seen| seen.len() >= 240) {
            let (early, late) = Self::quarters(seen);
            if late > early + GROWTH_MAX_KIB {
                log.wrong(format!("memory grows: {early} KiB in the second quarter, {late} in the last"));
            }
        }
    }

    pub fn told(&self) -> String {
        let each = self.seen.iter().map(|seen| {
            let (early, late) = Self::quarters(seen);
            format!("{} → {} (most {})", early / 1024, late / 1024, seen.iter().max().unwrap_or(&0) / 1024)
        });
        format!("memory in MiB, second quarter → last: {}", each.collect::<Vec<_>>().join("; "))
    }
}
