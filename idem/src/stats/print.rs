//! Prints statistics for people: a table, or a bar for each row.

use std::fmt::Write as _;

use chrono::DateTime;
use chrono_tz::Tz;
use serde_json::Value;

use super::EventType;
use super::args::{Granularity, Group, StatsArgs};
use crate::terminal::escape_control_characters;

/// How wide the longest bar is, in characters.
const BAR_CHARS: f64 = 40.0;
/// What a character is filled to the eighth.
const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// The answer as text.
pub(super) fn to_text(args: &StatsArgs, zone: Tz, stats: &Value, types: &[EventType]) -> String {
    let rows = stats["buckets"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return "no events\n".to_owned();
    }
    let label = |row: &Value| labels(args, zone, row, types);
    if args.bars { bars(rows, &stats["total"], label) } else { table(args, rows, &stats["total"], label) }
}

/// The names of the columns that say which row it is.
fn label_names(args: &StatsArgs) -> Vec<&'static str> {
    let bucket = args.by.map(|by| if by == Granularity::Hour { "hour" } else { "from" });
    let groups = args.group.iter().map(|group| match group {
        Group::Type => "type",
        Group::Source => "source",
        Group::Weekday => "weekday",
        Group::Hour => "hour of day",
    });
    bucket.into_iter().chain(groups).collect()
}

fn labels(args: &StatsArgs, zone: Tz, row: &Value, types: &[EventType]) -> Vec<String> {
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let bucket =
        args.by.map(|by| match DateTime::parse_from_rfc3339(row["start"].as_str().unwrap_or_default()) {
            Ok(start) if by == Granularity::Hour => {
                start.with_timezone(&zone).format("%Y-%m-%d %H:%M %Z").to_string()
            }
            _ => text("localDate"),
        });
    let groups = args.group.iter().map(|group| match group {
        Group::Type => {
            let id = text("eventTypeId");
            let known = types.iter().find(|event_type| event_type.id == id);
            known.map_or(id, |event_type| escape_control_characters(&event_type.name))
        }
        Group::Source => text("sourceType"),
        Group::Weekday => text("weekday").to_lowercase(),
        Group::Hour => row["hourOfDay"].as_u64().map_or("all-day".to_owned(), |hour| format!("{hour:02}")),
    });
    bucket.into_iter().chain(groups).collect()
}

fn table(args: &StatsArgs, rows: &[Value], total: &Value, label: impl Fn(&Value) -> Vec<String>) -> String {
    let names = label_names(args);
    let has_duration = total["durationSeconds"].as_f64().is_some_and(|seconds| seconds > 0.0);
    let has_measures = total["measures"].as_array().is_some_and(|measures| !measures.is_empty());
    let mut header: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    header.push("events".to_owned());
    header.extend(has_duration.then(|| "duration".to_owned()));
    if has_measures {
        header.extend(["measure", "sum", "average", "minimum", "maximum"].map(str::to_owned));
    }
    let mut lines = vec![header];
    for row in rows {
        lines.extend(row_lines(row, label(row), has_duration, has_measures));
    }
    if rows.len() > 1 {
        let mut labels = vec![String::new(); names.len()];
        if let Some(first) = labels.first_mut() {
            *first = "total".to_owned();
        }
        lines.extend(row_lines(total, labels, has_duration, has_measures));
    }
    align(&lines, names.len())
}

/// The lines of a row: one, or one for each unit.
fn row_lines(row: &Value, labels: Vec<String>, has_duration: bool, has_measures: bool) -> Vec<Vec<String>> {
    let mut first = labels;
    first.push(row["count"].to_string());
    first.extend(has_duration.then(|| duration(row["durationSeconds"].as_f64().unwrap_or_default())));
    let width = first.len();
    let mut lines = Vec::new();
    for measure in row["measures"].as_array().into_iter().flatten().filter(|_| has_measures) {
        let mut line = if lines.is_empty() { first.clone() } else { vec![String::new(); width] };
        line.push(measure_name(measure));
        let numbers = ["sum", "average", "minimum", "maximum"];
        line.extend(numbers.map(|name| number(measure[name].as_f64().unwrap_or_default())));
        lines.push(line);
    }
    if lines.is_empty() {
        lines.push(first);
    }
    lines
}

fn measure_name(measure: &Value) -> String {
    let property = measure["property"].as_str().unwrap_or_default();
    let unit = measure["unit"].as_str().map_or(String::new(), |unit| format!(" in {unit}"));
    escape_control_characters(&format!("{property}{unit}"))
}

/// Pads the cells of each column to the same width. Texts are aligned to the left, numbers to the right.
fn align(lines: &[Vec<String>], label_columns: usize) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let measure = lines[0].iter().position(|name| name == "measure");
    let cell = |line: &'_ [String], column: usize| line.get(column).cloned().unwrap_or_default();
    let mut out = String::new();
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().map(|line| cell(line, column).chars().count()).max().unwrap_or_default())
        .collect();
    for line in lines {
        let mut text = String::new();
        for (column, width) in widths.iter().enumerate() {
            let value = cell(line, column);
            let is_text = column < label_columns || Some(column) == measure;
            let _ =
                if is_text { write!(text, "{value:<width$}  ") } else { write!(text, "{value:>width$}  ") };
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// A bar for each row: of the sum of the first measure and unit of the total, or else of the count.
fn bars(rows: &[Value], total: &Value, label: impl Fn(&Value) -> Vec<String>) -> String {
    let measure = total["measures"].get(0);
    let value = |row: &Value| match measure {
        Some(measure) => {
            let is_same = |other: &&Value| {
                (&other["property"], &other["unit"]) == (&measure["property"], &measure["unit"])
            };
            row["measures"].as_array().into_iter().flatten().find(is_same)?["sum"].as_f64()
        }
        None => row["count"].as_f64(),
    };
    let values: Vec<f64> = rows.iter().map(|row| value(row).unwrap_or_default()).collect();
    let largest = values.iter().copied().fold(0.0, f64::max);
    let labels: Vec<String> = rows.iter().map(|row| label(row).join("  ")).collect();
    let numbers: Vec<String> = values.iter().map(|value| number(*value)).collect();
    let width = |texts: &[String]| texts.iter().map(|text| text.chars().count()).max().unwrap_or_default();
    let (label_width, number_width) = (width(&labels), width(&numbers));
    let mut out = measure.map_or(String::new(), |measure| format!("{}\n", measure_name(measure)));
    for ((label, text), value) in labels.iter().zip(&numbers).zip(values) {
        let line = format!("{label:<label_width$}  {text:>number_width$}  {}", bar(value, largest));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A bar that is as long as `value` is large, compared with the largest value. Negative values have none.
fn bar(value: f64, largest: f64) -> String {
    if value <= 0.0 || largest <= 0.0 {
        return String::new();
    }
    // What is more than nothing is visible.
    let eighths = ((value / largest * BAR_CHARS * 8.0).round() as usize).max(1);
    let rest = EIGHTHS[eighths % 8];
    format!("{}{rest}", "█".repeat(eighths / 8)).trim_end().to_owned()
}

/// A number with at most three decimals, or in powers of ten if it is very large or very small.
fn number(number: f64) -> String {
    if number != 0.0 && !(1e-3..1e15).contains(&number.abs()) {
        return format!("{number:.3e}");
    }
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A duration in hours, minutes and seconds, such as 7:05:00.
fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
