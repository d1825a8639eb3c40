//! Writes rows of several tables with one statement of PostgreSQL: one CTE for each table, and one for the
//! feed heads.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use sea_orm::{ActiveModelTrait, DbBackend, EntityName, Statement, Value};
use uuid::Uuid;

use super::{
    Decision, Models, check_row_count, convert_and_report_checked_write_error, convert_and_report_write_error,
};
use crate::Tx;
use crate::bulk::{self, Existing, Owners};
use crate::dialect;
use crate::error::Error;
use crate::pool::Pool;
use crate::row_reader::RowReader;
use domain::apply::Changes;

/// A statement of PostgreSQL that writes rows of several tables, while it is being built. It has one CTE for
/// each table.
#[derive(Default)]
pub(super) struct Parts {
    /// The INSERT or UPDATE of each CTE, with the name of its table.
    parts: Vec<(&'static str, String)>,
    /// The parameters of all CTEs.
    values: Vec<Value>,
    /// How many rows all CTEs together must write, by the decision.
    decided: u64,
}

impl Parts {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether a CTE for this table exists. A table must not have two: CTEs do not see each other's changes,
    /// and a row of the second may need a unique key that the first gives up (PostgreSQL manual, section
    /// 7.8.4).
    pub(super) fn has_table(&self, table: &str) -> bool {
        self.parts.iter().any(|(other, _)| *other == table)
    }

    /// Adds a CTE that writes rows of one table, and runs nothing. `existing` says whether all of the rows
    /// exist already, or none does.
    pub(super) fn add_rows<Row: ActiveModelTrait>(
        &mut self,
        rows: Vec<Row>,
        existing: Existing,
        owners: Owners,
    ) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        self.decided += rows.len() as u64;
        let part = bulk::sql_bulk_insert(rows, existing, owners, &mut self.values)?;
        self.parts.push((Row::Entity::default().table_name(), part));
        Ok(())
    }

    /// Adds a CTE that moves feed heads, given as user, old head and new head. The transaction must have
    /// locked these accounts already.
    pub(super) fn add_feed_head_moves(&mut self, heads: Vec<(Uuid, i64, i64)>) {
        self.decided += heads.len() as u64;
        let part = dialect::sql_move_feed_heads(heads, &mut self.values);
        self.parts.push(("account", part));
    }

    /// Runs the statement within the transaction of the caller, and checks the number of written rows against
    /// the decision. Afterwards it is empty again.
    ///
    /// ```sql
    /// WITH p0 AS (INSERT INTO event … RETURNING 1), p1 AS (UPDATE account … RETURNING 1)
    /// SELECT (SELECT count(*) FROM p0) + (SELECT count(*) FROM p1) AS written
    /// ```
    ///
    /// # Errors
    /// [`Error::Database`] if the database fails. [`Error::Bug`] if a row that should be new exists, or
    /// another number of rows was written than decided.
    pub(super) async fn run_and_check(&mut self, tx: &Tx) -> Result<(), Error> {
        let (with, written) = self.take_sql_ctes();
        let statement = self.build_statement(format!("WITH {with} SELECT {written} AS written"));
        let written = tx.find_integer(statement).await.map_err(convert_and_report_write_error)?;
        let written = u64::try_from(written.ok_or(Error::Bug("a sum is one row"))?).unwrap_or_default();
        check_row_count(std::mem::take(&mut self.decided), written)
    }

    /// Removes all CTEs. Returns their text, and the SQL expression that counts the rows they write.
    fn take_sql_ctes(&mut self) -> (String, String) {
        let parts: Vec<String> = self.parts.drain(..).map(|(_, part)| part).collect();
        let with = parts.iter().enumerate().map(|(n, part)| format!("p{n} AS ({part} RETURNING 1)"));
        let written = (0..parts.len()).map(|n| format!("(SELECT count(*) FROM p{n})"));
        (with.collect::<Vec<_>>().join(", "), written.collect::<Vec<_>>().join(" + "))
    }

    fn build_statement(&mut self, sql: String) -> Statement {
        Statement::from_sql_and_values(DbBackend::Postgres, sql, std::mem::take(&mut self.values))
    }
}

/// Whether one statement of PostgreSQL can write all changes of a user. It cannot if one of its CTEs would
/// have to see the changes of another one.
pub(super) fn fits_one_statement(changes: &Changes) -> bool {
    let has_both = |new: usize, changed: usize| new > 0 && changed > 0;
    changes.recorded_edit_ids.is_empty()
        && changes.finalized_deletions.is_empty()
        // Two types may exchange their names, which needs a statement that clears the names first.
        && changes.changed_types.len() < 2
        && !has_both(changes.new_types.len(), changes.changed_types.len())
        && !has_both(changes.new_events.len(), changes.changed_events.len())
}

/// Stores decisions that were made without a lock, of those users whose account still has the revision that
/// was read and is not locked now. Returns these users; of the others nothing is stored.
///
/// ```sql
/// WITH held AS (SELECT user_id FROM account … FOR NO KEY UPDATE SKIP LOCKED),
///      moved AS (UPDATE account … RETURNING user_id),
///      p0 AS (INSERT INTO event … WHERE user_id IN (SELECT user_id FROM moved) RETURNING 1),
///      counts AS (SELECT (SELECT count(*) FROM p0) AS written, … AS decided)
/// SELECT m.user_id, c.written, 1 / (c.written = c.decided)::integer FROM moved m CROSS JOIN counts c
/// ```
///
/// The statement runs outside of a transaction and commits by itself, so it is one round trip (decision
/// 0053).
///
/// # Errors
/// As [`super::store_if_unchanged`].
pub(super) async fn store_if_revisions_unchanged(
    connections: &Pool,
    all: Vec<Decision>,
) -> Result<HashSet<Uuid>, Error> {
    let rows = |changes: &Changes| (changes.count_changed_rows() + changes.aliases.len()) as u64;
    let decided: HashMap<Uuid, u64> = all.iter().map(|one| (one.user_id, rows(&one.changes))).collect();
    let mut parts = Parts::default();
    let heads: Vec<_> = all
        .iter()
        .map(|one| (one.user_id, one.read_version.revision, one.read_version.feed_head, one.changes.head))
        .collect();
    let moved = dialect::sql_move_feed_heads_if_unchanged(heads, &mut parts.values);
    let models = Models::from_decisions(all);
    parts.add_rows(models.changed_types, Existing::Replace, Owners::Moved)?;
    parts.add_rows(models.changed_events, Existing::Replace, Owners::Moved)?;
    parts.add_rows(models.new_types, Existing::None, Owners::Moved)?;
    parts.add_rows(models.new_events, Existing::None, Owners::Moved)?;
    parts.add_rows(models.aliases, Existing::None, Owners::Moved)?;
    let (with, written) = parts.take_sql_ctes();
    let wanted = dialect::sql_decided_row_count(&decided, &mut parts.values);
    // If the number of rows differs from the decision the statement divides by zero, and writes nothing.
    let statement = parts.build_statement(format!(
        "WITH {moved}, {with}, counts AS (SELECT {written} AS written, {wanted} AS decided) \
         SELECT m.user_id, c.written, 1 / (c.written = c.decided)::integer FROM moved m CROSS JOIN counts c"
    ));
    let (mut stored, mut written) = (HashSet::new(), 0);
    let sent = connections.run_write(statement, |row| {
        let mut reader = RowReader::new(row, 0);
        stored.insert(reader.next()?);
        written = u64::try_from(reader.next::<i64>()?).unwrap_or_default();
        Ok(ControlFlow::Continue(()))
    });
    sent.await.map_err(convert_and_report_checked_write_error)?;
    check_row_count(stored.iter().filter_map(|user_id| decided.get(user_id)).sum(), written)?;
    Ok(stored)
}
