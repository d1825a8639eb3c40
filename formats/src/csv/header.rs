//! The header of a file: the names of its columns, and where the columns of a mapping are among them.

use std::collections::{HashMap, HashSet};

use domain::limits::CSV_COLUMNS_MAX;

use super::rows::Row;

/// Of a header that does not fit, so many names are told.
const NAMES_TOLD_MAX: usize = 10;

/// The names of the columns. Of several columns at the end that have none, only the first counts.
#[derive(Debug, Clone)]
pub(super) struct Header(Vec<String>);

impl Header {
    /// Reads the header. A name that was there before gets a number: `Distance`, `Distance (2)`.
    ///
    /// # Errors
    /// If it has too many columns, or is not UTF-8.
    pub(super) fn read(row: Row<'_>) -> Result<Self, String> {
        if row.cells > CSV_COLUMNS_MAX {
            let cells = row.cells;
            return Err(format!("the header has {cells} columns; at most {CSV_COLUMNS_MAX} are allowed"));
        }
        let names: Option<Vec<&str>> = (0..row.cells).map(|at| row.cell(at)).collect();
        let mut names = names.ok_or("the header is not UTF-8: name its encoding in the mapping")?;
        while names.ends_with(&["", ""]) {
            names.pop();
        }
        let written: HashSet<&str> = names.iter().copied().collect();
        // How often each name was there.
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let mut unique = Vec::with_capacity(names.len());
        for name in &names {
            let times = seen.entry(name).or_default();
            *times += 1;
            let mut own = if *times == 1 { (*name).to_owned() } else { format!("{name} ({times})") };
            while *times > 1 && written.contains(own.as_str()) {
                *times += 1;
                own = format!("{name} ({times})");
            }
            unique.push(own);
        }
        Ok(Self(unique))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn name(&self, at: usize) -> &str {
        self.0.get(at).map_or("", String::as_str)
    }

    /// What to tell of a header that lacks columns.
    fn told(&self) -> String {
        let names = list(&self.0);
        let [only] = self.0.as_slice() else { return format!("it has {names}") };
        let likely = delimiters().find(|delimiter| only.contains(*delimiter));
        let hint = likely.map_or(String::new(), |delimiter| match delimiter {
            '\t' => "; is the delimiter a tab?".to_owned(),
            other => format!("; is the delimiter {other:?}?"),
        });
        format!("it has one column, {names}{hint}")
    }
}

/// The delimiters that files are written with, the usual ones first.
pub(super) fn delimiters() -> impl DoubleEndedIterator<Item = char> {
    [',', ';', '\t', '|'].into_iter()
}

/// Finds the columns of a mapping.
pub(super) struct Lookup<'h> {
    header: &'h Header,
    unknown: Vec<String>,
}

impl<'h> Lookup<'h> {
    pub(super) fn new(header: &'h Header) -> Self {
        Self { header, unknown: Vec::new() }
    }

    pub(super) fn column(&mut self, name: &str) -> usize {
        let found = self.header.0.iter().position(|other| other == name);
        if found.is_none() && !self.unknown.iter().any(|other| other == name) {
            self.unknown.push(name.to_owned());
        }
        found.unwrap_or_default()
    }

    pub(super) fn optional(&mut self, name: Option<&String>) -> Option<usize> {
        name.map(|name| self.column(name))
    }

    pub(super) fn all(&mut self, names: Option<&Vec<String>>) -> Vec<usize> {
        names.into_iter().flatten().map(|name| self.column(name)).collect()
    }

    /// Makes sure that all columns were found.
    ///
    /// # Errors
    /// The columns that were not, and what the header has instead.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.unknown.is_empty() {
            return Ok(());
        }
        let (unknown, told) = (list(&self.unknown), self.header.told());
        Err(format!("the header lacks columns of the mapping: {unknown}; {told}"))
    }
}

fn list(names: &[String]) -> String {
    let told: Vec<_> = names.iter().take(NAMES_TOLD_MAX).map(|name| format!("{:?}", shorten(name))).collect();
    let more = if names.len() > told.len() { " and more" } else { "" };
    format!("{}{more}", told.join(", "))
}

/// The beginning of a name that somebody else chose.
pub(super) fn shorten(name: &str) -> &str {
    name.char_indices().nth(60).map_or(name, |(end, _)| &name[..end])
}
