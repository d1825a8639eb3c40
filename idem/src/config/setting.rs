//! Lists every setting with its default and its description. The environment variables, the keys of
//! `idem.toml`, the output of `idem config` and the check for unknown keys are derived from this table.

use std::fmt::Write as _;

/// The definition of one setting, without its configured value.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The key in `idem.toml`. The environment variable is `IDEM_` and this key in capitals.
    pub key: &'static str,
    /// What the setting does, in one or more lines for `idem config`.
    pub doc: &'static str,
    /// The value if nothing is set. `<data>` stands for the data directory. `None` if there is no fixed
    /// default.
    pub default: Option<&'static str>,
    /// The value that `idem config` prints: the default, or an example if there is none.
    pub example: &'static str,
    /// Whether `<key>_file` may name a file that holds the value.
    pub is_secret: bool,
}

impl Setting {
    /// The name of the environment variable.
    #[must_use]
    pub fn env_name(&self) -> String {
        format!("IDEM_{}", self.key.to_ascii_uppercase())
    }

    /// The key under which the path of a file with the value may be given, if the setting is a secret.
    #[must_use]
    pub fn file_key(&self) -> Option<String> {
        self.is_secret.then(|| format!("{}_file", self.key))
    }
}

const fn setting_with_default(key: &'static str, default: &'static str, doc: &'static str) -> Setting {
    Setting { key, doc, default: Some(default), example: default, is_secret: false }
}

const fn setting_without_default(key: &'static str, example: &'static str, doc: &'static str) -> Setting {
    Setting { key, doc, default: None, example, is_secret: false }
}

const fn as_secret(setting: Setting) -> Setting {
    Setting { is_secret: true, ..setting }
}

/// All settings, in the order in which `idem config` prints them.
pub const SETTINGS: &[Setting] = &[
    setting_with_default("listen", "127.0.0.1:8080", "Address and port of the API."),
    setting_with_default(
        "metrics_listen",
        "127.0.0.1:9090",
        "Address and port of /metrics, which is not served on the port of the API.",
    ),
    setting_with_default(
        "data_dir",
        "./data",
        "Directory of the SQLite database and the payloads. It is created if it is missing.",
    ),
    as_secret(setting_with_default(
        "database_url",
        "sqlite://<data>/idem.db",
        "URL of the database: sqlite://<path> or postgres://user:password@host/name.",
    )),
    setting_with_default(
        "failover",
        "lossy",
        "Whether acknowledged writes can be lost when another PostgreSQL server takes over.\n\
         lossy: they can, as with asynchronous replication. Every device then syncs from the start.\n\
         lossless: they cannot, because each write waits for the standby. No device syncs again.\n\
         If you are not sure, keep `lossy`: with a wrong `lossless`, devices miss changes.",
    ),
    as_secret(setting_without_default(
        "redis_url",
        "redis://127.0.0.1:6379",
        "URL of Redis, which holds the import queue. Several processes need it. If not set, the queue is\n\
         inside this process, and `idem worker` and `idem serve --no-worker` do not start.",
    )),
    as_secret(setting_with_default(
        "payload_url",
        "file://<data>/payloads",
        "Where the payloads of imports are stored: file://<directory>, s3://<bucket>/<prefix>,\n\
         gs://<bucket>/<prefix> or az://<container>/<prefix>. Credentials and endpoint of a cloud come from\n\
         its usual variables: AWS_…, GOOGLE_… or AZURE_….",
    )),
    setting_with_default(
        "payload_retention",
        "7d",
        "How long the payload of an import is kept after the import has ended. Units: ms, s, m, h, d.",
    ),
    setting_with_default(
        "imports_running_max",
        "2",
        "How many imports of one user may run at the same time.",
    ),
    setting_with_default(
        "imports_waiting_max",
        "20",
        "How many imports of one user may wait for their payload or for a worker. Further ones are refused.",
    ),
    setting_without_default(
        "import_records_a_day",
        "5000000",
        "How many records the imports of one user may process per day. Further ones wait.\n\
         If not set: unlimited.",
    ),
    setting_without_default(
        "import_bytes_a_day",
        "10000000000",
        "How many payload bytes one user may announce per day. Further imports are refused.\n\
         If not set: unlimited.",
    ),
    setting_with_default(
        "connections_max",
        "10000",
        "How many client connections may be open at the same time. Further ones are answered 503 with\n\
         Retry-After. Each connection takes a file descriptor.",
    ),
    setting_with_default(
        "rate_limit",
        "20000",
        "How many points one user may spend at once in this process. docs/reference/rate-limit.md lists what each operation\n\
         costs. 0 turns the limit off.",
    ),
    setting_with_default(
        "rate_limit_per_second",
        "200",
        "How many points each user gets back per second, up to `rate_limit`.",
    ),
    as_secret(setting_without_default(
        "jwt_secret",
        "at least 32 bytes, for example from: openssl rand -hex 32",
        "HS256 secrets for tokens, one per line, each of at least 32 bytes. Each of them verifies tokens,\n\
         and the first one signs.",
    )),
    setting_without_default(
        "jwks",
        "https://issuer.example/jwks.json",
        "Key set (JWKS) with the public keys of the token issuer: a file or a URL. RS256, ES256 or EdDSA.",
    ),
    setting_without_default(
        "jwt_issuer",
        "https://issuer.example",
        "Accepted `iss` claims of tokens, separated by commas. If not set: every issuer.",
    ),
    setting_without_default(
        "jwt_audience",
        "idem",
        "The `aud` claim that a token must have. If not set: `aud` is not checked.",
    ),
    setting_without_default(
        "cors_origins",
        "https://app.example",
        "Web origins that may call the API, separated by commas. The port `*` stands for any port.\n\
         If not set: none, or with --dev the origins of this machine.",
    ),
    setting_without_default(
        "cors_headers",
        "x-my-header",
        "Request headers that pages of these origins may send, separated by commas, in addition to those\n\
         that Apollo, Relay, urql, Sentry, Datadog and OpenTelemetry send.",
    ),
    setting_with_default(
        "log",
        "info",
        "What to log: a level (error, warn, info, debug, trace), or directives such as `info,idem=debug`.\n\
         With --dev, the libraries for database and queue log only warnings by default.",
    ),
    setting_without_default(
        "log_format",
        "json",
        "Log lines as text (`pretty`) or as one JSON object each (`json`). If not set: `pretty`\n\
         on a terminal and with --dev, else `json`.",
    ),
    setting_without_default(
        "drain_delay",
        "5s",
        "How long /readyz responds 503 at shutdown before the listener closes, so that load\n\
         balancers notice. If not set: 5s if redis_url is set, else 0s. Units: ms, s, m, h, d.",
    ),
];

/// The text that `idem config` prints: a settings file in which every setting is explained and commented out.
#[must_use]
pub fn render_default_settings_file() -> String {
    let mut text = String::from(
        "# Settings of Idem. A flag overrides the environment variable, which overrides this file.\n\
         # An empty value counts as not set. An unknown key is an error.\n\
         # <data> stands for the directory of data_dir.\n",
    );
    for setting in SETTINGS {
        text.push('\n');
        for line in setting.doc.lines() {
            let _ = writeln!(text, "# {line}");
        }
        let _ = write!(text, "# Environment: {}", setting.env_name());
        if setting.is_secret {
            let _ = write!(text, ", or {}_FILE for the path of a file with the value", setting.env_name());
        }
        let note = if setting.default.is_some() { "" } else { "\n# Not set by default. An example:" };
        let _ = writeln!(text, "{note}\n# {} = \"{}\"", setting.key, setting.example);
    }
    text
}
