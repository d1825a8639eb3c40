//! What a file holds, told by its content; its name helps only where that says nothing.

use std::path::Path;
use std::sync::Arc;

use anyhow::{bail, ensure};
use domain::import::Format;
use formats::{FileSource, Input, Source};

use super::args::ImportFormat;

/// Tells the format of the file. What is neither JSON nor XML is CSV when a column of it was named.
///
/// # Errors
/// When the file cannot be read or unpacked, or says nothing of its format.
pub(super) fn format(path: &Path, columns_are_named: bool) -> anyhow::Result<ImportFormat> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let source = FileSource::new(path)?;
    ensure!(source.size() > 0, "it is empty");
    let (_, format) = formats::detect(&Input::new(Arc::new(source)), &name, columns_are_named)?;
    match format {
        Some(Format::Csv) if !columns_are_named => bail!("CSV needs --timestamp COL, the column of the time"),
        Some(format) => Ok(format.into()),
        None => bail!(
            "its content does not tell what it holds: for CSV name the column of the time with --timestamp, \
             else say --format"
        ),
    }
}

#[cfg(test)]
mod tests;
