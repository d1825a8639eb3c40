//! Prepares what a scenario works on: a server with a database of its own, and a copy of that database for
//! the counterpart, with the same users, rows and indexes.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use serde_json::json;
use tempfile::TempDir;

use crate::Bench;
use crate::content::{FIRST_MS, NOTES, PROPERTIES, TYPE_ID};
use crate::http::Connection;
use crate::postgres::{Postgres, script};
use crate::server::{ISSUER, Server};

const CREATE_TYPE: &str = "mutation($input: CreateEventTypeInput!) { createEventType(input: $input) { \
    result { outcome problem { code detail } } } }";

/// A server and its data.
pub struct Stage<'a> {
    bench: &'a Bench,
    /// The server.
    pub server: Server,
    databases: Option<Databases<'a>>,
    _folder: TempDir,
}

struct Databases<'a> {
    postgres: &'a Postgres,
    ours: String,
    copy: String,
}

impl<'a> Stage<'a> {
    /// A stage on PostgreSQL with this many users and `rows` events in total. Each user has the same number
    /// of events, and the rows are in the order in which they would have come in.
    pub async fn on_postgres(bench: &'a Bench, name: &str, users: usize, rows: u64) -> anyhow::Result<Self> {
        Self::with_external_ids(bench, name, users, rows, "NULL").await
    }

    /// As [`Self::on_postgres`], with this SQL expression as the external id of row `m`.
    pub async fn with_external_ids(
        bench: &'a Bench,
        name: &str,
        users: usize,
        rows: u64,
        external_id: &str,
    ) -> anyhow::Result<Self> {
        let postgres = bench.postgres()?;
        let (ours, copy) = (format!("{name}_ours"), format!("{name}_copy"));
        postgres.create(&ours)?;
        bench.program.migrate(&postgres.url(&ours))?;
        let folder = tempfile::tempdir_in(bench.folder.path())?;
        let values = [("users", users.to_string()), ("issuer", ISSUER.to_owned())];
        let accounts = script(folder.path(), "accounts.sql", include_str!("../sql/accounts.sql"), &values)?;
        postgres.run(&ours, &accounts)?;

        let url = postgres.url(&ours);
        let server = bench.program.serve(folder.path(), Some(&url)).await?;
        create_types(bench, &server, users).await?;
        server.stop()?;
        let fill = fill_script(folder.path(), users, rows / users as u64, external_id)?;
        postgres.run(&ours, &fill)?;
        postgres.query(&ours, "VACUUM ANALYZE")?;
        postgres.copy(&ours, &copy)?;
        let server = bench.program.serve(folder.path(), Some(&url)).await?;
        Ok(Self { bench, server, databases: Some(Databases { postgres, ours, copy }), _folder: folder })
    }

    /// A stage on a copy of this SQLite database.
    pub async fn on_sqlite(bench: &'a Bench, template: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(bench.folder.path())?;
        std::fs::copy(template, folder.path().join("idem.db"))?;
        let server = bench.program.serve(folder.path(), None).await?;
        Ok(Self { bench, server, databases: None, _folder: folder })
    }

    /// The token of a user; the first one is 0.
    pub fn token(&self, user: usize) -> &str {
        &self.bench.tokens[user]
    }

    /// The URL of the copy of the database. It is empty on SQLite.
    pub fn url_of_copy(&self) -> String {
        self.databases.as_ref().map_or_else(String::new, |databases| databases.postgres.url(&databases.copy))
    }

    /// The CPU time of PostgreSQL in seconds. It is 0 on SQLite, which runs inside the server.
    pub fn postgres_cpu(&self) -> anyhow::Result<f64> {
        self.databases.as_ref().map_or(Ok(0.0), |databases| databases.postgres.cpu())
    }

    /// Makes a checkpoint, so that the next measurement does not pay for earlier writes.
    pub fn settle(&self) -> anyhow::Result<()> {
        self.databases.as_ref().map_or(Ok(()), |databases| databases.postgres.checkpoint())
    }

    /// Stops the server and drops the databases.
    pub fn end(self) -> anyhow::Result<()> {
        self.server.stop()?;
        if let Some(databases) = self.databases {
            databases.postgres.drop(&databases.ours)?;
            databases.postgres.drop(&databases.copy)?;
        }
        Ok(())
    }
}

async fn create_types(bench: &Bench, server: &Server, users: usize) -> anyhow::Result<()> {
    let mut connection = Connection::open(server.address).await?;
    let input = json!({ "input": { "eventType": { "id": TYPE_ID, "name": "Run" } } });
    for token in &bench.tokens[..users] {
        let data = connection.graphql(token, CREATE_TYPE, input.clone()).await?;
        ensure!(data["createEventType"]["result"]["outcome"] == "CREATED", "{data}");
    }
    Ok(())
}

fn fill_script(
    folder: &Path,
    users: usize,
    events_per_user: u64,
    external_id: &str,
) -> anyhow::Result<PathBuf> {
    let values = [
        ("external_id", external_id.to_owned()),
        ("users", users.to_string()),
        ("events_per_user", events_per_user.to_string()),
        ("first_ms", FIRST_MS.to_string()),
        ("type_id", TYPE_ID.to_owned()),
        ("notes", NOTES.to_owned()),
        ("properties", PROPERTIES.to_owned()),
    ];
    script(folder, "fill.sql", include_str!("../sql/fill.sql"), &values)
}
