use std::fs;
use std::os::unix::fs::PermissionsExt;

use service::Clock;

use super::setting::SETTINGS;
use super::*;

/// A temporary directory that is removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("idem-config-{}", Clock::System.new_id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn file(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.0.join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    fn data_dir(&self) -> (&'static str, String) {
        ("data_dir", self.0.join("my data").display().to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn refusal(result: anyhow::Result<Config>) -> String {
    result.err().map(|error| format!("{error:#}")).expect("these settings must be refused")
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER_SECRET: &str = "fedcba9876543210fedcba9876543210";

#[test]
fn nothing_set_gives_the_defaults() -> anyhow::Result<()> {
    let config = Config::load(&[], [], false)?;
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.metrics_listen.to_string(), "127.0.0.1:9090");
    assert!(config.database_url.starts_with("sqlite:///"), "{}", config.database_url);
    assert!(config.database_url.ends_with("/data/idem.db"), "{}", config.database_url);
    assert!(config.payload_url.starts_with("file:///"), "{}", config.payload_url);
    assert_eq!(config.drain_delay, Duration::ZERO);
    assert!(config.require_token_keys().is_err());
    assert!(config.cors_origins.is_empty());
    assert_eq!(config.payload_retention, Duration::from_secs(7 * 24 * 3_600));
    assert_eq!((config.imports_running_max, config.imports_waiting_max), (2, 20));
    assert_eq!((config.import_records_a_day, config.import_bytes_a_day), (None, None));
    assert_eq!(config.rate_limit, Some(RateLimit::default()));
    Ok(())
}

#[test]
fn the_rate_limit_can_be_set_and_turned_off() -> anyhow::Result<()> {
    let limit = |points: &str, per_second: &str| {
        let set = env(&[("IDEM_RATE_LIMIT", points), ("IDEM_RATE_LIMIT_PER_SECOND", per_second)]);
        Config::load(&[], set, false)
            .map(|config| config.rate_limit.map(|limit| (limit.points.get(), limit.per_second.get())))
    };
    assert_eq!(limit("", "")?, Some((20_000, 200)));
    assert_eq!(limit("1", "1000000000")?, Some((1, 1_000_000_000)));
    assert_eq!(limit("0", "7")?, None);
    Ok(())
}

#[test]
fn the_limits_of_imports_can_be_set() -> anyhow::Result<()> {
    let config = Config::load(
        &[],
        env(&[
            ("IDEM_PAYLOAD_RETENTION", "36h"),
            ("IDEM_IMPORTS_RUNNING_MAX", "3"),
            ("IDEM_IMPORTS_WAITING_MAX", "40"),
            ("IDEM_IMPORT_RECORDS_A_DAY", "1000000"),
            ("IDEM_IMPORT_BYTES_A_DAY", "18446744073709551615"),
        ]),
        false,
    )?;
    assert_eq!(config.payload_retention, Duration::from_secs(36 * 3_600));
    assert_eq!((config.imports_running_max, config.imports_waiting_max), (3, 40));
    assert_eq!((config.import_records_a_day, config.import_bytes_a_day), (Some(1_000_000), Some(u64::MAX)));
    Ok(())
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let path = folder.file(
        "idem.toml",
        "listen = \"127.0.0.1:1\"\nmetrics_listen=\"127.0.0.1:1\"\nlog=\"warn\"\njwt_issuer = [\"a\", \"b\"]",
    )?;
    let env = env(&[
        ("IDEM_CONFIG", &path),
        ("IDEM_LISTEN", "127.0.0.1:2"),
        ("IDEM_METRICS_LISTEN", "127.0.0.1:2"),
    ]);
    let config = Config::load(&[("listen", "127.0.0.1:3".to_owned())], env, false)?;
    assert_eq!((config.listen.port(), config.metrics_listen.port()), (3, 2));
    assert_eq!(config.log, "warn");
    assert_eq!(config.jwt_issuers, ["a", "b"]);
    Ok(())
}

#[test]
fn an_empty_value_is_not_set() -> anyhow::Result<()> {
    let config = Config::load(&[], env(&[("IDEM_REDIS_URL", ""), ("IDEM_LISTEN", " ")]), false)?;
    assert!(config.redis_url.is_none());
    assert_eq!(config.listen.port(), 8080);
    Ok(())
}

#[test]
fn unknown_keys_are_refused() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    assert!(refusal(Config::load(&[], env(&[("IDEM_LISTNE", "x")]), false)).contains("IDEM_LISTNE"));
    assert!(
        refusal(Config::load(&[], env(&[("IDEM_listen", "127.0.0.1:1")]), false)).contains("IDEM_listen")
    );
    assert!(
        refusal(Config::load(&[], env(&[("IDEM_LISTEN_FILE", "x")]), false)).contains("IDEM_LISTEN_FILE")
    );
    assert!(refusal(Config::load(&[("lisen", "x".to_owned())], [], false)).contains("lisen"));
    for text in ["lisen = \"x\"", "[listen]\nport = 1", "[server]"] {
        let path = folder.file("idem.toml", text)?;
        assert!(Config::load(&[], env(&[("IDEM_CONFIG", &path)]), false).is_err(), "{text}");
    }
    let other = env(&[("IDEM_PLANT", "x"), ("IDEM_TOKEN", "x"), ("IDEM_URL", "x"), ("IDEMPOTENT", "x")]);
    Config::load(&[], other, false)?;
    Ok(())
}

#[test]
fn a_missing_file_of_idem_config_is_refused() {
    assert!(
        refusal(Config::load(&[], env(&[("IDEM_CONFIG", "/no/such/idem.toml")]), false)).contains("/no/such")
    );
}

#[test]
fn secrets_are_read_from_files() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let secrets = folder.file("secrets", &format!("{SECRET}\n\n{OTHER_SECRET}\n"))?;
    let database = folder.file("database", "postgres://me:secret@db/idem\n")?;
    let redis = folder.file("redis", "redis://cache\n")?;
    let config = Config::load(
        &[],
        env(&[
            ("IDEM_JWT_SECRET_FILE", &secrets),
            ("IDEM_DATABASE_URL_FILE", &database),
            ("IDEM_REDIS_URL_FILE", &redis),
        ]),
        false,
    )?;
    assert_eq!(config.jwt_secrets, [SECRET, OTHER_SECRET]);
    assert_eq!(config.signing_secret()?, SECRET);
    assert_eq!(config.database_url, "postgres://me:secret@db/idem");
    assert_eq!(config.redis_url.as_deref(), Some("redis://cache"));
    assert_eq!(config.drain_delay, Duration::from_secs(5));
    config.require_token_keys()
}

#[test]
fn a_secret_and_its_file_exclude_each_other() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let file = folder.file("secret", OTHER_SECRET)?;
    let both = env(&[("IDEM_JWT_SECRET", SECRET), ("IDEM_JWT_SECRET_FILE", &file)]);
    assert!(refusal(Config::load(&[], both, false)).contains("both set"));
    let empty = folder.file("empty", "\n")?;
    assert!(refusal(Config::load(&[], env(&[("IDEM_JWT_SECRET_FILE", &empty)]), false)).contains("is empty"));
    Ok(())
}

#[test]
fn a_value_in_the_environment_overrides_a_secret_file_of_the_settings_file() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let secret = folder.file("secret", OTHER_SECRET)?;
    let path = folder.file("idem.toml", &format!("jwt_secret_file = \"{secret}\""))?;
    let config = Config::load(&[], env(&[("IDEM_CONFIG", &path), ("IDEM_JWT_SECRET", SECRET)]), false)?;
    assert_eq!(config.jwt_secrets, [SECRET]);
    Ok(())
}

#[test]
fn bad_values_name_their_setting_and_show_no_password() {
    for (name, value) in [
        ("IDEM_LISTEN", "localhost"),
        ("IDEM_DRAIN_DELAY", "5"),
        ("IDEM_DRAIN_DELAY", "a week"),
        ("IDEM_LOG_FORMAT", "xml"),
        ("IDEM_LOG", "a=b=c"),
        ("IDEM_DATABASE_URL", "mysql://me:hunter2@db"),
        ("IDEM_REDIS_URL", "http://me:hunter2@cache"),
        ("IDEM_JWT_SECRET", "hunter2"),
        ("IDEM_CORS_ORIGINS", "https://app.example/path"),
        ("IDEM_CORS_ORIGINS", "*"),
        ("IDEM_PAYLOAD_URL", "ftp://me:hunter2@files"),
        ("IDEM_PAYLOAD_RETENTION", "7"),
        ("IDEM_IMPORTS_RUNNING_MAX", "0"),
        ("IDEM_IMPORTS_WAITING_MAX", "-1"),
        ("IDEM_IMPORT_RECORDS_A_DAY", "many"),
        ("IDEM_IMPORT_BYTES_A_DAY", "1.5"),
        ("IDEM_RATE_LIMIT", "-1"),
        ("IDEM_RATE_LIMIT", "1000000001"),
        ("IDEM_RATE_LIMIT_PER_SECOND", "0"),
    ] {
        let message = refusal(Config::load(&[], env(&[(name, value)]), false));
        assert!(message.contains(&name["IDEM_".len()..].to_lowercase()), "{name}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn dev_creates_a_secret_once_that_only_its_owner_can_read() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let data_dir = [folder.data_dir()];
    let first = Config::load(&data_dir, [], true)?;
    assert_eq!(first.jwt_secrets[0].len(), 64);
    assert_eq!(Config::load(&data_dir, [], true)?.jwt_secrets, first.jwt_secrets);
    let mode = fs::metadata(dev::secret_path(&first.data_dir))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(first.cors_origins, DEV_ORIGINS);
    assert!(first.database_url.ends_with("/my%20data/idem.db"), "{}", first.database_url);
    let later = Config::load(&data_dir, [], false)?;
    assert!(later.require_token_keys().is_err(), "without --dev its secret does not verify tokens");
    assert_eq!(later.signing_secret()?, first.jwt_secrets[0]);
    Ok(())
}

#[test]
fn dev_accepts_this_machine_only() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    for key in ["listen", "metrics_listen"] {
        let flags = [folder.data_dir(), (key, "0.0.0.0:8080".to_owned())];
        assert!(refusal(Config::load(&flags, [], true)).contains("loopback"));
    }
    Ok(())
}

#[test]
fn dev_logs_text_and_only_warnings_of_libraries_unless_the_settings_say_otherwise() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let data_dir = [folder.data_dir()];
    let dev = Config::load(&data_dir, [], true)?;
    assert_eq!((dev.log.as_str(), dev.log_format), (DEV_LOG, Some(LogFormat::Pretty)));
    let set = env(&[("IDEM_LOG", "debug"), ("IDEM_LOG_FORMAT", "json")]);
    let dev = Config::load(&data_dir, set, true)?;
    assert_eq!((dev.log.as_str(), dev.log_format), ("debug", Some(LogFormat::Json)));
    let production = Config::load(&[], [], false)?;
    assert_eq!((production.log.as_str(), production.log_format), ("info", None));
    Ok(())
}

#[test]
fn the_printed_file_sets_nothing_until_a_line_is_uncommented_and_then_the_default() -> anyhow::Result<()> {
    let text = render_default_settings_file();
    assert!(text.parse::<toml::Table>()?.is_empty());
    for setting in SETTINGS {
        let line = format!("# {} = ", setting.key);
        let line = text.lines().find(|it| it.starts_with(&line)).expect("each setting has a line");
        let table: toml::Table = line.trim_start_matches("# ").parse()?;
        assert_eq!(table[setting.key].as_str(), Some(setting.default.unwrap_or(setting.example)));
        assert!(text.contains(&setting.env_name()));
    }
    Ok(())
}
