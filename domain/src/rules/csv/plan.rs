//! A mapping laid over the header of one file: where the fields of an event stand in its rows.

use super::CsvMapping;
use super::time::Times;
use crate::limits::CSV_COLUMNS_MAX;
use crate::rules::draft::{EventDraft, LocationDraft, Sent};
use crate::rules::json_text;
use crate::rules::problem::{Code, FieldProblem};

/// One row, its quotes resolved.
#[derive(Debug, Clone, Copy)]
pub struct Row<'r> {
    /// Its cells without anything between them.
    pub bytes: &'r [u8],
    /// Where each cell ends; of a row with too many cells the first ones.
    pub ends: &'r [usize],
    /// How many cells it has.
    pub cells: usize,
}

impl<'r> Row<'r> {
    /// A cell; none when there is none there, or it is not UTF-8.
    fn cell(&self, at: usize) -> Option<&'r str> {
        let begin = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        std::str::from_utf8(self.bytes.get(begin..*self.ends.get(at)?)?).ok()
    }
}

/// Reads the rows under a header.
#[derive(Debug, Clone)]
pub struct Plan {
    header: Vec<String>,
    kind: Kind,
    timestamp: usize,
    end_date: Option<usize>,
    id: Option<usize>,
    external_id: Vec<usize>,
    notes: Option<usize>,
    latitude: Option<usize>,
    longitude: Option<usize>,
    properties: Vec<usize>,
    source_type: String,
    missing: Vec<String>,
    times: Times,
}

#[derive(Debug, Clone)]
enum Kind {
    Named(String),
    Column(usize),
}

/// The columns that a mapping names and a header has not, or has twice.
#[derive(Default)]
struct Lookup<'h> {
    header: &'h [String],
    unknown: Vec<String>,
    twice: Vec<String>,
}

impl Lookup<'_> {
    fn column(&mut self, name: &str) -> usize {
        let mut found = self.header.iter().enumerate().filter(|(_, other)| *other == name);
        let first = found.next().map(|(at, _)| at);
        let is_twice = found.next().is_some();
        let told = if is_twice { &mut self.twice } else { &mut self.unknown };
        if (first.is_none() || is_twice) && !told.iter().any(|other| other == name) {
            told.push(name.to_owned());
        }
        first.unwrap_or_default()
    }

    fn optional(&mut self, name: Option<&String>) -> Option<usize> {
        name.map(|name| self.column(name))
    }

    fn all(&mut self, names: Option<&Vec<String>>) -> Vec<usize> {
        names.into_iter().flatten().map(|name| self.column(name)).collect()
    }

    /// What is wrong, naming the columns; of very many only the first.
    fn fault(&self) -> Option<String> {
        let list = |names: &[String]| {
            let told: Vec<_> = names.iter().take(10).map(|name| format!("{:?}", shorten(name))).collect();
            let more = if names.len() > told.len() { " and more" } else { "" };
            format!("{}{more}", told.join(", "))
        };
        match (self.unknown.as_slice(), self.twice.as_slice()) {
            ([], []) => None,
            ([], twice) => {
                Some(format!("the header names columns twice that the mapping reads: {}", list(twice)))
            }
            (unknown, _) => Some(format!("the header lacks columns of the mapping: {}", list(unknown))),
        }
    }
}

impl Plan {
    /// Lays a mapping over a header.
    ///
    /// # Errors
    /// One sentence, when the mapping names columns that are not there or are there twice.
    pub fn new(mapping: &CsvMapping, row: Row<'_>) -> Result<Self, String> {
        if row.cells > CSV_COLUMNS_MAX {
            return Err(format!(
                "the header has {} columns; at most {CSV_COLUMNS_MAX} are allowed",
                row.cells
            ));
        }
        let header: Option<Vec<String>> = (0..row.cells).map(|at| row.cell(at).map(str::to_owned)).collect();
        let header = header.ok_or("the header is not UTF-8")?;
        let times = Times::new(mapping.timestamp_format.as_deref(), mapping.time_zone.as_deref());
        let times = times.ok_or("the mapping has no such time format or zone")?;
        let mut lookup = Lookup { header: &header, ..Lookup::default() };
        let kind = match (&mapping.event_type_column, &mapping.event_type) {
            (Some(column), _) => Kind::Column(lookup.column(column)),
            (None, name) => Kind::Named(name.clone().unwrap_or_default()),
        };
        let timestamp = lookup.column(&mapping.timestamp_column);
        let end_date = lookup.optional(mapping.end_date_column.as_ref());
        let id = lookup.optional(mapping.id_column.as_ref());
        let external_id = lookup.all(mapping.external_id_columns.as_ref());
        let notes = lookup.optional(mapping.notes_column.as_ref());
        let latitude = lookup.optional(mapping.latitude_column.as_ref());
        let longitude = lookup.optional(mapping.longitude_column.as_ref());
        let properties = match &mapping.property_columns {
            named @ Some(_) => lookup.all(named.as_ref()),
            None => {
                let mut mapped = external_id.clone();
                mapped.push(timestamp);
                mapped.extend([end_date, id, notes, latitude, longitude].into_iter().flatten());
                mapped.extend(if let Kind::Column(at) = kind { Some(at) } else { None });
                let rest = (0..header.len()).filter(|at| !mapped.contains(at));
                rest.map(|at| lookup.column(&header[at])).collect()
            }
        };
        if let Some(fault) = lookup.fault() {
            return Err(fault);
        }
        let missing = mapping.missing.clone();
        Ok(Self {
            kind,
            timestamp,
            end_date,
            id,
            external_id,
            notes,
            latitude,
            longitude,
            properties,
            source_type: mapping.source_type.clone().unwrap_or_else(|| "imported".to_owned()),
            missing: missing.unwrap_or_else(|| vec![String::new(), "NA".to_owned()]),
            times,
            header,
        })
    }

    /// Reads a row.
    ///
    /// # Errors
    /// What is wrong with its cells; the pointer tells the field of the event, the detail the column.
    pub fn draft(&self, row: Row<'_>) -> Result<EventDraft, Vec<FieldProblem>> {
        let whole = |detail: String| vec![FieldProblem::new("", Code::InvalidValue, detail)];
        let columns = self.header.len();
        if row.cells != columns {
            return Err(whole(format!("has {} cells under a header of {columns}", row.cells)));
        }
        if let Some(at) = (0..columns).find(|at| row.cell(*at).is_none()) {
            return Err(whole(format!("is not UTF-8{}", self.named(at))));
        }
        let mut problems = Vec::new();
        let text =
            |at: Option<usize>| self.cell(row, at).map_or(Sent::Absent, |cell| Sent::Value(cell.to_owned()));
        let mut time = |pointer: &str, at: Option<usize>| {
            let (Some(at), Some(cell)) = (at, self.cell(row, at)) else { return Sent::Absent };
            self.times.read(cell).map(Sent::Value).unwrap_or_else(|detail| {
                let detail = format!("{detail}{}", self.named(at));
                problems.push(FieldProblem::new(pointer, Code::InvalidDatetime, detail));
                Sent::Absent
            })
        };
        let timestamp = time("/timestamp", Some(self.timestamp));
        let end_date = time("/endDate", self.end_date);
        let location = self.location(row, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(EventDraft {
            id: text(self.id),
            event_type: match &self.kind {
                Kind::Named(name) => Sent::Value(name.clone()),
                Kind::Column(at) => text(Some(*at)),
            },
            timestamp,
            end_date,
            notes: text(self.notes),
            source_type: Sent::Value(self.source_type.clone()),
            external_id: self.external_id(row),
            location,
            properties: self.properties(row),
            ..EventDraft::default()
        })
    }

    /// Names the columns in problems that were found in a draft of this plan.
    #[must_use]
    pub fn explain(&self, mut problems: Vec<FieldProblem>) -> Vec<FieldProblem> {
        for problem in &mut problems {
            // A cell holds a name, never an id.
            if problem.pointer == "/eventTypeId" {
                "/eventType".clone_into(&mut problem.pointer);
            }
            let column = match problem.pointer.as_str() {
                "/timestamp" => Some(self.timestamp),
                "/endDate" => self.end_date,
                "/id" => self.id,
                "/notes" => self.notes,
                "/externalId" => self.external_id.first().copied(),
                "/location/latitude" => self.latitude,
                "/location/longitude" => self.longitude,
                "/eventType" => {
                    if let Kind::Column(at) = self.kind {
                        Some(at)
                    } else {
                        None
                    }
                }
                _ => None,
            };
            if let Some(at) = column {
                problem.detail.push_str(&self.named(at));
            }
        }
        problems
    }

    fn named(&self, at: usize) -> String {
        format!(" (column {:?})", shorten(&self.header[at]))
    }

    /// A cell that is not missing.
    fn cell<'r>(&self, row: Row<'r>, at: Option<usize>) -> Option<&'r str> {
        row.cell(at?).filter(|cell| !self.missing.iter().any(|missing| missing == cell))
    }

    /// The external id; none when all its parts are missing.
    fn external_id(&self, row: Row<'_>) -> Sent<String> {
        let mut joined = String::new();
        let mut is_there = false;
        for (number, at) in self.external_id.iter().enumerate() {
            if number > 0 {
                joined.push('|');
            }
            let part = self.cell(row, Some(*at));
            is_there |= part.is_some();
            joined.push_str(part.unwrap_or_default());
        }
        if is_there { Sent::Value(joined) } else { Sent::Absent }
    }

    fn location(&self, row: Row<'_>, problems: &mut Vec<FieldProblem>) -> Sent<LocationDraft> {
        let mut degrees = |pointer: &str, at: Option<usize>| {
            let (Some(at), Some(cell)) = (at, self.cell(row, at)) else { return Sent::Absent };
            let cell = cell.trim_ascii();
            let is_number = json_text::is_number(cell.strip_prefix('+').unwrap_or(cell));
            cell.parse().ok().filter(|_| is_number).map_or_else(
                || {
                    let detail = format!("is not a number{}", self.named(at));
                    problems.push(FieldProblem::new(pointer, Code::InvalidValue, detail));
                    Sent::WrongKind
                },
                Sent::Value,
            )
        };
        let latitude = degrees("/location/latitude", self.latitude);
        let longitude = degrees("/location/longitude", self.longitude);
        match (&latitude, &longitude) {
            (Sent::Absent, Sent::Absent) => Sent::Absent,
            _ => Sent::Value(LocationDraft { latitude, longitude, name: Sent::Absent }),
        }
    }

    fn properties(&self, row: Row<'_>) -> Sent<String> {
        let mut object = String::with_capacity(row.bytes.len() * 2);
        object.push('{');
        for at in &self.properties {
            let Some(cell) = self.cell(row, Some(*at)) else { continue };
            json_text::push_key(&mut object, &self.header[*at]);
            if matches!(cell, "true" | "false") || json_text::is_plain_number(cell) {
                object.push_str(cell);
            } else {
                json_text::push_text(&mut object, cell);
            }
        }
        object.push('}');
        Sent::Value(object)
    }
}

/// The beginning of a name that somebody else chose.
fn shorten(name: &str) -> &str {
    name.char_indices().nth(60).map_or(name, |(end, _)| &name[..end])
}
