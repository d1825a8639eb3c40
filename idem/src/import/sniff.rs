//! What a file holds, told by its first decoded bytes; its name helps only where they say nothing.

mod zip;

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use anyhow::{Context, bail};
use flate2::read::MultiGzDecoder;

use super::args::ImportFormat;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const ZIP: &[u8] = b"PK\x03\x04";
const BOM: &[u8] = &[0xef, 0xbb, 0xbf];
/// Decoded bytes that are looked at: more blanks than these begin no file.
const LOOK_BYTES: u64 = 64 << 10;
/// The folder in the zip that Apple Health makes. What lies in it is named in the user's language.
const HEALTH_FOLDER: &str = "apple_health_export/";

/// Tells the format of the file. What is neither JSON nor XML is CSV when a column of it was named.
///
/// # Errors
/// When the file cannot be read or decoded, or says nothing of its format.
pub(super) fn format(path: &Path, columns_are_named: bool) -> anyhow::Result<ImportFormat> {
    let mut file = BufReader::new(File::open(path)?);
    let magic = begin(&mut file, ZSTD.len() as u64)?;
    file.rewind()?;
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let decoded = if magic.starts_with(GZIP) {
        begin(&mut MultiGzDecoder::new(file), LOOK_BYTES).context("it is not whole gzip")?
    } else if magic.starts_with(ZSTD) {
        begin(&mut zstd::Decoder::with_buffer(file)?, LOOK_BYTES).context("it is not whole zstd")?
    } else if magic.starts_with(ZIP) {
        return in_zip(&mut file, columns_are_named);
    } else {
        begin(&mut file, LOOK_BYTES)?
    };
    tell(&decoded, &name, columns_are_named)
}

fn in_zip(file: &mut BufReader<File>, columns_are_named: bool) -> anyhow::Result<ImportFormat> {
    let members = zip::members(file).context("it is not a whole zip")?;
    if members.iter().any(|member| member.name.starts_with(HEALTH_FOLDER) && member.name.ends_with(".xml")) {
        return Ok(ImportFormat::AppleHealth);
    }
    let [member] = members.as_slice() else {
        bail!("the zip holds {} files: an import takes one, or an Apple Health export", members.len());
    };
    let decoded = begin(&mut zip::open(file, member)?, LOOK_BYTES).context("it is not a whole zip")?;
    tell(&decoded, &member.name.to_lowercase(), columns_are_named)
}

fn begin(reader: &mut dyn Read, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn tell(begin: &[u8], name: &str, columns_are_named: bool) -> anyhow::Result<ImportFormat> {
    if [GZIP, ZSTD, ZIP].iter().any(|magic| begin.starts_with(magic)) {
        bail!("it is compressed twice: unpack it once");
    }
    let text = begin.strip_prefix(BOM).unwrap_or(begin).trim_ascii_start();
    let is_called = |endings: &[&str]| {
        name.trim_end_matches(".gz")
            .trim_end_matches(".zst")
            .split('.')
            .next_back()
            .is_some_and(|ending| endings.contains(&ending))
    };
    let is_called_csv = is_called(&["csv", "tsv"]);
    Ok(match text.first() {
        // A header may begin with a bracket.
        Some(_) if is_called_csv && columns_are_named => ImportFormat::Csv,
        Some(b'[') => ImportFormat::Json,
        Some(b'{') => ImportFormat::Ndjson,
        Some(b'<') => ImportFormat::AppleHealth,
        Some(_) if columns_are_named => ImportFormat::Csv,
        Some(_) if is_called_csv => bail!("CSV needs --timestamp COL, the column of the time"),
        Some(_) => bail!(
            "its content does not tell what it holds: for CSV name the column of the time with --timestamp, \
             else say --format"
        ),
        None if begin.is_empty() => bail!("it is empty"),
        None if is_called(&["json"]) => ImportFormat::Json,
        None if is_called(&["xml"]) => ImportFormat::AppleHealth,
        None => ImportFormat::Ndjson,
    })
}

#[cfg(test)]
mod tests;
