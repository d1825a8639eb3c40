//! A mapping laid over the header of one file: where the fields of an event stand in its rows.

use std::cmp::Ordering;

use domain::csv_mapping::CsvMapping;
use domain::draft::{EventDraft, LocationDraft, Sent};
use domain::problem::{Code, FieldProblem};
use domain::{instant, json_text};

use super::clock::{Clock, Fold};
use super::header::{Header, Lookup, shorten};
use super::number::Numbers;
use super::rows::Row;
use super::times::Times;

/// The fields of an event that a column of their own may hold.
const POINTERS: [&str; 8] = [
    "/timestamp",
    "/endDate",
    "/id",
    "/notes",
    "/externalId",
    "/location/latitude",
    "/location/longitude",
    "/eventType",
];

/// Reads the rows under a header.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    header: Header,
    event_type: TypeFrom,
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
    numbers: Numbers,
    /// The name of the encoding of the file.
    encoding: &'static str,
}

/// Where the name of the type of a row comes from.
#[derive(Debug, Clone)]
enum TypeFrom {
    Mapping(String),
    Column(usize),
}

impl Plan {
    /// Lays a mapping over a header.
    ///
    /// # Errors
    /// One sentence, if the mapping names columns that are not there.
    pub(super) fn new(mapping: &CsvMapping, header: &Header, encoding: &'static str) -> Result<Self, String> {
        let times = Times::new(mapping.timestamp_format.as_deref(), mapping.time_zone.as_deref());
        let times = times.map_err(|detail| format!("the time format of the mapping {detail}"))?;
        let mut lookup = Lookup::new(header);
        let event_type = match (&mapping.event_type_column, &mapping.event_type) {
            (Some(column), _) => TypeFrom::Column(lookup.column(column)),
            (None, name) => TypeFrom::Mapping(name.clone().unwrap_or_default()),
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
                mapped.extend(if let TypeFrom::Column(at) = event_type { Some(at) } else { None });
                (0..header.len()).filter(|at| !mapped.contains(at)).collect()
            }
        };
        lookup.check()?;
        let missing = mapping.missing.clone();
        Ok(Self {
            event_type,
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
            numbers: if mapping.has_decimal_comma { Numbers::Comma } else { Numbers::Point },
            encoding,
            header: header.clone(),
        })
    }

    /// Whether the rows before a row decide what its time means.
    pub(super) fn needs_order(&self) -> bool {
        self.times.needs_order()
    }

    /// Which instant is meant by the time of this row, the next one, if the clocks show it twice.
    pub(super) fn follow(&self, row: Row<'_>, clock: &mut Clock) -> Option<Fold> {
        let (local, is_shown_twice) = self.times.local(self.cell(row, Some(self.timestamp))?)?;
        clock.follow(local, is_shown_twice)
    }

    /// Reads a row, and tells what is wrong with its cells: the pointer names the field of the event, the detail the
    /// column. Of a time that clocks show twice `fold` tells which is meant.
    ///
    /// # Errors
    /// What is wrong with the row as a whole.
    pub(super) fn draft(
        &self,
        row: Row<'_>,
        fold: Fold,
    ) -> Result<(EventDraft, Vec<FieldProblem>), Vec<FieldProblem>> {
        let mut problems = self.check_cells(row)?;
        let text =
            |at: Option<usize>| self.cell(row, at).map_or(Sent::Absent, |cell| Sent::Value(cell.to_owned()));
        let mut time = |pointer: &str, at: Option<usize>, fold| {
            let cell = self.cell(row, at)?;
            let read = self.times.read(cell, fold);
            let report = |detail| {
                let named = at.map_or(String::new(), |at| self.named(at));
                FieldProblem::new(pointer, Code::InvalidDatetime, format!("{detail}{named}"))
            };
            read.map_err(|detail| problems.push(report(detail))).ok()
        };
        let timestamp = time("/timestamp", Some(self.timestamp), fold);
        let mut end_date = time("/endDate", self.end_date, Fold::Earlier);
        if let (Some(start), Some(end)) = (timestamp, end_date)
            && end.cmp(&start) == Ordering::Less
        {
            // Perhaps the end is in the later pass of the hour that is doubled.
            end_date = time("/endDate", self.end_date, Fold::Later);
        }
        let location = self.location(row, &mut problems);
        let written = |ms: Option<i64>| ms.map_or(Sent::Absent, |ms| Sent::Value(instant::format(ms)));
        let draft = EventDraft {
            id: text(self.id),
            event_type: match &self.event_type {
                TypeFrom::Mapping(name) => Sent::Value(name.clone()),
                TypeFrom::Column(at) => text(Some(*at)),
            },
            timestamp: written(timestamp),
            end_date: written(end_date),
            notes: text(self.notes),
            source_type: Sent::Value(self.source_type.clone()),
            external_id: self.external_id(row),
            location,
            properties: self.properties(row),
            ..EventDraft::default()
        };
        Ok((draft, problems))
    }

    /// Tells the cells that are no text. Cells that are missing at the end are empty.
    ///
    /// # Errors
    /// If cells beyond the header hold something: then any cell may be in the column of another one.
    fn check_cells(&self, row: Row<'_>) -> Result<Vec<FieldProblem>, Vec<FieldProblem>> {
        let columns = self.header.len();
        if row.has_content_from(columns) {
            let detail = format!("has {} cells under a header of {columns}", row.cells);
            return Err(vec![FieldProblem::new("", Code::InvalidValue, detail)]);
        }
        let without_text = (0..columns.min(row.cells)).filter(|at| row.cell(*at).is_none());
        let problem = |at| {
            let detail = format!("is not {}{}", self.encoding, self.named(at));
            FieldProblem::new(self.pointer(at), Code::InvalidValue, detail)
        };
        Ok(without_text.map(problem).collect())
    }

    /// The field of the event that a column holds alone; empty if there is none.
    fn pointer(&self, at: usize) -> &'static str {
        POINTERS.into_iter().find(|pointer| self.column(pointer) == Some(at)).unwrap_or_default()
    }

    /// Names the columns in problems that were found in a draft of this plan.
    pub(super) fn explain(&self, mut problems: Vec<FieldProblem>) -> Vec<FieldProblem> {
        for problem in &mut problems {
            // A cell holds a name, never an id.
            if problem.pointer == "/eventTypeId" {
                "/eventType".clone_into(&mut problem.pointer);
            }
            if let Some(at) = self.column(&problem.pointer) {
                problem.detail.push_str(&self.named(at));
            }
        }
        problems
    }

    /// The column that holds a field of the event.
    pub(super) fn column(&self, pointer: &str) -> Option<usize> {
        match pointer {
            "/timestamp" => Some(self.timestamp),
            "/endDate" => self.end_date,
            "/id" => self.id,
            "/notes" => self.notes,
            "/externalId" => self.external_id.first().copied(),
            "/location/latitude" => self.latitude,
            "/location/longitude" => self.longitude,
            "/eventType" => match self.event_type {
                TypeFrom::Column(at) => Some(at),
                TypeFrom::Mapping(_) => None,
            },
            _ => None,
        }
    }

    fn named(&self, at: usize) -> String {
        format!(" (column {:?})", shorten(self.header.name(at)))
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
            self.numbers.degrees(cell).map_or_else(
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
        let mut object = String::with_capacity(row.length() * 2);
        object.push('{');
        for at in &self.properties {
            let Some(cell) = self.cell(row, Some(*at)) else { continue };
            json_text::push_key(&mut object, self.header.name(*at));
            if matches!(cell, "true" | "false") {
                object.push_str(cell);
            } else if let Some(number) = self.numbers.plain(cell) {
                object.push_str(&number);
            } else {
                json_text::push_text(&mut object, cell);
            }
        }
        object.push('}');
        Sent::Value(object)
    }
}
