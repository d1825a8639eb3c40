//! Runs the commands of `idem`: reads the command line and the settings, then starts the API and the worker.
//!
//! This crate is the composition root. It connects the other crates and holds no rules about events itself.

mod cli;
mod config;
mod database;
mod healthcheck;
mod import;
mod lifecycle;
mod open_files;
mod payloads;
mod readiness;
mod stats;
mod telemetry;
mod terminal;
mod token;

pub use token::sign_token;

use std::process::ExitCode;

use clap::Parser;
use service::Clock;

use cli::{Cli, Command, ServeArgs};
use config::{Config, process_env, render_default_settings_file};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for a command line that cannot be parsed (`EX_USAGE` of sysexits.h). The usual 2 already means
/// that an import rejected some records.
const EXIT_USAGE: u8 = 64;

/// Runs the command that the arguments of this process name to its end, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _unprinted = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("idem: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run_command(cli.command)).unwrap_or_else(|error| {
        eprintln!("idem: {error:#}");
        ExitCode::FAILURE
    });
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    code
}

async fn run_command(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => lifecycle::run_server(load_serve_config(&args)?, &args).await?,
        Command::Worker => lifecycle::run_worker(Config::load(&[], process_env(), false)?).await?,
        Command::Migrate { check, refill } => {
            return database::migrate(&Config::load(&[], process_env(), false)?, check, refill).await;
        }
        Command::Restored => {
            database::reset_feeds_after_restore(&Config::load(&[], process_env(), false)?).await?
        }
        Command::Schema => print!("{}", api::sdl()),
        Command::Config { check } => {
            if check {
                Config::load(&[], process_env(), false)?.require_token_keys()?;
                println!("ok");
            } else {
                print!("{}", render_default_settings_file());
            }
        }
        Command::Token { subject, ttl } => println!("{}", sign_user_token(&subject, ttl)?),
        Command::Import(args) => return import::run_import(&args).await,
        Command::Stats(args) => return stats::run_stats(&args).await,
        Command::Healthcheck { url } => {
            let url = match url {
                Some(url) => url,
                None => healthcheck::local_server_url(Config::load(&[], process_env(), false)?.listen),
            };
            return Ok(healthcheck::run_healthcheck(&url).await);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn load_serve_config(args: &ServeArgs) -> anyhow::Result<Config> {
    Config::load(&args.to_setting_overrides(), process_env(), args.dev)
}

fn sign_user_token(subject: &str, ttl: std::time::Duration) -> anyhow::Result<String> {
    let config = Config::load(&[], process_env(), false)?;
    let (issuer, audience) = (config.jwt_issuers.first(), config.jwt_audience.as_deref());
    let secret = config.signing_secret()?;
    sign_token(&secret, subject, issuer.map(String::as_str), audience, ttl, Clock::System.now_ms())
}
