//! The secret of a development server: made once, kept in the data directory, readable by its owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

const SECRET_BYTES: usize = 32;

/// Where the secret of `--dev` is kept.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("dev-secret")
}

/// The kept secret, if one was made.
pub(super) fn find(data_dir: &Path) -> anyhow::Result<Option<String>> {
    let path = path(data_dir);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The kept secret, made now if there is none.
pub(super) fn find_or_make(data_dir: &Path) -> anyhow::Result<String> {
    if let Some(secret) = find(data_dir)? {
        return Ok(secret);
    }
    let path = path(data_dir);
    let secret = make(data_dir, &path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(secret)
}

/// Written beside and renamed, so that a crash never leaves half a secret.
fn make(data_dir: &Path, path: &Path) -> std::io::Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let secret = hex::encode(bytes);
    fs::create_dir_all(data_dir)?;
    let draft = path.with_extension(std::process::id().to_string());
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    Ok(secret)
}
