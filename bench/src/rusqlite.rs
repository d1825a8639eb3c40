//! Measures a lower bound for the scenario `sqlite`: stores the same rows in the same tables without a server, by
//! prepared statements of SQLite's C interface, on one connection.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use ::rusqlite::{Connection, Statement, TransactionBehavior, params};
use anyhow::{Context, ensure};

use crate::content::{EXTERNAL_ID_PREFIX, FIRST_MS, NOTES, Numbers, PROPERTIES, Random, TYPE_ID};
use crate::measure::{Sample, Spent};
use crate::process;
use crate::server::ISSUER;

/// Rows of an import that share a transaction.
const CHUNK: usize = 500;
const INSERT_EVENT: &str = include_str!("../sql/sqlite_event.sql");
const INSERT_RECORD: &str = include_str!("../sql/sqlite_record.sql");

/// A database file with the tables of idem, open for writing.
pub struct Database(Connection);

impl Database {
    /// Opens a database file with the settings that idem uses.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(file)?;
        for (name, value) in [("journal_mode", "WAL"), ("synchronous", "FULL"), ("foreign_keys", "ON")] {
            connection.pragma_update(None, name, value)?;
        }
        Ok(Self(connection))
    }

    /// Inserts users, each with one event type and with events `1` to `events`, in the order in which they
    /// would have arrived.
    pub fn fill(&mut self, users: usize, events: u64) -> anyhow::Result<()> {
        let tx = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let head = i64::try_from(events)? + 1;
            let mut account = tx.prepare(include_str!("../sql/sqlite_account.sql"))?;
            let mut event_type = tx.prepare(include_str!("../sql/sqlite_type.sql"))?;
            for user in 1..=users {
                account.execute(params![user_id(user)?, ISSUER, format!("u{user}"), head])?;
                event_type.execute(params![user_id(user)?, id(TYPE_ID)?, FIRST_MS])?;
            }
            let mut event = tx.prepare(INSERT_EVENT)?;
            for number in 1..=events {
                for user in 1..=users {
                    insert_event(&mut event, user, number, i64::try_from(number)? + 1)?;
                }
            }
        }
        tx.commit()?;
        self.0.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// Creates events of random users for a time, `group` of them in each transaction.
    pub fn create(
        &mut self,
        users: usize,
        group: usize,
        numbers: &Numbers,
        seconds: u64,
    ) -> anyhow::Result<Sample> {
        let mut random = Random::new(1);
        let (mut latencies_us, mut events) = (Vec::new(), 0);
        let (started, before) = (Instant::now(), process::cpu_of_clients()?);
        while started.elapsed() < Duration::from_secs(seconds) {
            let begun = Instant::now();
            let tx = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut head = tx.prepare_cached(
                    "UPDATE account SET feed_head = feed_head + 1, revision = revision + 1 WHERE user_id = ?1 \
                     RETURNING feed_head",
                )?;
                let mut event = tx.prepare_cached(INSERT_EVENT)?;
                for _ in 0..group {
                    let user = 1 + usize::try_from(random.below(users as u64))?;
                    let position = head.query_row([user_id(user)?], |row| row.get(0))?;
                    insert_event(&mut event, user, numbers.take(), position)?;
                }
            }
            tx.commit()?;
            events += group;
            latencies_us.push(u64::try_from(begun.elapsed().as_micros())?);
        }
        let client = process::cpu_of_clients()? - before;
        Ok(Sample::new(
            events,
            started.elapsed(),
            latencies_us,
            Spent { server: None, postgres: 0.0, client },
        ))
    }

    /// Stores the rows of a file that do not exist yet, 500 in each transaction, for the first user.
    /// `inserted` is how many must be new.
    pub fn import(&mut self, rows: &Path, import_id: &str, inserted: usize) -> anyhow::Result<Sample> {
        let (owner, import_id) = (user_id(1)?, id(import_id)?);
        let (mut records, mut stored) = (0, 0);
        let (started, before) = (Instant::now(), process::cpu_of_clients()?);
        let mut lines = BufReader::new(File::open(rows)?).lines();
        loop {
            let chunk: Vec<String> = lines.by_ref().take(CHUNK).collect::<Result<_, _>>()?;
            if chunk.is_empty() {
                break;
            }
            let tx = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut head: i64 =
                    tx.query_row("SELECT feed_head FROM account WHERE user_id = ?1", [owner], |row| {
                        row.get(0)
                    })?;
                let mut record = tx.prepare_cached(INSERT_RECORD)?;
                for line in &chunk {
                    if insert_record(&mut record, owner, import_id, line, head + 1)? {
                        (head, stored) = (head + 1, stored + 1);
                    }
                }
                tx.execute("UPDATE account SET feed_head = ?2 WHERE user_id = ?1", params![owner, head])?;
            }
            tx.commit()?;
            records += chunk.len();
        }
        ensure!(stored == inserted, "{stored} rows were stored instead of {inserted}");
        let client = process::cpu_of_clients()? - before;
        Ok(Sample::new(records, started.elapsed(), Vec::new(), Spent { server: None, postgres: 0.0, client }))
    }
}

fn insert_event(
    statement: &mut Statement<'_>,
    user: usize,
    number: u64,
    position: i64,
) -> anyhow::Result<()> {
    let external_id = format!("{EXTERNAL_ID_PREFIX}{number:012}");
    let event_id = id(&format!("019b7000-0000-7000-8000-{number:012}"))?;
    let time = FIRST_MS + i64::try_from(number)? * 1_000;
    let inserted = statement.execute(params![
        user_id(user)?,
        event_id,
        id(TYPE_ID)?,
        time,
        NOTES,
        NOTES.to_lowercase(),
        external_id,
        PROPERTIES,
        [7_u8; 32],
        position
    ])?;
    ensure!(inserted == 1, "event {number} exists already");
    Ok(())
}

/// Stores one line of the file, and returns whether it was new.
fn insert_record(
    statement: &mut Statement<'_>,
    owner: [u8; 16],
    import_id: [u8; 16],
    line: &str,
    position: i64,
) -> anyhow::Result<bool> {
    let cells: Vec<&str> = line.split('\t').collect();
    let [record_id, type_id, time, notes, source_type, external_id, properties, hash] = cells[..] else {
        anyhow::bail!("a line has {} cells", cells.len());
    };
    let hash = bytes::<32>(hash.trim_start_matches(r"\\x"))?;
    let time: i64 = time.parse()?;
    let inserted = statement.execute(params![
        owner,
        id(record_id)?,
        id(type_id)?,
        time,
        notes,
        notes.to_lowercase(),
        source_type,
        external_id,
        properties,
        hash,
        position,
        import_id
    ])?;
    Ok(inserted == 1)
}

fn user_id(user: usize) -> anyhow::Result<[u8; 16]> {
    id(&format!("00000000-0000-5000-8000-{user:012}"))
}

/// The bytes of a UUID that is written in hexadecimal, with or without hyphens.
fn id(text: &str) -> anyhow::Result<[u8; 16]> {
    bytes(&text.replace('-', ""))
}

fn bytes<const N: usize>(hex: &str) -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let digits = hex.get(2 * at..2 * at + 2).context("too few hexadecimal digits")?;
        *byte = u8::from_str_radix(digits, 16)?;
    }
    Ok(bytes)
}
