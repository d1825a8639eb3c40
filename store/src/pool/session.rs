//! Applies the settings of a PostgreSQL session, and checks that they took effect (decision 0058).
//!
//! Settings are sent as statements, because poolers refuse or ignore the options of the startup message. They
//! are read back in a statement of their own, which a pooler that shares sessions would give to another
//! session.

use std::collections::HashMap;

use sea_orm::sqlx::postgres::PgRow;
use sea_orm::sqlx::{self, AssertSqlSafe, Executor, PgConnection, Row};

/// The settings of a session: names of PostgreSQL's parameters and their values.
#[derive(Debug, Clone, Default)]
pub struct Session {
    settings: Vec<(&'static str, String)>,
}

impl Session {
    /// Adds a setting, or replaces its value. A setting that an older server does not know is left out.
    #[must_use]
    pub fn with_setting(mut self, name: &'static str, value: impl ToString) -> Self {
        self.settings.retain(|(other, _)| *other != name);
        self.settings.push((name, value.to_string()));
        self
    }
}

/// Applies the settings to a connection, and reads them back. It also sets `synchronous_commit` to `on` where
/// it is `off` or `local`.
///
/// # Errors
/// [`sqlx::Error::Database`] if the server refuses a setting. [`sqlx::Error::Configuration`] if a setting was
/// not kept; then a pooler in between gives each statement to another session.
pub(super) async fn apply_settings(
    connection: &mut PgConnection,
    session: &Session,
) -> Result<(), sqlx::Error> {
    let rows = session.settings.iter().map(|(name, value)| format!("('{name}', '{value}')"));
    let wanted = rows.collect::<Vec<_>>().join(", ");
    // `synchronous_commit = off` acknowledges writes that a crash loses, and `local` writes that a failover
    // loses. Both become `on`, and any stronger value is kept.
    let set = format!(
        "SELECT name, set_config(name, value, false) FROM (VALUES {wanted}, ('synchronous_commit', \
         CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' WHEN 'local' THEN 'on' \
         ELSE current_setting('synchronous_commit') END)) AS wanted(name, value) \
         WHERE EXISTS (SELECT FROM pg_settings known WHERE known.name = wanted.name)"
    );
    let set = connection.fetch_all(AssertSqlSafe(set)).await?;
    let set = set.iter().map(read_name_and_value).collect::<Result<Vec<_>, _>>()?;
    let names = set.iter().map(|(name, _)| format!("('{name}')")).collect::<Vec<_>>().join(", ");
    let read = format!("SELECT name, current_setting(name) FROM (VALUES {names}) AS asked(name)");
    let read = connection.fetch_all(AssertSqlSafe(read)).await?;
    let kept = read.iter().map(read_name_and_value).collect::<Result<HashMap<_, _>, _>>()?;
    for (name, value) in &set {
        if kept.get(name) != Some(value) {
            let detail = format!(
                "the setting {name} = {value} was not kept; connect without a pooler that shares sessions"
            );
            return Err(sqlx::Error::Configuration(detail.into()));
        }
    }
    Ok(())
}

fn read_name_and_value(row: &PgRow) -> Result<(String, String), sqlx::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}
