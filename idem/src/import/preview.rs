//! `idem import --preview`: what an import would make of a file, without a server.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use domain::csv_mapping::CsvMapping;
use domain::draft::{NewEvent, TypeRef};
use domain::instant;
use domain::problem::Code;
use formats::preview::{CellProblem, Preview, PreviewRecord, Request, preview};
use formats::{FileSource, Input, Source};
use indicatif::HumanBytes;
use tokio::time::sleep;

use super::args::{ImportArgs, ImportFormat, flag_of};
use super::{EXIT_REJECTED, bar};

const TICK: Duration = Duration::from_millis(200);
/// Characters of what is shown of one event.
const CONTENT_CHARS_MAX: usize = 100;

/// Reads the whole file and prints what was seen.
/// Exit code 0: all records are right; 2: some would be rejected; 1: the file cannot be read as it is.
///
/// # Errors
/// When the file cannot be opened.
pub(super) async fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let source =
        FileSource::new(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    ensure!(source.size() > 0, "cannot read {}: it is empty", args.file.display());
    let size = source.size();
    let input = Input::new(Arc::new(source));
    let mut seen = look(args, &input, size).await?;
    if !is_mapped(args) {
        // The user looks at the columns before choosing them.
        seen.problems.retain(|problem| problem.code != Code::Required);
    }
    let text = if args.json { format!("{}\n", seen.to_json()) } else { text(args, &seen, size) };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(match (seen.problems.is_empty(), seen.rejected) {
        (false, _) => ExitCode::FAILURE,
        (true, 0) => ExitCode::SUCCESS,
        (true, _) => ExitCode::from(EXIT_REJECTED),
    })
}

/// Whether it was said how columns become events.
fn is_mapped(args: &ImportArgs) -> bool {
    args.csv.timestamp_column.is_some()
}

async fn look(args: &ImportArgs, input: &Input, size: u64) -> anyhow::Result<Preview> {
    let mapping = args.csv.is_given().then(|| args.csv.to_mapping());
    let mapping = mapping.map(|mapping| match &args.csv.delimiter {
        // The delimiter is not chosen yet either.
        None if !is_mapped(args) => CsvMapping { delimiter: "auto".to_owned(), ..mapping },
        _ => mapping,
    });
    let format = args.format.map(Into::into);
    let file_name = args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (read, records) = (input.clone(), args.rows);
    let mut looking = tokio::task::spawn_blocking(move || {
        let request =
            Request { format, file_name: &file_name, mapping: mapping.as_ref(), records, reads_all: true };
        preview(&read, &request)
    });
    let bar = bar::bytes("reading", size);
    let seen = loop {
        tokio::select! {
            seen = &mut looking => break seen.context("reading the file was cut short")?,
            () = sleep(TICK) => bar.set_position(input.taken()),
        }
    };
    bar.finish_and_clear();
    Ok(seen)
}

fn text(args: &ImportArgs, seen: &Preview, size: u64) -> String {
    let mut out = String::new();
    let format = seen.format.map_or("unknown", |format| ImportFormat::from(format).noun());
    let packing = seen.packing.map_or("packed in a way that is not read", |packing| match packing.name() {
        "plain" => "not packed",
        name => name,
    });
    let _ = writeln!(out, "{}: {format}, {packing}, {}", args.file.display(), HumanBytes(size));
    if let Some(csv) = &seen.csv {
        let delimiter = if csv.delimiter == '\t' { "tab".to_owned() } else { format!("{:?}", csv.delimiter) };
        let _ = write!(out, "encoding {}, delimiter {delimiter}", csv.encoding);
        match csv.lines_before {
            0 => {}
            1 => out.push_str(", one line before the header"),
            lines => {
                let _ = write!(out, ", {lines} lines before the header");
            }
        }
        let _ = writeln!(out, "\ncolumns: {}", plain(&csv.header.join(" | ")));
    }
    for problem in &seen.problems {
        let place = flag_of(&problem.pointer).map(|flag| flag + " ").unwrap_or_default();
        let _ = writeln!(out, "{}: {place}{}", problem.code.name(), problem.detail);
    }
    if !seen.records.is_empty() {
        out.push('\n');
    }
    for record in &seen.records {
        let _ = writeln!(out, "{}", row(record));
    }
    let is_judged = seen.csv.is_none() || (is_mapped(args) && seen.problems.is_empty());
    let verdict = if is_judged { format!(", {} would be rejected", seen.rejected) } else { String::new() };
    let noun = if seen.read == 1 { "record" } else { "records" };
    if seen.read > 0 || seen.problems.is_empty() {
        let _ = writeln!(out, "\n{} {noun}{verdict}", seen.read);
    }
    for kind in &seen.kinds {
        let line = kind.line.map_or(String::new(), |line| format!(", line {line}"));
        let (code, problem) = (kind.problem.code.name(), &kind.problem);
        let (records, first) = (kind.records, kind.record);
        let said = sentence(&problem.pointer, &problem.detail);
        let _ = writeln!(out, "  {records} × {code}: {said}; first in record {first}{line}");
    }
    if seen.other_problems > 0 {
        let _ = writeln!(out, "  {} × other problems", seen.other_problems);
    }
    if let Some(csv) = seen.csv.as_ref().filter(|_| seen.problems.is_empty() && !is_mapped(args)) {
        // An import takes a comma unless it is told otherwise.
        let delimiter = match csv.delimiter {
            _ if args.csv.delimiter.is_some() => String::new(),
            ',' => String::new(),
            '\t' => ", and --delimiter tab".to_owned(),
            other => format!(", and --delimiter '{other}'"),
        };
        let _ = writeln!(
            out,
            "To read them as events name at least --timestamp COL and --event-type NAME{delimiter}."
        );
    }
    out
}

/// Text of a file that may stand in a terminal: what would move the cursor or set colours is written as an escape.
fn plain(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

/// One line about a record.
fn row(record: &PreviewRecord) -> String {
    let number = record.record;
    let line = record.line.map_or(String::new(), |line| format!(" (line {line})"));
    let content = match (&record.event, record.problems.as_slice()) {
        (Some(event), _) => of_event(event),
        (None, []) => record.cells.join(" | "),
        (None, problems) => {
            let each = problems.iter().map(|CellProblem { problem, .. }| {
                format!("{}: {}", problem.code.name(), sentence(&problem.pointer, &problem.detail))
            });
            format!("REJECTED {}", each.collect::<Vec<_>>().join("; "))
        }
    };
    plain(&format!("{number}{line}: {content}"))
}

fn sentence(pointer: &str, detail: &str) -> String {
    if pointer.is_empty() { detail.to_owned() } else { format!("{pointer} {detail}") }
}

fn of_event(event: &NewEvent) -> String {
    let body = &event.body;
    let name = match &event.type_ref {
        TypeRef::Name { name, .. } => name.clone(),
        TypeRef::Id(id) => id.to_string(),
    };
    let end = body.end_date.map_or(String::new(), |end| format!(" to {}", instant::format(end)));
    let notes = body.notes.as_ref().map_or(String::new(), |notes| format!(" {notes:?}"));
    let external = event.external_id.as_ref().map_or(String::new(), |id| format!(" [{id}]"));
    let properties = if body.properties == "{}" { String::new() } else { format!(" {}", body.properties) };
    let place = body.location.as_ref();
    let place = place.map_or(String::new(), |place| format!(" ({}, {})", place.latitude, place.longitude));
    let rest = format!("{external}{place}{notes}{properties}");
    let mut shown: String = rest.chars().take(CONTENT_CHARS_MAX).collect();
    if shown.len() < rest.len() {
        shown.push('…');
    }
    format!("{}{end} {name}{shown}", instant::format(body.timestamp))
}
