//! The one table of settings. The environment names, the keys of `idem.toml`, the printed default file
//! and the check for unknown keys all come from it.

use std::fmt::Write as _;

/// One thing that can be set.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The key in `idem.toml`; in the environment it is `IDEM_` and this in capitals.
    pub key: &'static str,
    /// What it does, in lines for the default file.
    pub doc: &'static str,
    /// The text that stands when nothing is set; `<data>` is the data directory.
    pub default: Option<&'static str>,
    /// What to show in the default file where there is no fixed default.
    pub example: &'static str,
    /// Whether it may be read from a file named by `<key>_file`.
    pub secret: bool,
}

impl Setting {
    /// Its name in the environment.
    #[must_use]
    pub fn env_name(&self) -> String {
        format!("IDEM_{}", self.key.to_ascii_uppercase())
    }

    /// The key that names a file to read it from.
    #[must_use]
    pub fn file_key(&self) -> Option<String> {
        self.secret.then(|| format!("{}_file", self.key))
    }
}

const fn fixed(key: &'static str, default: &'static str, doc: &'static str) -> Setting {
    Setting { key, doc, default: Some(default), example: default, secret: false }
}

const fn open(key: &'static str, example: &'static str, doc: &'static str) -> Setting {
    Setting { key, doc, default: None, example, secret: false }
}

const fn secret(setting: Setting) -> Setting {
    Setting { secret: true, ..setting }
}

/// Every setting there is, in the order of the default file.
pub const SETTINGS: &[Setting] = &[
    fixed("listen", "127.0.0.1:8080", "Address and port of the API."),
    fixed("metrics_listen", "127.0.0.1:9090", "Address and port of /metrics, apart from the API."),
    fixed("data_dir", "./data", "Where the embedded database and the payloads live."),
    secret(fixed(
        "database_url",
        "sqlite://<data>/idem.db",
        "The database: sqlite://<path> or postgres://user:password@host/name.",
    )),
    fixed(
        "failover",
        "lossy",
        "What may be lost when another PostgreSQL server takes over: `lossy` (replication is asynchronous, or nobody\n\
         knows) has all devices sync anew then, `lossless` (a write is acknowledged when the standby has it) has not.",
    ),
    secret(open(
        "redis_url",
        "redis://127.0.0.1:6379",
        "Redis for the queue and wake-ups. Without it both stay in this process, and `idem worker`\n\
         and `idem serve --no-worker` refuse to start.",
    )),
    secret(fixed(
        "payload_url",
        "file://<data>/payloads",
        "Where the bytes of imports are kept: file://<folder>, s3://<bucket>/<prefix>, gs://<bucket>/<prefix>\n\
         or az://<container>/<prefix>. Keys and endpoint of a cloud come from its own variables: AWS_…,\n\
         GOOGLE_… or AZURE_….",
    )),
    fixed("payload_retention", "7d", "How long the bytes of an import are kept behind its end."),
    fixed("imports_running_max", "2", "Imports of one user that run at once."),
    fixed("imports_waiting_max", "20", "Imports of one user that wait for their payload or their turn."),
    open(
        "import_records_a_day",
        "5000000",
        "Records that the imports of one user take a day; unset: any number.",
    ),
    open("import_bytes_a_day", "10000000000", "Payload bytes that one user sends a day; unset: any number."),
    fixed(
        "connections_max",
        "10000",
        "Connections at once; more are answered 503 with Retry-After. Each takes a file descriptor.",
    ),
    fixed(
        "rate_limit",
        "20000",
        "Points that one user may spend at once in this process; 0: any number. What costs how much: docs/api.md.",
    ),
    fixed("rate_limit_per_second", "200", "Points that come back to each user in a second."),
    secret(open(
        "jwt_secret",
        "at least 32 bytes, for example from: openssl rand -hex 32",
        "HS256 secrets, one a line: any verifies, the first signs.",
    )),
    open("jwks", "https://issuer.example/jwks.json", "Public keys of the token issuer: a file or a URL."),
    open("jwt_issuer", "https://issuer.example", "Accepted `iss` values, separated by commas; unset: any."),
    open("jwt_audience", "idem", "The `aud` a token must name; unset: not asked."),
    open(
        "cors_origins",
        "https://app.example",
        "Web origins that may call the API, separated by commas; port `*` means any.\n\
         Unset: none, and with --dev those of this machine.",
    ),
    open(
        "cors_headers",
        "x-my-header",
        "Headers that pages of those origins may send, separated by commas, beside what Apollo, Relay, urql,\n\
         Sentry, Datadog and OpenTelemetry send.",
    ),
    fixed("log", "info", "What to log: a level, or directives as in `info,idem=debug`."),
    open("log_format", "json", "`pretty` or `json`; unset: pretty on a terminal, else json."),
    open(
        "drain_delay",
        "5s",
        "How long /readyz says no before the listener closes, for load balancers to notice.\n\
         Unset: 5s with redis_url, else 0s.",
    ),
];

/// The default file: every key commented out, with what it does and its default.
#[must_use]
pub fn default_file() -> String {
    let mut text = String::from(
        "# Settings of idem. Flags come before the environment, the environment before this file.\n\
         # An empty value counts as not set; an unknown key refuses the start.\n\
         # <data> stands for data_dir in the defaults below.\n",
    );
    for setting in SETTINGS {
        text.push('\n');
        for line in setting.doc.lines() {
            let _ = writeln!(text, "# {line}");
        }
        let _ = write!(text, "# Environment: {}", setting.env_name());
        if setting.secret {
            let _ = write!(text, ", or {}_FILE naming a file that holds it", setting.env_name());
        }
        let kind = if setting.default.is_some() { "" } else { " (an example; not set by default)" };
        let _ = writeln!(text, "{kind}\n# {} = \"{}\"", setting.key, setting.example);
    }
    text
}
