//! Where settings come from: flags, the environment, `idem.toml`, in this order, and which of them wins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::setting::{SETTINGS, Setting};

/// Variables beginning with `IDEM_` that are not settings: where the file is, faults injected by tests,
/// and what `idem import` takes.
const OTHER_VARIABLES: [&str; 4] = ["IDEM_CONFIG", "IDEM_PLANT", "IDEM_TOKEN", "IDEM_URL"];

const DEFAULT_FILE: &str = "idem.toml";

type Layer = BTreeMap<String, String>;

/// The layers of settings, strongest first, holding known keys only.
pub(super) struct Sources {
    layers: [Layer; 3],
}

impl Sources {
    pub(super) fn read(
        overrides: &[(&str, String)],
        env: impl IntoIterator<Item = (String, String)>,
    ) -> anyhow::Result<Self> {
        let mut flags = Layer::new();
        for (key, value) in overrides {
            flags.insert(known(key)?, value.clone());
        }
        let (variables, path) = environment(env)?;
        let file = match path {
            Some(path) => file(&path)?,
            None if Path::new(DEFAULT_FILE).exists() => file(Path::new(DEFAULT_FILE))?,
            None => Layer::new(),
        };
        Ok(Self { layers: [flags, variables, file] })
    }

    /// What is set for `key`, without its default. An empty text is not set.
    pub(super) fn set(&self, key: &str) -> anyhow::Result<Option<String>> {
        let setting = setting(key)?;
        for layer in &self.layers {
            let of = |key: &str| layer.get(key).filter(|value| !value.trim().is_empty());
            let named = setting.file_key().and_then(|key| of(&key));
            match (of(key), named) {
                (Some(_), Some(_)) => bail!("`{key}` and `{key}_file` are both set: keep one"),
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

    /// What is set for `key`, or its fixed default.
    pub(super) fn text(&self, key: &str) -> anyhow::Result<String> {
        let default = setting(key)?.default.unwrap_or_default();
        Ok(self.set(key)?.unwrap_or_else(|| default.to_owned()))
    }

    /// The parts of a list; none when it is not set.
    pub(super) fn list(&self, key: &str) -> anyhow::Result<Vec<String>> {
        let text = self.set(key)?.unwrap_or_default();
        let parts = text.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
        Ok(parts.map(str::to_owned).collect())
    }
}

fn setting(key: &str) -> anyhow::Result<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key).with_context(|| format!("unknown setting `{key}`"))
}

/// The key itself, when it is one of a setting or of a secret's file.
fn known(key: &str) -> anyhow::Result<String> {
    let is_known =
        |setting: &Setting| setting.key == key || setting.file_key().is_some_and(|file| file == key);
    if !SETTINGS.iter().any(is_known) {
        bail!("unknown setting `{key}`: `idem config` prints all there are");
    }
    Ok(key.to_owned())
}

/// The settings in the environment, and the file that `IDEM_CONFIG` names.
fn environment(env: impl IntoIterator<Item = (String, String)>) -> anyhow::Result<(Layer, Option<PathBuf>)> {
    let mut layer = Layer::new();
    let mut path = None;
    for (name, value) in env {
        let Some(rest) = name.strip_prefix("IDEM_") else { continue };
        if name == "IDEM_CONFIG" && !value.is_empty() {
            path = Some(PathBuf::from(value));
        } else if !OTHER_VARIABLES.contains(&name.as_str()) {
            let is_upper = !rest.contains(|letter: char| letter.is_ascii_lowercase());
            let key = known(&rest.to_ascii_lowercase()).ok().filter(|_| is_upper);
            let key =
                key.with_context(|| format!("unknown variable {name}: `idem config` prints all there are"))?;
            layer.insert(key, value);
        }
    }
    Ok((layer, path))
}

fn file(path: &Path) -> anyhow::Result<Layer> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let table: toml::Table = text.parse().with_context(|| format!("{shown} is not TOML"))?;
    let mut layer = Layer::new();
    for (key, value) in table {
        let key = known(&key).with_context(|| format!("in {shown}"))?;
        let value = plain(&value)
            .with_context(|| format!("in {shown}: `{key}` is neither a text nor a list of texts"))?;
        layer.insert(key, value);
    }
    Ok(layer)
}

/// A TOML value as the text that the environment would carry; a list is its texts, one a line.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(toml::Value::as_str).collect();
            Some(items?.join("\n"))
        }
        _ => None,
    }
}
