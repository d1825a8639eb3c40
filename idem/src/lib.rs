//! The composition root: reads the settings, opens what is needed, and wires domain, api and worker.

mod cli;
mod config;
mod healthcheck;
mod import;
mod lifecycle;
mod open_files;
mod payloads;
mod readiness;
mod telemetry;
mod token;

pub use token::sign as sign_token;

use std::process::ExitCode;

use clap::Parser;
use service::Clock;

use cli::{Cli, Command, ServeArgs};
use config::{Config, default_file, process_env};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code of a command line that cannot be read: 2 means that an import refused some records.
const USAGE: u8 = 64;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _unprinted = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("idem: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(cli.command)).unwrap_or_else(|error| {
        eprintln!("idem: {error:#}");
        ExitCode::FAILURE
    });
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    code
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => lifecycle::serve(load(&args)?, &args).await?,
        Command::Worker => lifecycle::work(Config::load(&[], process_env(), false)?).await?,
        Command::Migrate { check, refill } => {
            return lifecycle::migrate(&Config::load(&[], process_env(), false)?, check, refill).await;
        }
        Command::Restored => lifecycle::restored(&Config::load(&[], process_env(), false)?).await?,
        Command::Schema => print!("{}", api::sdl()),
        Command::Config { check } => {
            if check {
                Config::load(&[], process_env(), false)?.require_keys()?;
                println!("ok");
            } else {
                print!("{}", default_file());
            }
        }
        Command::Token { subject, ttl } => println!("{}", sign(&subject, ttl)?),
        Command::Import(args) => return import::run(&args).await,
        Command::Healthcheck { url } => {
            let url = match url {
                Some(url) => url,
                None => healthcheck::local_url(Config::load(&[], process_env(), false)?.listen),
            };
            return Ok(healthcheck::run(&url).await);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn load(args: &ServeArgs) -> anyhow::Result<Config> {
    Config::load(&args.overrides(), process_env(), args.dev)
}

fn sign(subject: &str, ttl: std::time::Duration) -> anyhow::Result<String> {
    let config = Config::load(&[], process_env(), false)?;
    let (issuer, audience) = (config.jwt_issuers.first(), config.jwt_audience.as_deref());
    let secret = config.signing_secret()?;
    token::sign(&secret, subject, issuer.map(String::as_str), audience, ttl, Clock::System.now_ms())
}
