//! Loads and checks all settings, once at the start. Flags override the environment, which overrides
//! `idem.toml`, which overrides the defaults. A wrong setting is an error that names it.

mod dev;
mod duration;
mod setting;
mod source;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use domain::limits::{RATE_LIMIT_MAX, RateLimit};
use reqwest::Url;
use service::Failover;
use tracing_subscriber::EnvFilter;

pub use self::duration::parse_duration;
pub use self::setting::render_default_settings_file;

use self::source::Sources;

/// An HS256 key must be at least as long as the hash output (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// The web origins whose pages may call a development server by default: those of this machine, on any port.
const DEV_ORIGINS: [&str; 3] = ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"];

/// The log filter of a development server. Libraries log warnings only, because their lines about migrations
/// and workers would hide the token that `--dev` prints.
const DEV_LOG: &str = "info,sqlx=warn,sea_orm_migration=warn,apalis_core=warn";

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Pretty,
    /// One JSON object per line, for programs.
    Json,
}

/// The settings of one process. There is no `Debug`, because some of them are secrets.
#[derive(Clone)]
pub struct Config {
    /// The address and port of the API.
    pub listen: SocketAddr,
    /// The address and port of `/metrics`.
    pub metrics_listen: SocketAddr,
    /// The directory of the SQLite database, the payloads and the development secret.
    pub data_dir: PathBuf,
    /// The URL of the database: `sqlite:…` or `postgres://…`.
    pub database_url: String,
    /// Whether acknowledged writes may be lost when another PostgreSQL server takes over.
    pub failover: Failover,
    /// The URL of Redis for the import queue. `None` keeps the queue inside this process.
    pub redis_url: Option<String>,
    /// The URL of the object store for payloads.
    pub payload_url: String,
    /// How long the payload of an import is kept after the import has ended.
    pub payload_retention: Duration,
    /// How many imports of one user may run at the same time.
    pub imports_running_max: u64,
    /// How many imports of one user may wait for their payload or for a worker.
    pub imports_waiting_max: u64,
    /// How many records the imports of one user may process in 24 hours. `None` is unlimited.
    pub import_records_a_day: Option<u64>,
    /// How many payload bytes one user may announce in 24 hours. `None` is unlimited.
    pub import_bytes_a_day: Option<u64>,
    /// How many client connections may be open at the same time.
    pub connections_max: usize,
    /// The rate limit of each user, counted in this process only. `None` is unlimited.
    pub rate_limit: Option<RateLimit>,
    /// HS256 secrets. Each of them verifies tokens, and the first one signs.
    pub jwt_secrets: Vec<String>,
    /// The key set (JWKS) with the public keys of the issuer: a file or an `http(s)` URL.
    pub jwks: Option<String>,
    /// The accepted `iss` claims. If there are none, every issuer is accepted.
    pub jwt_issuers: Vec<String>,
    /// The `aud` claim that tokens must have. `None`: `aud` is not checked.
    pub jwt_audience: Option<String>,
    /// Web origins that may call the API, as `scheme://host[:port]`. The port `*` stands for any port or
    /// none.
    pub cors_origins: Vec<String>,
    /// Request headers that pages of other origins may send, in addition to the built-in ones (CORS).
    pub cors_headers: Vec<String>,
    /// The log filter: a level, or directives of `tracing_subscriber`.
    pub log: String,
    /// The log format. `None` is text if stderr is a terminal, else JSON.
    pub log_format: Option<LogFormat>,
    /// How long `/readyz` responds 503 at shutdown before the listener closes.
    pub drain_delay: Duration,
    /// Whether this is a development server (`--dev`).
    pub dev: bool,
}

impl Config {
    /// Whether the database is SQLite.
    pub fn is_sqlite(&self) -> bool {
        self.database_url.starts_with("sqlite:")
    }

    /// Loads and checks the settings from flags, environment and settings file. `overrides` are the flags, as
    /// key and value. `env` is the environment (see [`process_env`]); only its names that begin with `IDEM_`
    /// are read. With `dev`, a signing secret is written to the data directory if none is set, pages of this
    /// machine are allowed, and the log has other defaults.
    ///
    /// # Errors
    /// If a key is unknown, a value is not valid, a file cannot be read, a secret is too short, or `dev` is
    /// set and an address is not a loopback address or the secret cannot be created.
    pub fn load(
        overrides: &[(&str, String)],
        env: impl IntoIterator<Item = (String, String)>,
        dev: bool,
    ) -> anyhow::Result<Self> {
        let sources = Sources::read_all(overrides, env)?;
        let data_dir = PathBuf::from(sources.get_or_default("data_dir")?);
        let redis_url = sources.read_setting_value("redis_url")?;
        let log = match sources.read_setting_value("log")? {
            None if dev => DEV_LOG.to_owned(),
            _ => sources.get_or_default("log")?,
        };
        let drain_delay = match sources.read_setting_value("drain_delay")? {
            Some(text) => parse_duration(&text).context("in setting `drain_delay`")?,
            None if redis_url.is_some() => Duration::from_secs(5),
            None => Duration::ZERO,
        };
        let secrets = sources.read_setting_value("jwt_secret")?.unwrap_or_default();
        let mut config = Self {
            listen: parse_address(&sources, "listen")?,
            metrics_listen: parse_address(&sources, "metrics_listen")?,
            database_url: read_url_expanding_data_dir(&sources, "database_url", &data_dir)?,
            failover: parse_failover(&sources.get_or_default("failover")?)?,
            redis_url,
            payload_url: read_url_expanding_data_dir(&sources, "payload_url", &data_dir)?,
            payload_retention: parse_duration(&sources.get_or_default("payload_retention")?)
                .context("in setting `payload_retention`")?,
            imports_running_max: parse_count(
                "imports_running_max",
                &sources.get_or_default("imports_running_max")?,
            )?,
            imports_waiting_max: parse_count(
                "imports_waiting_max",
                &sources.get_or_default("imports_waiting_max")?,
            )?,
            import_records_a_day: parse_optional_count(&sources, "import_records_a_day")?,
            import_bytes_a_day: parse_optional_count(&sources, "import_bytes_a_day")?,
            connections_max: parse_connections_max(&sources.get_or_default("connections_max")?)?,
            rate_limit: parse_rate_limit(&sources)?,
            jwt_secrets: secrets
                .lines()
                .map(str::trim)
                .filter(|it| !it.is_empty())
                .map(str::to_owned)
                .collect(),
            jwks: sources.read_setting_value("jwks")?,
            jwt_issuers: sources.get_list("jwt_issuer")?,
            jwt_audience: sources.read_setting_value("jwt_audience")?,
            cors_origins: sources.get_list("cors_origins")?,
            cors_headers: sources.get_list("cors_headers")?,
            log,
            log_format: parse_log_format(sources.read_setting_value("log_format")?.as_deref())?,
            drain_delay,
            data_dir,
            dev,
        };
        if dev {
            config.check_and_apply_dev_mode()?;
        }
        config.check_values()?;
        Ok(config)
    }

    /// Checks that a secret or a key set to verify tokens with is configured. Does not load the key set.
    ///
    /// # Errors
    /// If neither a secret nor a key set is configured.
    pub fn require_token_keys(&self) -> anyhow::Result<()> {
        ensure!(
            !self.jwt_secrets.is_empty() || self.jwks.is_some(),
            "no key to verify tokens: set IDEM_JWT_SECRET, IDEM_JWT_SECRET_FILE or IDEM_JWKS, or use --dev"
        );
        Ok(())
    }

    /// The secret that tokens are signed with: the first configured one, else the one that `idem serve --dev`
    /// created in the data directory.
    ///
    /// # Errors
    /// If there is neither of them, or the file of `--dev` cannot be read.
    pub fn signing_secret(&self) -> anyhow::Result<String> {
        if let Some(secret) = self.jwt_secrets.first() {
            return Ok(secret.clone());
        }
        dev::load_secret(&self.data_dir)?.context(
            "no secret to sign with: set IDEM_JWT_SECRET, or run `idem serve --dev` once to create one",
        )
    }

    fn check_and_apply_dev_mode(&mut self) -> anyhow::Result<()> {
        for address in [self.listen, self.metrics_listen] {
            ensure!(
                address.ip().is_loopback(),
                "--dev accepts this machine only: {address} is not a loopback address, use 127.0.0.1"
            );
        }
        if self.cors_origins.is_empty() {
            self.cors_origins = DEV_ORIGINS.map(str::to_owned).to_vec();
        }
        if self.jwt_secrets.is_empty() {
            self.jwt_secrets.push(dev::load_or_create_secret(&self.data_dir)?);
        }
        // A person reads the output of a development server, even where it is not a terminal.
        self.log_format.get_or_insert(LogFormat::Pretty);
        Ok(())
    }

    fn check_values(&self) -> anyhow::Result<()> {
        check_scheme("database_url", &self.database_url, &["sqlite:", "postgres://", "postgresql://"])?;
        check_scheme("payload_url", &self.payload_url, &["file://", "s3://", "gs://", "az://"])?;
        if let Some(url) = &self.redis_url {
            check_scheme("redis_url", url, &["redis://", "rediss://", "redis+unix://", "unix://"])?;
        }
        for secret in &self.jwt_secrets {
            ensure!(
                secret.len() >= SECRET_BYTES_MIN,
                "in setting `jwt_secret`: a secret must have at least {SECRET_BYTES_MIN} bytes"
            );
        }
        self.cors_origins.iter().try_for_each(|origin| check_origin(origin))?;
        self.cors_headers.iter().try_for_each(|name| check_header_name(name))?;
        EnvFilter::try_new(&self.log).context("in setting `log`")?;
        Ok(())
    }
}

/// The environment variables of this process, as [`Config::load`] takes them.
pub fn process_env() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

fn parse_address(sources: &Sources, key: &str) -> anyhow::Result<SocketAddr> {
    let text = sources.get_or_default(key)?;
    text.parse().with_context(|| {
        format!("in setting `{key}`: `{text}` is not an IP address and port, such as 127.0.0.1:8080")
    })
}

fn parse_count(key: &str, text: &str) -> anyhow::Result<u64> {
    text.parse()
        .ok()
        .filter(|count| *count > 0)
        .with_context(|| format!("in setting `{key}`: `{text}` is not a whole number above 0"))
}

fn parse_rate_limit(sources: &Sources) -> anyhow::Result<Option<RateLimit>> {
    let read = |key, min| -> anyhow::Result<Option<NonZeroU32>> {
        let text = sources.get_or_default(key)?;
        let points = text.parse().ok().filter(|points| (min..=RATE_LIMIT_MAX).contains(points));
        let points = points.with_context(|| {
            format!("in setting `{key}`: `{text}` is not a whole number from {min} to {RATE_LIMIT_MAX}")
        })?;
        Ok(NonZeroU32::new(points))
    };
    let (points, per_second) = (read("rate_limit", 0)?, read("rate_limit_per_second", 1)?);
    Ok(points.zip(per_second).map(|(points, per_second)| RateLimit { points, per_second }))
}

fn parse_optional_count(sources: &Sources, key: &str) -> anyhow::Result<Option<u64>> {
    sources.read_setting_value(key)?.map(|text| parse_count(key, &text)).transpose()
}

/// Returns the URL in the setting `key`. If it begins with `<scheme>://<data>/`, as the defaults do, `<data>`
/// is replaced by the absolute and percent-encoded path of the data directory.
fn read_url_expanding_data_dir(sources: &Sources, key: &str, data_dir: &Path) -> anyhow::Result<String> {
    let text = sources.get_or_default(key)?;
    let Some((scheme, name)) = text.split_once("://<data>/") else {
        return Ok(text);
    };
    let path = std::path::absolute(data_dir).context("in setting `data_dir`")?.join(name);
    let url = Url::from_file_path(&path)
        .ok()
        .with_context(|| format!("in setting `{key}`: {} cannot be written as a URL", path.display()))?;
    Ok(format!("{scheme}://{}", url.path()))
}

fn parse_connections_max(text: &str) -> anyhow::Result<usize> {
    let max: usize = text.parse().context("in setting `connections_max`")?;
    ensure!(max > 0, "in setting `connections_max`: must be at least 1");
    Ok(max)
}

fn parse_failover(text: &str) -> anyhow::Result<Failover> {
    match text {
        "lossy" => Ok(Failover::Lossy),
        "lossless" => Ok(Failover::Lossless),
        other => bail!("in setting `failover`: must be `lossy` or `lossless`, not `{other}`"),
    }
}

fn parse_log_format(text: Option<&str>) -> anyhow::Result<Option<LogFormat>> {
    Ok(match text {
        None => None,
        Some("pretty") => Some(LogFormat::Pretty),
        Some("json") => Some(LogFormat::Json),
        Some(other) => bail!("in setting `log_format`: must be `pretty` or `json`, not `{other}`"),
    })
}

/// Checks that a URL begins with one of the accepted schemes. The error does not show the URL, because it may
/// hold a password.
fn check_scheme(key: &str, url: &str, accepted: &[&str]) -> anyhow::Result<()> {
    let is_accepted = accepted.iter().any(|scheme| url.starts_with(scheme));
    ensure!(is_accepted, "in setting `{key}`: the URL must begin with one of {}", accepted.join(" "));
    Ok(())
}

/// Checks that a header name is a token (RFC 9110, section 5.6.2).
fn check_header_name(name: &str) -> anyhow::Result<()> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    ensure!(name.chars().all(is_token), "in setting `cors_headers`: `{name}` is not a header name");
    Ok(())
}

fn check_origin(origin: &str) -> anyhow::Result<()> {
    let parsed = Url::parse(origin.strip_suffix(":*").unwrap_or(origin)).ok();
    let is_origin = parsed.is_some_and(|url| {
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        is_bare && url.username().is_empty() && matches!(url.scheme(), "http" | "https")
    });
    ensure!(
        is_origin && !origin.ends_with('/'),
        "in setting `cors_origins`: `{origin}` is not an origin, such as https://app.example"
    );
    Ok(())
}
