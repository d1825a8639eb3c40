//! Applies a mapping to the header of one file, and reads rows as event drafts.

use std::cmp::Ordering;

use domain::csv_mapping::CsvMapping;
use domain::draft::{EventDraft, LocationDraft, Sent};
use domain::problem::{Code, FieldProblem};
use domain::{instant, json_text};

use super::fold::{Fold, FoldTracker};
use super::header::{Header, Lookup, shorten_name};
use super::number::DecimalSeparator;
use super::rows::Row;
use super::times::Times;

/// The fields of an event that may have a column of their own.
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

/// A CSV mapping whose column names are replaced by the indexes of the columns in the header of one file.
#[derive(Debug, Clone)]
pub(super) struct ResolvedMapping {
    header: Header,
    event_type: EventTypeSource,
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
    decimal_separator: DecimalSeparator,
    /// Name of the encoding of the file.
    encoding: &'static str,
}

/// Source of the event type of a row.
#[derive(Debug, Clone)]
enum EventTypeSource {
    Mapping(String),
    Column(usize),
}

impl ResolvedMapping {
    /// Applies a mapping to a header.
    ///
    /// # Errors
    /// The detail of a problem, in one sentence, if the mapping names columns that are not in the header, or
    /// if its time format or time zone is wrong.
    pub(super) fn new(mapping: &CsvMapping, header: &Header, encoding: &'static str) -> Result<Self, String> {
        let times = Times::new(mapping.timestamp_format.as_deref(), mapping.time_zone.as_deref());
        let times = times.map_err(|detail| format!("the time format of the mapping {detail}"))?;
        let mut lookup = Lookup::new(header);
        let event_type = match (&mapping.event_type_column, &mapping.event_type) {
            (Some(column), _) => EventTypeSource::Column(lookup.column_index_or_note_missing(column)),
            (None, name) => EventTypeSource::Mapping(name.clone().unwrap_or_default()),
        };
        let timestamp = lookup.column_index_or_note_missing(&mapping.timestamp_column);
        let end_date = lookup.column_index_if_named(mapping.end_date_column.as_ref());
        let id = lookup.column_index_if_named(mapping.id_column.as_ref());
        let external_id = lookup.column_indexes_or_note_missing(mapping.external_id_columns.as_ref());
        let notes = lookup.column_index_if_named(mapping.notes_column.as_ref());
        let latitude = lookup.column_index_if_named(mapping.latitude_column.as_ref());
        let longitude = lookup.column_index_if_named(mapping.longitude_column.as_ref());
        let properties = match &mapping.property_columns {
            named @ Some(_) => lookup.column_indexes_or_note_missing(named.as_ref()),
            None => {
                let mut mapped = external_id.clone();
                mapped.push(timestamp);
                mapped.extend([end_date, id, notes, latitude, longitude].into_iter().flatten());
                mapped.extend(if let EventTypeSource::Column(at) = event_type { Some(at) } else { None });
                (0..header.column_count()).filter(|at| !mapped.contains(at)).collect()
            }
        };
        lookup.check_all_found()?;
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
            decimal_separator: if mapping.has_decimal_comma {
                DecimalSeparator::Comma
            } else {
                DecimalSeparator::Point
            },
            encoding,
            header: header.clone(),
        })
    }

    /// Whether the rows before a row may decide which instant its time means. That is so if times may have no
    /// offset, and the offset of their time zone changes.
    pub(super) fn needs_row_order(&self) -> bool {
        self.times.needs_row_order()
    }

    /// Notes the start time of the next row in `tracker`. Returns which instant it means, and `None` if it is
    /// not ambiguous or cannot be read.
    pub(super) fn note_row_time_and_fold(&self, row: Row<'_>, tracker: &mut FoldTracker) -> Option<Fold> {
        let (local, is_ambiguous) = self
            .times
            .parse_local_time_and_ambiguity(self.cell_unless_missing(row, Some(self.timestamp))?)?;
        tracker.note_local_time_and_fold(local, is_ambiguous)
    }

    /// Reads a row as an event draft. Also returns the problems of its cells: the pointer names the field of
    /// the event, and the detail names the column. `fold` decides which instant an ambiguous time means.
    ///
    /// # Errors
    /// The problems of the row as a whole.
    pub(super) fn read_draft(
        &self,
        row: Row<'_>,
        fold: Fold,
    ) -> Result<(EventDraft, Vec<FieldProblem>), Vec<FieldProblem>> {
        let mut problems = self.check_cell_count_and_encoding(row)?;
        let text = |at: Option<usize>| {
            self.cell_unless_missing(row, at).map_or(Sent::Absent, |cell| Sent::Value(cell.to_owned()))
        };
        let mut time = |pointer: &str, at: Option<usize>, fold| {
            let cell = self.cell_unless_missing(row, at)?;
            let read = self.times.read_epoch_ms(cell, fold);
            let report = |detail| {
                let column = at.map_or(String::new(), |at| self.column_name_suffix(at));
                FieldProblem::new(pointer, Code::InvalidDatetime, format!("{detail}{column}"))
            };
            read.map_err(|detail| problems.push(report(detail))).ok()
        };
        let timestamp = time("/timestamp", Some(self.timestamp), fold);
        let mut end_date = time("/endDate", self.end_date, Fold::Earlier);
        if let (Some(start), Some(end)) = (timestamp, end_date)
            && end.cmp(&start) == Ordering::Less
        {
            // The end may be in the later pass of the ambiguous hour.
            end_date = time("/endDate", self.end_date, Fold::Later);
        }
        let location = self.read_location(row, &mut problems);
        let written = |ms: Option<i64>| ms.map_or(Sent::Absent, |ms| Sent::Value(instant::format(ms)));
        let draft = EventDraft {
            id: text(self.id),
            event_type: match &self.event_type {
                EventTypeSource::Mapping(name) => Sent::Value(name.clone()),
                EventTypeSource::Column(at) => text(Some(*at)),
            },
            timestamp: written(timestamp),
            end_date: written(end_date),
            notes: text(self.notes),
            source_type: Sent::Value(self.source_type.clone()),
            external_id: self.read_external_id(row),
            location,
            properties: self.read_properties(row),
            ..EventDraft::default()
        };
        Ok((draft, problems))
    }

    /// Returns a problem for each cell that is not valid text. The row may have fewer cells than the header.
    ///
    /// # Errors
    /// A problem if cells beyond the header are not empty. Then any cell of the row may be in a wrong column.
    fn check_cell_count_and_encoding(&self, row: Row<'_>) -> Result<Vec<FieldProblem>, Vec<FieldProblem>> {
        let columns = self.header.column_count();
        if row.has_content_from_cell(columns) {
            let detail = format!("has {} cells under a header of {columns}", row.cells);
            return Err(vec![FieldProblem::new("", Code::InvalidValue, detail)]);
        }
        let without_text = (0..columns.min(row.cells)).filter(|at| row.cell_text(*at).is_none());
        let problem = |at| {
            let detail = format!("is not {}{}", self.encoding, self.column_name_suffix(at));
            FieldProblem::new(self.field_pointer_of_column(at), Code::InvalidValue, detail)
        };
        Ok(without_text.map(problem).collect())
    }

    /// The pointer of the event field that is read from the column with this index; empty if there is none.
    /// Of the columns of the external id, only the first counts.
    fn field_pointer_of_column(&self, at: usize) -> &'static str {
        POINTERS
            .into_iter()
            .find(|pointer| self.column_index_of_field(pointer) == Some(at))
            .unwrap_or_default()
    }

    /// Adds the names of columns to the details of problems of a draft that was read by this mapping.
    pub(super) fn add_column_names_to_problems(&self, mut problems: Vec<FieldProblem>) -> Vec<FieldProblem> {
        for problem in &mut problems {
            // A cell holds the name of an event type, never its id.
            if problem.pointer == "/eventTypeId" {
                "/eventType".clone_into(&mut problem.pointer);
            }
            if let Some(at) = self.column_index_of_field(&problem.pointer) {
                problem.detail.push_str(&self.column_name_suffix(at));
            }
        }
        problems
    }

    /// The index, from 0, of the column that holds a field of the event; of the first one for the external
    /// id. `None` if no column of its own holds the field.
    pub(super) fn column_index_of_field(&self, pointer: &str) -> Option<usize> {
        match pointer {
            "/timestamp" => Some(self.timestamp),
            "/endDate" => self.end_date,
            "/id" => self.id,
            "/notes" => self.notes,
            "/externalId" => self.external_id.first().copied(),
            "/location/latitude" => self.latitude,
            "/location/longitude" => self.longitude,
            "/eventType" => match self.event_type {
                EventTypeSource::Column(at) => Some(at),
                EventTypeSource::Mapping(_) => None,
            },
            _ => None,
        }
    }

    fn column_name_suffix(&self, at: usize) -> String {
        format!(" (column {:?})", shorten_name(self.header.column_name(at)))
    }

    /// The text of a cell. `None` if it does not exist, is not UTF-8, or means a missing value.
    fn cell_unless_missing<'r>(&self, row: Row<'r>, at: Option<usize>) -> Option<&'r str> {
        row.cell_text(at?).filter(|cell| !self.missing.iter().any(|missing| missing == cell))
    }

    /// The external id: the cells of its columns, joined with `|`. Absent if all of them are missing.
    fn read_external_id(&self, row: Row<'_>) -> Sent<String> {
        let mut joined = String::new();
        let mut has_part = false;
        for (number, at) in self.external_id.iter().enumerate() {
            if number > 0 {
                joined.push('|');
            }
            let part = self.cell_unless_missing(row, Some(*at));
            has_part |= part.is_some();
            joined.push_str(part.unwrap_or_default());
        }
        if has_part { Sent::Value(joined) } else { Sent::Absent }
    }

    fn read_location(&self, row: Row<'_>, problems: &mut Vec<FieldProblem>) -> Sent<LocationDraft> {
        let mut degrees = |pointer: &str, at: Option<usize>| {
            let (Some(at), Some(cell)) = (at, self.cell_unless_missing(row, at)) else { return Sent::Absent };
            self.decimal_separator.parse_degrees(cell).map_or_else(
                || {
                    let detail = format!("is not a number{}", self.column_name_suffix(at));
                    problems.push(FieldProblem::new(pointer, Code::InvalidValue, detail));
                    Sent::WrongType
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

    fn read_properties(&self, row: Row<'_>) -> Sent<String> {
        let mut object = String::with_capacity(row.content_byte_count() * 2);
        object.push('{');
        for at in &self.properties {
            let Some(cell) = self.cell_unless_missing(row, Some(*at)) else { continue };
            json_text::push_json_key(&mut object, self.header.column_name(*at));
            if matches!(cell, "true" | "false") {
                object.push_str(cell);
            } else if let Some(number) = self.decimal_separator.to_json_number(cell) {
                object.push_str(&number);
            } else {
                json_text::push_json_string(&mut object, cell);
            }
        }
        object.push('}');
        Sent::Value(object)
    }
}
