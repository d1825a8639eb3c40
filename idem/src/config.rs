//! All settings, read once at the start: flags before the environment before `idem.toml` before defaults.
//! What is wrong in them refuses the start, with the name of the setting.

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
pub use self::setting::default_file;

use self::source::Sources;

/// An HS256 key below the size of its hash is weaker than the signature (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// The origins of web pages served by this machine, on any port.
const DEV_ORIGINS: [&str; 3] = ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"];

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For eyes.
    Pretty,
    /// For machines, one object a line.
    Json,
}

/// The settings of one process. It holds secrets, and so has no `Debug`.
#[derive(Clone)]
pub struct Config {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where `/metrics` listens.
    pub metrics_listen: SocketAddr,
    /// Where everything embedded is kept.
    pub data_dir: PathBuf,
    /// `sqlite:…` or `postgres://…`.
    pub database_url: String,
    /// What may be lost when another database server takes over.
    pub failover: Failover,
    /// Redis, if the queue and wake-ups are to leave the process.
    pub redis_url: Option<String>,
    /// The object store of payloads.
    pub payload_url: String,
    /// How long the payload of an import is kept behind its end.
    pub payload_retention: Duration,
    /// Imports of a user that run at once.
    pub imports_running_max: u64,
    /// Imports of a user that wait for their payload or their turn.
    pub imports_waiting_max: u64,
    /// Records that the imports of a user take a day; none means any number.
    pub import_records_a_day: Option<u64>,
    /// Payload bytes that a user announces a day; none means any number.
    pub import_bytes_a_day: Option<u64>,
    /// Connections at once.
    pub connections_max: usize,
    /// What one user may ask of this process; none means anything.
    pub rate_limit: Option<RateLimit>,
    /// HS256 secrets: any verifies, the first signs.
    pub jwt_secrets: Vec<String>,
    /// Public keys: a file or an `http(s)` URL.
    pub jwks: Option<String>,
    /// Accepted issuers; none means any.
    pub jwt_issuers: Vec<String>,
    /// The audience a token must name.
    pub jwt_audience: Option<String>,
    /// Web origins that may call the API, `scheme://host[:port]`; the port `*` stands for any or none.
    pub cors_origins: Vec<String>,
    /// Headers that their pages may send beside the usual ones.
    pub cors_headers: Vec<String>,
    /// The log filter.
    pub log: String,
    /// The log format; none means by whether stderr is a terminal.
    pub log_format: Option<LogFormat>,
    /// How long `/readyz` says no before the listener closes.
    pub drain_delay: Duration,
    /// Whether this is a development server.
    pub dev: bool,
}

impl Config {
    /// Whether the database is the embedded one.
    pub fn is_sqlite(&self) -> bool {
        self.database_url.starts_with("sqlite:")
    }

    /// Reads the settings. `overrides` are flags, as key and value; `env` is the environment (see
    /// [`process_env`]), of which names beginning with `IDEM_` count. With `dev` a missing secret is made.
    ///
    /// # Errors
    /// When a key is unknown, a value does not parse, a file cannot be read, a secret is too short, or `dev`
    /// would listen to other machines.
    pub fn load(
        overrides: &[(&str, String)],
        env: impl IntoIterator<Item = (String, String)>,
        dev: bool,
    ) -> anyhow::Result<Self> {
        let sources = Sources::read(overrides, env)?;
        let data_dir = PathBuf::from(sources.text("data_dir")?);
        let redis_url = sources.set("redis_url")?;
        let drain_delay = match sources.set("drain_delay")? {
            Some(text) => parse_duration(&text).context("in setting `drain_delay`")?,
            None if redis_url.is_some() => Duration::from_secs(5),
            None => Duration::ZERO,
        };
        let secrets = sources.set("jwt_secret")?.unwrap_or_default();
        let mut config = Self {
            listen: address(&sources, "listen")?,
            metrics_listen: address(&sources, "metrics_listen")?,
            database_url: below(&sources, "database_url", &data_dir)?,
            failover: failover(&sources.text("failover")?)?,
            redis_url,
            payload_url: below(&sources, "payload_url", &data_dir)?,
            payload_retention: parse_duration(&sources.text("payload_retention")?)
                .context("in setting `payload_retention`")?,
            imports_running_max: count("imports_running_max", &sources.text("imports_running_max")?)?,
            imports_waiting_max: count("imports_waiting_max", &sources.text("imports_waiting_max")?)?,
            import_records_a_day: optional_count(&sources, "import_records_a_day")?,
            import_bytes_a_day: optional_count(&sources, "import_bytes_a_day")?,
            connections_max: connections_max(&sources.text("connections_max")?)?,
            rate_limit: rate_limit(&sources)?,
            jwt_secrets: secrets
                .lines()
                .map(str::trim)
                .filter(|it| !it.is_empty())
                .map(str::to_owned)
                .collect(),
            jwks: sources.set("jwks")?,
            jwt_issuers: sources.list("jwt_issuer")?,
            jwt_audience: sources.set("jwt_audience")?,
            cors_origins: sources.list("cors_origins")?,
            cors_headers: sources.list("cors_headers")?,
            log: sources.text("log")?,
            log_format: log_format(sources.set("log_format")?.as_deref())?,
            drain_delay,
            data_dir,
            dev,
        };
        if dev {
            config.prepare_dev()?;
        }
        config.check()?;
        Ok(config)
    }

    /// Refuses a server that could verify no token at all.
    ///
    /// # Errors
    /// When neither a secret nor a key set is there.
    pub fn require_keys(&self) -> anyhow::Result<()> {
        ensure!(
            !self.jwt_secrets.is_empty() || self.jwks.is_some(),
            "no key to verify tokens with: set IDEM_JWT_SECRET (or its _FILE) or IDEM_JWKS, or use --dev"
        );
        Ok(())
    }

    /// The secret that `idem token` signs with: the first one set, else what `--dev` left behind.
    ///
    /// # Errors
    /// When there is neither, or the file cannot be read.
    pub fn signing_secret(&self) -> anyhow::Result<String> {
        if let Some(secret) = self.jwt_secrets.first() {
            return Ok(secret.clone());
        }
        dev::find(&self.data_dir)?
            .context("no secret to sign with: set IDEM_JWT_SECRET, or run `idem serve --dev` once")
    }

    fn prepare_dev(&mut self) -> anyhow::Result<()> {
        for address in [self.listen, self.metrics_listen] {
            ensure!(
                address.ip().is_loopback(),
                "--dev serves this machine only: {address} is not a loopback address"
            );
        }
        if self.cors_origins.is_empty() {
            self.cors_origins = DEV_ORIGINS.map(str::to_owned).to_vec();
        }
        if self.jwt_secrets.is_empty() {
            self.jwt_secrets.push(dev::find_or_make(&self.data_dir)?);
        }
        Ok(())
    }

    fn check(&self) -> anyhow::Result<()> {
        scheme("database_url", &self.database_url, &["sqlite:", "postgres://", "postgresql://"])?;
        scheme("payload_url", &self.payload_url, &["file://", "s3://", "gs://", "az://"])?;
        if let Some(url) = &self.redis_url {
            scheme("redis_url", url, &["redis://", "rediss://", "redis+unix://", "unix://"])?;
        }
        for secret in &self.jwt_secrets {
            ensure!(
                secret.len() >= SECRET_BYTES_MIN,
                "a secret in `jwt_secret` is shorter than {SECRET_BYTES_MIN} bytes"
            );
        }
        self.cors_origins.iter().try_for_each(|origin| check_origin(origin))?;
        self.cors_headers.iter().try_for_each(|name| check_header(name))?;
        EnvFilter::try_new(&self.log).context("in setting `log`")?;
        Ok(())
    }
}

/// The environment of this process as [`Config::load`] takes it.
pub fn process_env() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

fn address(sources: &Sources, key: &str) -> anyhow::Result<SocketAddr> {
    let text = sources.text(key)?;
    text.parse().with_context(|| format!("in setting `{key}`: `{text}` is not an IP address and a port"))
}

fn count(key: &str, text: &str) -> anyhow::Result<u64> {
    text.parse()
        .ok()
        .filter(|count| *count > 0)
        .with_context(|| format!("in setting `{key}`: `{text}` is no whole number above 0"))
}

fn rate_limit(sources: &Sources) -> anyhow::Result<Option<RateLimit>> {
    let read = |key, least| -> anyhow::Result<Option<NonZeroU32>> {
        let text = sources.text(key)?;
        let points = text.parse().ok().filter(|points| (least..=RATE_LIMIT_MAX).contains(points));
        let points = points.with_context(|| {
            format!("in setting `{key}`: `{text}` is no whole number from {least} to {RATE_LIMIT_MAX}")
        })?;
        Ok(NonZeroU32::new(points))
    };
    let (points, per_second) = (read("rate_limit", 0)?, read("rate_limit_per_second", 1)?);
    Ok(points.zip(per_second).map(|(points, per_second)| RateLimit { points, per_second }))
}

fn optional_count(sources: &Sources, key: &str) -> anyhow::Result<Option<u64>> {
    sources.set(key)?.map(|text| count(key, &text)).transpose()
}

/// A URL whose default lies in the data directory: made absolute and escaped there, taken as it is when set.
fn below(sources: &Sources, key: &str, data_dir: &Path) -> anyhow::Result<String> {
    let text = sources.text(key)?;
    let Some((scheme, name)) = text.split_once("://<data>/") else {
        return Ok(text);
    };
    let path = std::path::absolute(data_dir).context("in setting `data_dir`")?.join(name);
    let url = Url::from_file_path(&path).ok().with_context(|| format!("no URL for {}", path.display()))?;
    Ok(format!("{scheme}://{}", url.path()))
}

fn connections_max(text: &str) -> anyhow::Result<usize> {
    let most: usize = text.parse().context("in setting `connections_max`")?;
    ensure!(most > 0, "setting `connections_max` is at least 1");
    Ok(most)
}

fn failover(text: &str) -> anyhow::Result<Failover> {
    match text {
        "lossy" => Ok(Failover::Lossy),
        "lossless" => Ok(Failover::Lossless),
        other => bail!("setting `failover` is `lossy` or `lossless`, not `{other}`"),
    }
}

fn log_format(text: Option<&str>) -> anyhow::Result<Option<LogFormat>> {
    Ok(match text {
        None => None,
        Some("pretty") => Some(LogFormat::Pretty),
        Some("json") => Some(LogFormat::Json),
        Some(other) => bail!("in setting `log_format`: `{other}` is neither pretty nor json"),
    })
}

/// The value is not shown: it may hold a password.
fn scheme(key: &str, url: &str, accepted: &[&str]) -> anyhow::Result<()> {
    let is_accepted = accepted.iter().any(|scheme| url.starts_with(scheme));
    ensure!(is_accepted, "in setting `{key}`: must begin with one of {}", accepted.join(" "));
    Ok(())
}

/// A token of RFC 9110, section 5.6.2.
fn check_header(name: &str) -> anyhow::Result<()> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    ensure!(name.chars().all(is_token), "in setting `cors_headers`: `{name}` is no name of a header");
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
        "in setting `cors_origins`: `{origin}` is no origin such as https://app.example"
    );
    Ok(())
}
