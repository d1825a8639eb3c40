//! Defines the command line: commands, flags and their help texts. What a command does is in other modules.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::parse_duration;
use crate::import::ImportArgs;
use crate::stats::StatsArgs;

/// Idem, an offline-first event API: an event that is sent twice is stored once
#[derive(Debug, Parser)]
#[command(name = "idem", version, about, after_help = EXAMPLES)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  idem serve --dev                 start a development server, which prints a token to use
  idem config > idem.toml          write a file with all settings and what they do
  idem token --subject ada         print a token for the user `ada`
  idem import events.ndjson --url http://127.0.0.1:8080 --token \"$TOKEN\"

Settings: a flag overrides the environment variable (IDEM_…), which overrides the file idem.toml
(or the one that IDEM_CONFIG names), which overrides the default. `idem config` lists them all.";

/// The commands of `idem`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API and run imports (unless --no-worker is given)
    Serve(ServeArgs),
    /// Run imports only; servers and workers share the database, Redis and the payload store
    #[command(
        after_help = "Example:\n  IDEM_DATABASE_URL=postgres://db IDEM_REDIS_URL=redis://cache idem worker"
    )]
    Worker,
    /// Apply the migrations that the database lacks, and fill the columns that are derived from others
    #[command(
        after_help = "Examples:\n  idem migrate\n  idem migrate --check     # is a migration pending? changes nothing\n  \
                      idem migrate --refill    # after the last process of an older version has stopped"
    )]
    Migrate {
        /// Only print how many migrations are pending; the exit code is 1 if there are any
        #[arg(long, conflicts_with = "refill")]
        check: bool,
        /// Fill the derived columns of all rows again; needed if an older version still wrote to the database
        /// during an upgrade
        #[arg(long)]
        refill: bool,
    },
    /// Make every device sync from the start; run it each time a backup of the database was restored
    #[command(
        after_help = "Example:\n  idem restored   # after the restore, before any server or worker starts"
    )]
    Restored,
    /// Print the GraphQL schema
    #[command(after_help = "Example:\n  idem schema > schema.graphql")]
    Schema,
    /// Print a settings file in which every setting is explained and commented out
    #[command(after_help = "Examples:\n  idem config > idem.toml\n  idem config --check")]
    Config {
        /// Only check the current settings: print `ok`, or what is wrong and exit with 1
        #[arg(long)]
        check: bool,
    },
    /// Print an API token for a user, signed with the first secret of IDEM_JWT_SECRET, or else with that of
    /// `idem serve --dev`
    #[command(after_help = "Example:\n  export IDEM_TOKEN=$(idem token --subject ada --ttl 7d)")]
    Token {
        /// The user: the `sub` claim of the token
        #[arg(long, value_name = "SUBJECT")]
        subject: String,
        /// How long the token is valid, for example 30m, 24h or 7d
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_duration)]
        ttl: Duration,
    },
    /// Upload a file of events to a server and wait until it is stored
    Import(Box<ImportArgs>),
    /// Count and add up the events of a user in days, weeks, months and years
    Stats(Box<StatsArgs>),
    /// Check whether a server is ready: exit code 0 if it is, 1 if not
    #[command(after_help = "Example:\n  idem healthcheck --url http://127.0.0.1:8080")]
    Healthcheck {
        /// Base URL of the server [default: this machine, at the port of IDEM_LISTEN]
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
}

/// The arguments of `idem serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  idem serve --dev\n  idem serve --listen 0.0.0.0:8080 --data-dir /var/lib/idem"
)]
pub struct ServeArgs {
    /// For development: accept connections and web pages of this machine only, create a signing secret if
    /// none is set, print a token, log as text
    #[arg(long)]
    pub dev: bool,
    /// Run no imports in this process, but leave them to `idem worker`; needs Redis
    #[arg(long)]
    pub no_worker: bool,
    /// Do not apply migrations at the start; run `idem migrate` before the server
    #[arg(long)]
    pub no_migrate: bool,
    /// Address and port of the API [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Address and port of /metrics [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_listen: Option<String>,
    /// Directory of the SQLite database and the payloads [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Database URL, sqlite://… or postgres://… [default: the SQLite file idem.db in the data directory]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// URL of Redis, which holds the import queue [default: none, the queue is in this process]
    #[arg(long, value_name = "URL")]
    pub redis_url: Option<String>,
}

impl ServeArgs {
    /// The settings that were given as flags, as pairs of key and value that override all other sources (see
    /// [`Config::load`](crate::config::Config::load)).
    #[must_use]
    pub fn to_setting_overrides(&self) -> Vec<(&'static str, String)> {
        let flags = [
            ("listen", &self.listen),
            ("metrics_listen", &self.metrics_listen),
            ("data_dir", &self.data_dir),
            ("database_url", &self.database_url),
            ("redis_url", &self.redis_url),
        ];
        flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_that_are_given_become_overrides() -> anyhow::Result<()> {
        let cli = Cli::try_parse_from(["idem", "serve", "--dev", "--listen", "127.0.0.1:1"])?;
        let Command::Serve(args) = cli.command else { anyhow::bail!("serve is serve") };
        assert!(args.dev && !args.no_worker);
        assert_eq!(args.to_setting_overrides(), [("listen", "127.0.0.1:1".to_owned())]);
        Ok(())
    }
}
