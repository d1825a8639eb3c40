//! The command line: its words and their help, nothing of what they do.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::parse_duration;
use crate::import::ImportArgs;

/// The offline-first event API: send it twice, it is stored once.
#[derive(Debug, Parser)]
#[command(name = "idem", version, about, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  idem serve --dev                          a server to try things on; prints a token
  idem config > idem.toml                   a file of all settings, commented
  idem token --subject ada                  a token for one user
  idem import events.ndjson --url http://127.0.0.1:8080 --token \"$TOKEN\"

Settings: flags > environment (IDEM_…) > idem.toml (or the file IDEM_CONFIG names) > defaults.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API, and run imports unless told otherwise
    Serve(ServeArgs),
    /// Run imports only, beside servers that share the database and Redis
    #[command(
        after_help = "Example:\n  IDEM_DATABASE_URL=postgres://db IDEM_REDIS_URL=redis://cache idem worker"
    )]
    Worker,
    /// Bring the database to this version's shape
    #[command(
        after_help = "Examples:\n  idem migrate\n  idem migrate --check   # for a deployment to ask first"
    )]
    Migrate {
        /// Change nothing; fail when a migration is pending
        #[arg(long, conflicts_with = "refill")]
        check: bool,
        /// Fill derived columns once more, after an older version has written beside this one
        #[arg(long)]
        refill: bool,
    },
    /// Tell every device to start over, after a backup of the database was restored
    #[command(after_help = "Example:\n  idem restored   # before the servers are started again")]
    Restored,
    /// Print the GraphQL schema
    #[command(after_help = "Example:\n  idem schema > schema.graphql")]
    Schema,
    /// Print a file of all settings, commented, with their defaults
    #[command(after_help = "Examples:\n  idem config > idem.toml\n  idem config --check")]
    Config {
        /// Print nothing; fail when the settings in force are wrong
        #[arg(long)]
        check: bool,
    },
    /// Print a token, signed with the first secret
    #[command(after_help = "Example:\n  export IDEM_TOKEN=$(idem token --subject ada --ttl 7d)")]
    Token {
        /// Whose token it is
        #[arg(long, value_name = "S")]
        subject: String,
        /// How long it is good, as in 30m, 24h, 7d
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_duration)]
        ttl: Duration,
    },
    /// Send a file of events to a server and wait until it is stored
    Import(Box<ImportArgs>),
    /// Ask a server whether it is ready; the exit code is the answer
    #[command(after_help = "Example:\n  idem healthcheck --url http://127.0.0.1:8080")]
    Healthcheck {
        /// The server; without it, where the settings say that one listens
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
}

/// What `idem serve` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  idem serve --dev\n  idem serve --listen 0.0.0.0:8080 --data-dir /var/lib/idem"
)]
pub struct ServeArgs {
    /// For development: this machine only, with a secret of its own and a token to paste
    #[arg(long)]
    pub dev: bool,
    /// Leave imports to `idem worker`; needs Redis
    #[arg(long)]
    pub no_worker: bool,
    /// Leave the database's shape to `idem migrate`
    #[arg(long)]
    pub no_migrate: bool,
    /// Address and port of the API [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Address and port of /metrics [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_listen: Option<String>,
    /// Where the embedded database and payloads live [default: ./data]
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<String>,
    /// The database [default: idem.db in the data directory, by SQLite]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Redis for queue and wake-ups [default: none, both in this process]
    #[arg(long, value_name = "URL")]
    pub redis_url: Option<String>,
}

impl ServeArgs {
    /// The settings among them, as [`Config::load`](crate::config::Config::load) takes them.
    #[must_use]
    pub fn overrides(&self) -> Vec<(&'static str, String)> {
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
        assert_eq!(args.overrides(), [("listen", "127.0.0.1:1".to_owned())]);
        Ok(())
    }
}
