//! Rows of several tables as one statement of PostgreSQL: a CTE for each table, and one for the heads.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use sea_orm::{ActiveModelTrait, ConnectionTrait, DbBackend, EntityName, Statement, Value};
use uuid::Uuid;

use super::{Decision, Models, contradicted, count, miscounted};
use crate::Tx;
use crate::bulk::{self, Existing, Owners};
use crate::dialect;
use crate::error::Error;
use crate::pool::Pool;
use crate::row_reader::RowReader;
use domain::apply::Changes;

/// What the statement is made of.
#[derive(Default)]
pub(super) struct Parts {
    /// The text of each, with its table.
    parts: Vec<(&'static str, String)>,
    values: Vec<Value>,
    decided: u64,
}

impl Parts {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Parts do not see each other, and of one table what one gives up another may take.
    pub(super) fn has(&self, table: &str) -> bool {
        self.parts.iter().any(|(other, _)| *other == table)
    }

    /// Rows, if there are any, that are all there already or all not.
    pub(super) fn rows<Row: ActiveModelTrait>(
        &mut self,
        rows: Vec<Row>,
        existing: Existing,
        owners: Owners,
    ) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        self.decided += rows.len() as u64;
        let part = bulk::insert(rows, existing, owners, &mut self.values)?;
        self.parts.push((Row::Entity::default().table_name(), part));
        Ok(())
    }

    /// Heads that are locked: user, from, to.
    pub(super) fn heads(&mut self, heads: Vec<(Uuid, i64, i64)>) {
        self.decided += heads.len() as u64;
        let part = dialect::move_heads(heads, &mut self.values);
        self.parts.push(("account", part));
    }

    /// Writes all of it.
    pub(super) async fn send(&mut self, tx: &Tx) -> Result<(), Error> {
        let (with, written) = self.take();
        let statement = self.statement(format!("WITH {with} SELECT {written} AS written"));
        let row = tx.inner.query_one_raw(statement).await.map_err(contradicted)?;
        let row = row.ok_or(Error::Bug("a sum is one row"))?;
        let written = u64::try_from(row.try_get_by_index::<i64>(0)?).unwrap_or_default();
        count(std::mem::take(&mut self.decided), written)
    }

    /// The parts as CTEs, and how many rows they have written.
    fn take(&mut self) -> (String, String) {
        let parts: Vec<String> = self.parts.drain(..).map(|(_, part)| part).collect();
        let with = parts.iter().enumerate().map(|(n, part)| format!("p{n} AS ({part} RETURNING 1)"));
        let written = (0..parts.len()).map(|n| format!("(SELECT count(*) FROM p{n})"));
        (with.collect::<Vec<_>>().join(", "), written.collect::<Vec<_>>().join(" + "))
    }

    fn statement(&mut self, sql: String) -> Statement {
        Statement::from_sql_and_values(DbBackend::Postgres, sql, std::mem::take(&mut self.values))
    }
}

/// Whether what is to be written of a user can be written by one statement.
pub(super) fn is_one_statement(changes: &Changes) -> bool {
    let has_both = |new: usize, changed: usize| new > 0 && changed > 0;
    changes.recorded_edit_ids.is_empty()
        && changes.finalized_deletions.is_empty()
        // Two types may exchange their names.
        && changes.changed_types.len() < 2
        && !has_both(changes.new_types.len(), changes.changed_types.len())
        && !has_both(changes.new_events.len(), changes.changed_events.len())
}

/// Writes what was decided without a lock, of those users whose row of the account is still the one that was
/// read and is held by nobody. Returns them.
pub(super) async fn send_if_unchanged(
    connections: &Pool,
    all: Vec<Decision>,
) -> Result<HashSet<Uuid>, Error> {
    let rows = |changes: &Changes| (changes.changed_rows() + changes.aliases.len()) as u64;
    let decided: HashMap<Uuid, u64> = all.iter().map(|one| (one.user_id, rows(&one.changes))).collect();
    let mut parts = Parts::default();
    let heads: Vec<_> = all
        .iter()
        .map(|one| (one.user_id, one.read_version.revision, one.read_version.feed_head, one.changes.head))
        .collect();
    let moved = dialect::move_unchanged_heads(heads, &mut parts.values);
    let models = Models::of(all);
    parts.rows(models.changed_types, Existing::Replace, Owners::Moved)?;
    parts.rows(models.changed_events, Existing::Replace, Owners::Moved)?;
    parts.rows(models.new_types, Existing::None, Owners::Moved)?;
    parts.rows(models.new_events, Existing::None, Owners::Moved)?;
    parts.rows(models.aliases, Existing::None, Owners::Moved)?;
    let (with, written) = parts.take();
    let wanted = dialect::decided_of_moved(&decided, &mut parts.values);
    // A count that is not the one decided divides by zero, and nothing is written.
    let statement = parts.statement(format!(
        "WITH {moved}, {with}, counts AS (SELECT {written} AS written, {wanted} AS decided) \
         SELECT m.user_id, c.written, 1 / (c.written = c.decided)::integer FROM moved m CROSS JOIN counts c"
    ));
    let (mut stored, mut written) = (HashSet::new(), 0);
    let sent = connections.write(statement, |row| {
        let mut cells = RowReader::new(row, 0);
        stored.insert(cells.next()?);
        written = u64::try_from(cells.next::<i64>()?).unwrap_or_default();
        Ok(ControlFlow::Continue(()))
    });
    sent.await.map_err(|error| match error {
        error if error.is_division_by_zero() => miscounted(),
        Error::Database(error) => contradicted(error),
        other => other,
    })?;
    count(stored.iter().filter_map(|user_id| decided.get(user_id)).sum(), written)?;
    Ok(stored)
}
