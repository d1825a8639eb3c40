//! The session of a connection to PostgreSQL: what is set on it, and that it is set.
//!
//! Settings are sent as statements and not as options of the startup message, which poolers refuse or ignore, and
//! are read back in a statement of their own.

use std::collections::HashMap;

use sea_orm::sqlx::postgres::PgRow;
use sea_orm::sqlx::{self, AssertSqlSafe, Executor, PgConnection, Row};

/// What is set on a connection: names of PostgreSQL's settings and their values.
#[derive(Debug, Clone, Default)]
pub struct Session {
    settings: Vec<(&'static str, String)>,
}

impl Session {
    /// Adds a setting, or gives it another value. One that the server does not know, because it is older, is left out.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.settings.retain(|(other, _)| *other != name);
        self.settings.push((name, value.to_string()));
        self
    }
}

/// Sets what is to be set, and reads it back.
///
/// # Errors
/// If the server refuses a setting or has not kept it: then a pooler in between gives each statement to another
/// session.
pub(super) async fn prepare(connection: &mut PgConnection, session: &Session) -> Result<(), sqlx::Error> {
    let rows = session.settings.iter().map(|(name, value)| format!("('{name}', '{value}')"));
    let wanted = rows.collect::<Vec<_>>().join(", ");
    // `off` acknowledges what a crash loses, and `local` what a failover loses; any stronger setting is kept.
    let set = format!(
        "SELECT name, set_config(name, value, false) FROM (VALUES {wanted}, ('synchronous_commit', \
         CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' WHEN 'local' THEN 'on' \
         ELSE current_setting('synchronous_commit') END)) AS wanted(name, value) \
         WHERE EXISTS (SELECT FROM pg_settings known WHERE known.name = wanted.name)"
    );
    let set = connection.fetch_all(AssertSqlSafe(set)).await?;
    let set = set.iter().map(cells).collect::<Result<Vec<_>, _>>()?;
    let names = set.iter().map(|(name, _)| format!("('{name}')")).collect::<Vec<_>>().join(", ");
    let read = format!("SELECT name, current_setting(name) FROM (VALUES {names}) AS asked(name)");
    let read = connection.fetch_all(AssertSqlSafe(read)).await?;
    let kept = read.iter().map(cells).collect::<Result<HashMap<_, _>, _>>()?;
    for (name, value) in &set {
        if kept.get(name) != Some(value) {
            let lost =
                format!("{name} was set to {value} and is not: is there a pooler that shares sessions?");
            return Err(sqlx::Error::Configuration(lost.into()));
        }
    }
    Ok(())
}

fn cells(row: &PgRow) -> Result<(String, String), sqlx::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}
