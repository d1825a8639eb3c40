//! Reads the header of a file, and finds the columns of a mapping in it.

use std::collections::{HashMap, HashSet};

use domain::limits::CSV_COLUMNS_MAX;

use super::rows::Row;

/// Number of column names that an error lists.
const NAMES_LISTED_MAX: usize = 10;

/// The column names of a CSV, each unique. If several columns at the end have no name, only the first of them
/// counts.
#[derive(Debug, Clone)]
pub(super) struct Header(Vec<String>);

impl Header {
    /// Reads the column names of a header row. A name that occurs again gets a number: `Distance (2)`.
    ///
    /// # Errors
    /// The detail of a problem if it has too many columns or is not UTF-8.
    pub(super) fn from_row(row: Row<'_>) -> Result<Self, String> {
        if row.cells > CSV_COLUMNS_MAX {
            let cells = row.cells;
            return Err(format!("the header has {cells} columns; at most {CSV_COLUMNS_MAX} are allowed"));
        }
        let names: Option<Vec<&str>> = (0..row.cells).map(|at| row.cell_text(at)).collect();
        let mut names = names.ok_or("the header is not UTF-8: name its encoding in the mapping")?;
        while names.ends_with(&["", ""]) {
            names.pop();
        }
        let written: HashSet<&str> = names.iter().copied().collect();
        // Number of times that each name occurred.
        let mut occurrences: HashMap<&str, usize> = HashMap::new();
        let mut unique = Vec::with_capacity(names.len());
        for name in &names {
            let times = occurrences.entry(name).or_default();
            *times += 1;
            let mut unique_name = if *times == 1 { (*name).to_owned() } else { format!("{name} ({times})") };
            while *times > 1 && written.contains(unique_name.as_str()) {
                *times += 1;
                unique_name = format!("{name} ({times})");
            }
            unique.push(unique_name);
        }
        Ok(Self(unique))
    }

    pub(super) fn column_count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn column_name(&self, at: usize) -> &str {
        self.0.get(at).map_or("", String::as_str)
    }

    /// Lists the columns of the header for an error. If it has only one, suggests the delimiter to use.
    fn describe_columns(&self) -> String {
        let names = quote_names(&self.0);
        let [only] = self.0.as_slice() else { return format!("it has {names}") };
        let likely = usual_delimiters().find(|delimiter| only.contains(*delimiter));
        let hint = likely.map_or(String::new(), |delimiter| match delimiter {
            '\t' => "; is the delimiter a tab?".to_owned(),
            other => format!("; is the delimiter {other:?}?"),
        });
        format!("it has one column, {names}{hint}")
    }
}

/// The usual delimiters, the most common ones first.
pub(super) fn usual_delimiters() -> impl DoubleEndedIterator<Item = char> {
    [',', ';', '\t', '|'].into_iter()
}

/// Finds the indexes of columns in a header by their names, and collects the names that the header lacks.
pub(super) struct Lookup<'h> {
    header: &'h Header,
    missing: Vec<String>,
}

impl<'h> Lookup<'h> {
    pub(super) fn new(header: &'h Header) -> Self {
        Self { header, missing: Vec::new() }
    }

    pub(super) fn column_index_or_note_missing(&mut self, name: &str) -> usize {
        let found = self.header.0.iter().position(|other| other == name);
        if found.is_none() && !self.missing.iter().any(|other| other == name) {
            self.missing.push(name.to_owned());
        }
        found.unwrap_or_default()
    }

    pub(super) fn column_index_if_named(&mut self, name: Option<&String>) -> Option<usize> {
        name.map(|name| self.column_index_or_note_missing(name))
    }

    pub(super) fn column_indexes_or_note_missing(&mut self, names: Option<&Vec<String>>) -> Vec<usize> {
        names.into_iter().flatten().map(|name| self.column_index_or_note_missing(name)).collect()
    }

    /// Checks that the header has all columns that were looked up so far.
    ///
    /// # Errors
    /// A text with the missing columns and the columns of the header.
    pub(super) fn check_all_found(&self) -> Result<(), String> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let (missing, present) = (quote_names(&self.missing), self.header.describe_columns());
        Err(format!("the header lacks columns of the mapping: {missing}; {present}"))
    }
}

fn quote_names(names: &[String]) -> String {
    let listed: Vec<_> =
        names.iter().take(NAMES_LISTED_MAX).map(|name| format!("{:?}", shorten_name(name))).collect();
    let more = if names.len() > listed.len() { " and more" } else { "" };
    format!("{}{more}", listed.join(", "))
}

/// The first 60 characters of a name. The name comes from the file, so it may have any length.
pub(super) fn shorten_name(name: &str) -> &str {
    name.char_indices().nth(60).map_or(name, |(end, _)| &name[..end])
}
