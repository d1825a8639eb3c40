//! Detects the format of a file from its content. The file name is used only if the content is not enough.

use std::path::Path;
use std::sync::Arc;

use anyhow::{bail, ensure};
use domain::import::Format;
use formats::{FileSource, Input, Source};

use super::args::ImportFormat;

/// Detects the format of the file from its content, and from its name if that is not enough. `has_columns`
/// says whether `--timestamp` is given; text that is neither JSON nor XML is then CSV.
///
/// # Errors
/// If the file is empty or cannot be read or unpacked, if its format cannot be detected, or if it is CSV
/// without `has_columns`.
pub(super) fn detect_format(path: &Path, has_columns: bool) -> anyhow::Result<ImportFormat> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let source = FileSource::new(path)?;
    ensure!(source.size() > 0, "it is empty");
    let (_, format) = formats::detect_packing_and_format(&Input::new(Arc::new(source)), &name, has_columns)?;
    match format {
        Some(Format::Csv) if !has_columns => bail!("CSV needs --timestamp COL, the column with the time"),
        Some(format) => Ok(format.into()),
        None => bail!(
            "its format cannot be detected: for CSV give --timestamp COL, the column with the time, \
             else give --format"
        ),
    }
}

#[cfg(test)]
mod tests;
