//! The rejected records of a payload as they were sent, each with the reason: a file to mend and to import again.

#[cfg(test)]
mod tests;

use domain::rules::csv_mapping::CsvMapping;
use domain::rules::import::Format;
use serde::de::IgnoredAny;

use crate::csv::{About, Sheet};
use crate::{Checkpoint, Input, ReadError, RecordReader, excerpt};

/// The name of the column, and of the field, that holds the reason.
const REASON: &str = "rejection";

/// A payload whose rejected records are to be written.
pub struct Rejected {
    reader: Box<dyn RecordReader>,
    shape: Shape,
    /// The number of the record at which the reader is.
    at: i64,
    written: u64,
}

impl std::fmt::Debug for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rejected").field("at", &self.at).finish_non_exhaustive()
    }
}

/// What a file of the format looks like.
enum Shape {
    Lines,
    Array,
    Export,
    Table { about: Box<About>, header: Vec<u8>, skips: u32 },
}

impl Rejected {
    /// Opens a payload.
    ///
    /// # Errors
    /// If it cannot be read at all.
    pub fn open(input: &Input, format: Format, mapping: Option<&CsvMapping>) -> Result<Self, ReadError> {
        let (reader, shape): (Box<dyn RecordReader>, _) = if format == Format::Csv {
            let mapping = mapping.cloned().unwrap_or_default();
            let sheet = Sheet::open(crate::unpacked(input)?.1, &mapping, input)?;
            let (about, header) = (Box::new(sheet.about()), sheet.raw().to_owned());
            (Box::new(sheet), Shape::Table { about, header, skips: mapping.skip_lines })
        } else {
            let shape = match format {
                Format::Json => Shape::Array,
                Format::AppleHealth => Shape::Export,
                _ => Shape::Lines,
            };
            (crate::open(input, format, None, Checkpoint::default())?.0, shape)
        };
        Ok(Self { reader, shape, at: 0, written: 0 })
    }

    /// The media type of what is written.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        match self.shape {
            Shape::Lines => "application/x-ndjson",
            Shape::Array => "application/json",
            Shape::Export => "application/xml",
            Shape::Table { .. } => "text/csv; charset=utf-8",
        }
    }

    /// What stands before the first record.
    #[must_use]
    pub fn begin(&self) -> Vec<u8> {
        match &self.shape {
            Shape::Lines => Vec::new(),
            Shape::Array => b"[".to_vec(),
            Shape::Export => b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<HealthData>\n".to_vec(),
            Shape::Table { about, header, skips } => {
                let mut out = Vec::new();
                // The mapping says how many lines are skipped, and perhaps another encoding: a mark says that this is UTF-8.
                if about.encoding != "UTF-8" {
                    out.extend("\u{feff}".bytes());
                }
                let told = about.is_delimiter_told.then(|| format!("sep={}", about.delimiter));
                let lines = told.into_iter().chain(std::iter::repeat(String::new()));
                let count = (*skips).max(u32::from(about.is_delimiter_told)) as usize;
                out.extend(lines.take(count).flat_map(|line| (line + "\n").into_bytes()));
                out.extend(header);
                push_cell(&mut out, about.delimiter, REASON);
                out
            }
        }
    }

    /// A record, by its number from 1 on, with the reason; records are asked for in order. `None`: the payload has no
    /// such record.
    ///
    /// # Errors
    /// If the payload cannot be read so far.
    pub fn record(&mut self, number: i64, reason: &str) -> Result<Option<Vec<u8>>, ReadError> {
        while self.at < number {
            if !self.reader.advance()? {
                return Ok(None);
            }
            self.at += 1;
        }
        let is_first = self.written == 0;
        self.written += 1;
        let raw = self.reader.raw();
        let is_whole = !self.reader.is_too_long();
        Ok(Some(match &self.shape {
            Shape::Lines => with_newline(json_record(raw, is_whole, reason)),
            Shape::Array => {
                let separator = if is_first { "\n" } else { ",\n" };
                [separator.as_bytes(), &json_record(raw, is_whole, reason)].concat()
            }
            Shape::Export => {
                let mut out = format!("<!-- {REASON}: {} -->\n", comment(reason)).into_bytes();
                out.extend(if is_whole { raw } else { b"<!-- too long -->" });
                with_newline(out)
            }
            Shape::Table { about, .. } => {
                let cells = self.reader.cells().len();
                let mut out = Vec::new();
                if is_whole {
                    out.extend(raw);
                    let missing = about.header.len().saturating_sub(cells);
                    out.extend(std::iter::repeat_n(about.delimiter as u8, missing));
                } else {
                    out.extend(quoted(&excerpt(raw)));
                    let missing = about.header.len().saturating_sub(1);
                    out.extend(std::iter::repeat_n(about.delimiter as u8, missing));
                }
                push_cell(&mut out, about.delimiter, reason);
                out
            }
        }))
    }

    /// What stands after the last record.
    #[must_use]
    pub fn end(&self) -> Vec<u8> {
        match self.shape {
            Shape::Lines | Shape::Table { .. } => Vec::new(),
            Shape::Array => b"\n]\n".to_vec(),
            Shape::Export => b"</HealthData>\n".to_vec(),
        }
    }
}

fn with_newline(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.push(b'\n');
    bytes
}

/// An object with one field more. What is no object becomes the text in one.
fn json_record(raw: &[u8], is_whole: bool, reason: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(raw);
    let reason = serde_json::Value::from(reason);
    let object = text.trim().strip_suffix('}').filter(|object| object.starts_with('{') && is_whole);
    match object {
        Some(object) if serde_json::from_str::<IgnoredAny>(&text).is_ok() => {
            let separator = if object[1..].trim().is_empty() { "" } else { "," };
            format!("{object}{separator}\"{REASON}\":{reason}}}").into_bytes()
        }
        _ => {
            let record = if is_whole { text.into_owned() } else { excerpt(raw) };
            serde_json::json!({ "record": record, REASON: reason }).to_string().into_bytes()
        }
    }
}

/// The last cell of a row, and the end of the row.
fn push_cell(out: &mut Vec<u8>, delimiter: char, text: &str) {
    out.push(delimiter as u8);
    out.extend(quoted(text));
    out.push(b'\n');
}

fn quoted(text: &str) -> Vec<u8> {
    format!("\"{}\"", text.replace('"', "\"\"")).into_bytes()
}

/// Text that may stand in a comment (XML 1.0, section 2.5).
fn comment(text: &str) -> String {
    text.replace("--", "- -").trim_end_matches('-').to_owned()
}
