//! Reads settings from flags, the environment and `idem.toml`, and decides which of these sources wins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::setting::{SETTINGS, Setting};

/// Variables that begin with `IDEM_` and are not settings: the path of the settings file, the faults that
/// tests inject, and arguments of `idem import`.
const OTHER_VARIABLES: [&str; 4] = ["IDEM_CONFIG", "IDEM_PLANT", "IDEM_TOKEN", "IDEM_URL"];

/// The settings file that is read if `IDEM_CONFIG` names none.
const DEFAULT_FILE: &str = "idem.toml";

type Layer = BTreeMap<String, String>;

/// The settings of each source: flags, environment and settings file, the strongest first. All keys in it are
/// known.
pub(super) struct Sources {
    layers: [Layer; 3],
}

impl Sources {
    /// Reads the settings of all sources: the flags in `overrides`, the environment, and the settings file if
    /// there is one. The values are not checked yet.
    ///
    /// # Errors
    /// If a key is unknown, or the settings file cannot be read or is not valid.
    pub(super) fn read_all(
        overrides: &[(&str, String)],
        env: impl IntoIterator<Item = (String, String)>,
    ) -> anyhow::Result<Self> {
        let mut flags = Layer::new();
        for (key, value) in overrides {
            flags.insert(check_known_key(key)?, value.clone());
        }
        let (variables, path) = read_environment_settings(env)?;
        let file = match path {
            Some(path) => read_settings_file(&path)?,
            None if Path::new(DEFAULT_FILE).exists() => read_settings_file(Path::new(DEFAULT_FILE))?,
            None => Layer::new(),
        };
        Ok(Self { layers: [flags, variables, file] })
    }

    /// The configured value of the setting `key`, without white space around it, or `None` if no source sets
    /// it. An empty value counts as not set. The value of a secret may come from the file that `<key>_file`
    /// names.
    ///
    /// # Errors
    /// If one source sets both the value and its file, or that file cannot be read or is empty.
    pub(super) fn read_setting_value(&self, key: &str) -> anyhow::Result<Option<String>> {
        let setting = find_setting(key)?;
        for layer in &self.layers {
            let value_of = |key: &str| layer.get(key).filter(|value| !value.trim().is_empty());
            let path = setting.file_key().and_then(|key| value_of(&key));
            match (value_of(key), path) {
                (Some(_), Some(_)) => bail!("`{key}` and `{key}_file` are both set: keep only one of them"),
                (Some(value), None) => return Ok(Some(value.trim().to_owned())),
                (None, Some(path)) => {
                    let text = std::fs::read_to_string(path.trim())
                        .with_context(|| format!("`{key}_file`: cannot read {path}"))?;
                    if text.trim().is_empty() {
                        bail!("`{key}_file`: {path} is empty");
                    }
                    return Ok(Some(text.trim().to_owned()));
                }
                (None, None) => {}
            }
        }
        Ok(None)
    }

    /// The configured value of the setting `key`, or its default, or an empty text if it has none.
    ///
    /// # Errors
    /// As [`Self::read_setting_value`].
    pub(super) fn get_or_default(&self, key: &str) -> anyhow::Result<String> {
        let default = find_setting(key)?.default.unwrap_or_default();
        Ok(self.read_setting_value(key)?.unwrap_or_else(|| default.to_owned()))
    }

    /// The items in the setting `key`, which commas or line ends separate. The list is empty if nothing is
    /// set.
    ///
    /// # Errors
    /// As [`Self::read_setting_value`].
    pub(super) fn get_list(&self, key: &str) -> anyhow::Result<Vec<String>> {
        let text = self.read_setting_value(key)?.unwrap_or_default();
        let parts = text.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
        Ok(parts.map(str::to_owned).collect())
    }
}

fn find_setting(key: &str) -> anyhow::Result<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key).with_context(|| format!("unknown setting `{key}`"))
}

/// Returns the key if it is the key of a setting, or of the file of a secret. Any other key is an error.
fn check_known_key(key: &str) -> anyhow::Result<String> {
    let is_known =
        |setting: &Setting| setting.key == key || setting.file_key().is_some_and(|file| file == key);
    if !SETTINGS.iter().any(is_known) {
        bail!("unknown setting `{key}`: `idem config` lists all settings");
    }
    Ok(key.to_owned())
}

/// The settings among the environment variables that begin with `IDEM_`, and the path of the settings file
/// from `IDEM_CONFIG`. An unknown variable is an error.
fn read_environment_settings(
    env: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<(Layer, Option<PathBuf>)> {
    let mut layer = Layer::new();
    let mut path = None;
    for (name, value) in env {
        let Some(rest) = name.strip_prefix("IDEM_") else { continue };
        if name == "IDEM_CONFIG" && !value.is_empty() {
            path = Some(PathBuf::from(value));
        } else if !OTHER_VARIABLES.contains(&name.as_str()) {
            let is_upper = !rest.contains(|letter: char| letter.is_ascii_lowercase());
            let key = check_known_key(&rest.to_ascii_lowercase()).ok().filter(|_| is_upper);
            let key =
                key.with_context(|| format!("unknown variable {name}: `idem config` lists all settings"))?;
            layer.insert(key, value);
        }
    }
    Ok((layer, path))
}

/// The settings in a TOML file. An unknown key is an error.
fn read_settings_file(path: &Path) -> anyhow::Result<Layer> {
    let file = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {file}"))?;
    let table: toml::Table = text.parse().with_context(|| format!("{file} is not valid TOML"))?;
    let mut layer = Layer::new();
    for (key, value) in table {
        let key = check_known_key(&key).with_context(|| format!("in {file}"))?;
        let value = toml_to_text(&value).with_context(|| {
            format!("in {file}: the value of `{key}` must be a string or a list of strings")
        })?;
        layer.insert(key, value);
    }
    Ok(layer)
}

/// A TOML string as the text that an environment variable would hold, or a list of strings as one line per
/// item. `None` for any other value.
fn toml_to_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(toml::Value::as_str).collect();
            Some(items?.join("\n"))
        }
        _ => None,
    }
}
