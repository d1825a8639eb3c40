//! The rejected records of a payload as they were sent, each with the reason: a file to mend and to import again.

#[cfg(test)]
mod tests;

use domain::csv_mapping::CsvMapping;
use domain::import::Format;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::csv::{CsvSummary, UnmappedTable};
use crate::{Checkpoint, Input, ReadError, RecordReader, apple_health, excerpt};

/// The name of the column, and of the field, that holds the reason.
const REASON: &str = "rejection";

/// A payload whose rejected records are to be written.
pub struct Rejected {
    content: Content,
    /// The number of the record at which the reader is.
    at: i64,
    written: u64,
}

impl std::fmt::Debug for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rejected").field("at", &self.at).finish_non_exhaustive()
    }
}

/// What is read, by what a file of its format looks like.
enum Content {
    Lines(Box<dyn RecordReader>),
    Array(Box<dyn RecordReader>),
    Export(Box<dyn RecordReader>),
    Table(Box<Table>),
}

impl Content {
    fn reader(&mut self) -> &mut dyn RecordReader {
        match self {
            Self::Lines(reader) | Self::Array(reader) | Self::Export(reader) => reader.as_mut(),
            Self::Table(table) => &mut table.table,
        }
    }
}

impl Rejected {
    /// Opens a payload.
    ///
    /// # Errors
    /// If it cannot be read at all.
    pub fn open(input: &Input, format: Format, mapping: Option<&CsvMapping>) -> Result<Self, ReadError> {
        let reader = || Ok::<_, ReadError>(crate::open(input, format, None, Checkpoint::default())?.0);
        let content = match format {
            Format::Ndjson => Content::Lines(reader()?),
            Format::Json => Content::Array(reader()?),
            Format::AppleHealth => Content::Export(reader()?),
            Format::Csv => {
                let mapping = mapping.cloned().unwrap_or_default();
                let table = UnmappedTable::open(crate::unpacked(input)?.1, &mapping, input)?;
                Content::Table(Box::new(Table::new(table, mapping.skip_lines)))
            }
        };
        Ok(Self { content, at: 0, written: 0 })
    }

    /// The media type of what is written.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        match self.content {
            Content::Lines(_) => "application/x-ndjson",
            Content::Array(_) => "application/json",
            Content::Export(_) => "application/xml",
            Content::Table(_) => "text/csv; charset=utf-8",
        }
    }

    /// What stands before the first record.
    #[must_use]
    pub fn begin(&self) -> Vec<u8> {
        match &self.content {
            Content::Lines(_) => Vec::new(),
            Content::Array(_) => b"[".to_vec(),
            Content::Export(_) => b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<HealthData>\n".to_vec(),
            Content::Table(table) => table.begin(),
        }
    }

    /// A record, by its number from 1 on, with the reason; records are asked for in order. `None`: the payload has no
    /// such record.
    ///
    /// # Errors
    /// If the payload cannot be read so far.
    pub fn record(&mut self, number: i64, reason: &str) -> Result<Option<Vec<u8>>, ReadError> {
        while self.at < number {
            if !self.content.reader().advance()? {
                return Ok(None);
            }
            self.at += 1;
        }
        let is_first = self.written == 0;
        self.written += 1;
        Ok(Some(match &self.content {
            Content::Lines(reader) => with_newline(json_record(reader.as_ref(), reason)),
            Content::Array(reader) => {
                let separator = if is_first { "\n" } else { ",\n" };
                [separator.as_bytes(), &json_record(reader.as_ref(), reason)].concat()
            }
            Content::Export(reader) => {
                let mut out = format!("<!-- {REASON}: {} -->\n", comment(reason)).into_bytes();
                out.extend(xml_record(reader.as_ref()));
                with_newline(out)
            }
            Content::Table(table) => table.row(reason),
        }))
    }

    /// What stands after the last record.
    #[must_use]
    pub fn end(&self) -> Vec<u8> {
        match self.content {
            Content::Lines(_) | Content::Table(_) => Vec::new(),
            Content::Array(_) => b"\n]\n".to_vec(),
            Content::Export(_) => b"</HealthData>\n".to_vec(),
        }
    }
}

/// Rows of CSV with the reason in one more column at the end.
struct Table {
    table: UnmappedTable,
    summary: CsvSummary,
    header: Vec<u8>,
    /// How many columns are written before the reason. One that holds the reason of an earlier import is left out.
    columns: usize,
    /// Lines before the header that the mapping passes over.
    skips: u32,
}

impl Table {
    fn new(table: UnmappedTable, skips: u32) -> Self {
        let (summary, width) = (table.summary(), table.width());
        let has_reason = summary.header.last().is_some_and(|name| name == REASON);
        let columns = if has_reason { summary.header.len() - 1 } else { width };
        let header = if has_reason { table.cut_to(columns) } else { table.raw().to_owned() };
        Self { table, summary, header, columns, skips }
    }

    fn begin(&self) -> Vec<u8> {
        // The mapping may name the encoding of the payload: the mark says that this is UTF-8.
        let mut out = "\u{feff}".as_bytes().to_vec();
        let told = self.summary.is_delimiter_told.then(|| format!("sep={}", self.summary.delimiter));
        let count = self.skips.max(u32::from(told.is_some())) as usize;
        let lines = told.into_iter().chain(std::iter::repeat(String::new())).take(count);
        out.extend(lines.flat_map(|line| (line + "\n").into_bytes()));
        out.extend(&self.header);
        self.end_row(out, REASON)
    }

    /// The row at which the reader is.
    fn row(&self, reason: &str) -> Vec<u8> {
        let cells = self.table.cells().len();
        let (mut out, cells) = if self.table.is_too_long() {
            (quoted(&excerpt(self.table.raw())), 1)
        } else if self.table.has_surplus() || cells <= self.columns.min(self.table.width()) {
            (self.table.raw().to_owned(), cells)
        } else {
            (self.table.cut_to(self.columns), self.columns)
        };
        out.extend(std::iter::repeat_n(self.summary.delimiter as u8, self.columns.saturating_sub(cells)));
        self.end_row(out, reason)
    }

    fn end_row(&self, mut out: Vec<u8>, last: &str) -> Vec<u8> {
        out.push(self.summary.delimiter as u8);
        out.extend(quoted(last));
        with_newline(out)
    }
}

fn with_newline(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.push(b'\n');
    bytes
}

/// An element. What is none, or would end those around it, becomes the text in one.
fn xml_record(reader: &dyn RecordReader) -> Vec<u8> {
    if !reader.is_too_long() && apple_health::is_element(reader.raw()) {
        return reader.raw().to_owned();
    }
    let text = if reader.is_too_long() {
        excerpt(reader.raw())
    } else {
        String::from_utf8_lossy(reader.raw()).into_owned()
    };
    format!("<Record text=\"{}\"/>", quick_xml::escape::escape(&text)).into_bytes()
}

/// An object with the reason in a field. What is no object becomes the text in one.
fn json_record(reader: &dyn RecordReader, reason: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(reader.raw());
    let reason = serde_json::Value::from(reason);
    let is_object = !reader.is_too_long() && serde_json::from_str::<IgnoredAny>(&text).is_ok();
    let Some(open) = text.trim().strip_suffix('}').filter(|open| is_object && open.starts_with('{')) else {
        let record = if reader.is_too_long() { excerpt(reader.raw()) } else { text.into_owned() };
        return serde_json::json!({ "record": record, REASON: reason }).to_string().into_bytes();
    };
    let open = without_reason(&text).unwrap_or_else(|| open.to_owned());
    let separator = if open.trim_end() == "{" { "" } else { "," };
    format!("{open}{separator}\"{REASON}\":{reason}}}").into_bytes()
}

/// An object without the reason of an earlier import, and without its last bracket; `None` if it has no such reason.
fn without_reason(object: &str) -> Option<String> {
    let Fields(fields) = serde_json::from_str(object).ok()?;
    let (reasons, others): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(name, _)| name == REASON);
    if reasons.is_empty() {
        return None;
    }
    let written = others.iter().map(|(name, value)| format!("{}:{value}", serde_json::Value::from(&**name)));
    Some("{".to_owned() + &written.collect::<Vec<_>>().join(","))
}

/// The fields of an object as they are written, names that come twice among them.
struct Fields<'t>(Vec<(String, &'t RawValue)>);

impl<'t> Deserialize<'t> for Fields<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'t> Visitor<'t> for FieldsVisitor {
            type Value = Fields<'t>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Fields<'t>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

fn quoted(text: &str) -> Vec<u8> {
    format!("\"{}\"", text.replace('"', "\"\"")).into_bytes()
}

/// Text that may stand in a comment (XML 1.0, section 2.5).
fn comment(text: &str) -> String {
    text.replace("--", "- -").trim_end_matches('-').to_owned()
}
