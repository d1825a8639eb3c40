//! Keeps the signing secret of a development server in the data directory. It is created once, and only its
//! owner can read it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

const SECRET_BYTES: usize = 32;

/// The path of the file with the signing secret of a development server.
pub(super) fn secret_path(data_dir: &Path) -> PathBuf {
    data_dir.join("dev-secret")
}

/// Reads the signing secret of the development server. Returns `None` if none was created yet.
pub(super) fn load_secret(data_dir: &Path) -> anyhow::Result<Option<String>> {
    let path = secret_path(data_dir);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Reads the signing secret of the development server, or creates it in the data directory if there is none.
pub(super) fn load_or_create_secret(data_dir: &Path) -> anyhow::Result<String> {
    if let Some(secret) = load_secret(data_dir)? {
        return Ok(secret);
    }
    let path = secret_path(data_dir);
    create_secret(data_dir, &path).with_context(|| format!("cannot create {}", path.display()))
}

/// Creates a random secret, and stores it in the file `path`. It is written to a temporary file that is then
/// renamed, so that a crash never leaves half a secret.
fn create_secret(data_dir: &Path, path: &Path) -> std::io::Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let secret = hex::encode(bytes);
    fs::create_dir_all(data_dir)?;
    let temporary = path.with_extension(std::process::id().to_string());
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(secret)
}
