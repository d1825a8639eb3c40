//! `idem import --preview`: reads a file without a server and shows how an import would read it.

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
use formats::preview::{CellProblem, Preview, PreviewRecord, Request, preview_file};
use formats::{FileSource, Input, Source};
use indicatif::HumanBytes;
use tokio::time::sleep;

use super::args::{ImportArgs, ImportFormat, flag_of_mapping_pointer};
use super::{EXIT_REJECTED, bar};
use crate::terminal::escape_control_characters;

/// How often the progress bar is updated.
const TICK: Duration = Duration::from_millis(200);
/// The most characters of an event's content that are shown.
const CONTENT_CHARS_MAX: usize = 100;

/// `idem import --preview`: reads the whole file, and prints its first records and all problems on stdout.
///
/// Exit code 0: no record would be rejected; 2: some would be; 1: the file cannot be imported as it is.
///
/// # Errors
/// If the file cannot be opened or is empty.
pub(super) async fn run_preview(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let source =
        FileSource::new(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    ensure!(source.size() > 0, "cannot read {}: it is empty", args.file.display());
    let size = source.size();
    let input = Input::new(Arc::new(source));
    let mut preview = read_preview(args, &input, size).await?;
    if !is_timestamp_option_given(args) {
        // A person looks at the columns before they choose them, so a missing mapping is not a problem yet.
        preview.problems.retain(|problem| problem.code != Code::Required);
    }
    let text =
        if args.json { format!("{}\n", preview.to_json()) } else { preview_text(args, &preview, size) };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(match (preview.problems.is_empty(), preview.rejected) {
        (false, _) => ExitCode::FAILURE,
        (true, 0) => ExitCode::SUCCESS,
        (true, _) => ExitCode::from(EXIT_REJECTED),
    })
}

/// Whether `--timestamp` is given. Without it, the columns of a CSV are not mapped to fields of an event.
fn is_timestamp_option_given(args: &ImportArgs) -> bool {
    args.csv.timestamp_column.is_some()
}

/// Reads the whole file on a thread for blocking work and makes its preview. Shows a progress bar.
async fn read_preview(args: &ImportArgs, input: &Input, size: u64) -> anyhow::Result<Preview> {
    let mapping = args.csv.has_any_csv_option().then(|| args.csv.to_csv_mapping());
    let mapping = mapping.map(|mapping| match &args.csv.delimiter {
        // Without a mapping, the delimiter is not chosen yet either.
        None if !is_timestamp_option_given(args) => CsvMapping { delimiter: "auto".to_owned(), ..mapping },
        _ => mapping,
    });
    let format = args.format.map(Into::into);
    let file_name = args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (read, records) = (input.clone(), args.rows);
    let mut reading = tokio::task::spawn_blocking(move || {
        let request =
            Request { format, file_name: &file_name, mapping: mapping.as_ref(), records, reads_all: true };
        preview_file(&read, &request)
    });
    let bar = bar::new_bytes_bar("reading", size);
    let preview = loop {
        tokio::select! {
            preview = &mut reading => break preview.context("the thread that reads the file has failed")?,
            () = sleep(TICK) => bar.set_position(input.last_read_end_offset()),
        }
    };
    bar.finish_and_clear();
    Ok(preview)
}

/// The preview as text for people.
fn preview_text(args: &ImportArgs, preview: &Preview, size: u64) -> String {
    let mut out = String::new();
    let format = preview.format.map_or("unknown", |format| ImportFormat::from(format).display_name());
    let packing =
        preview.packing.map_or("packed in a format that is not supported", |packing| match packing.name() {
            "plain" => "not packed",
            name => name,
        });
    let _ = writeln!(out, "{}: {format}, {packing}, {}", args.file.display(), HumanBytes(size));
    if let Some(csv) = &preview.csv {
        let delimiter = if csv.delimiter == '\t' { "tab".to_owned() } else { format!("{:?}", csv.delimiter) };
        let _ = write!(out, "encoding {}, delimiter {delimiter}", csv.encoding);
        match csv.lines_before {
            0 => {}
            1 => out.push_str(", one line before the header"),
            lines => {
                let _ = write!(out, ", {lines} lines before the header");
            }
        }
        let _ = writeln!(out, "\ncolumns: {}", escape_control_characters(&csv.header.join(" | ")));
    }
    for problem in &preview.problems {
        let place = flag_of_mapping_pointer(&problem.pointer).map(|flag| flag + " ").unwrap_or_default();
        let _ = writeln!(out, "{}: {place}{}", problem.code.name(), problem.detail);
    }
    if !preview.records.is_empty() {
        out.push('\n');
    }
    for record in &preview.records {
        let _ = writeln!(out, "{}", record_line(record));
    }
    let is_checked =
        preview.csv.is_none() || (is_timestamp_option_given(args) && preview.problems.is_empty());
    let verdict =
        if is_checked { format!(", {} would be rejected", preview.rejected) } else { String::new() };
    let noun = if preview.read == 1 { "record" } else { "records" };
    if preview.read > 0 || preview.problems.is_empty() {
        let _ = writeln!(out, "\n{} {noun}{verdict}", preview.read);
    }
    for kind in &preview.kinds {
        let line = kind.line.map_or(String::new(), |line| format!(", line {line}"));
        let (code, problem) = (kind.problem.code.name(), &kind.problem);
        let (records, first) = (kind.records, kind.record);
        let text = problem_text(&problem.pointer, &problem.detail);
        let _ = writeln!(out, "  {records} × {code}: {text}; first in record {first}{line}");
    }
    if preview.other_problems > 0 {
        let _ = writeln!(out, "  {} × other problems", preview.other_problems);
    }
    if let Some(csv) =
        preview.csv.as_ref().filter(|_| preview.problems.is_empty() && !is_timestamp_option_given(args))
    {
        // Without --delimiter, an import expects commas.
        let delimiter = match csv.delimiter {
            _ if args.csv.delimiter.is_some() => String::new(),
            ',' => String::new(),
            '\t' => ", and --delimiter tab".to_owned(),
            other => format!(", and --delimiter '{other}'"),
        };
        let _ = writeln!(
            out,
            "To read the rows as events, give at least --timestamp COL and --event-type NAME{delimiter}."
        );
    }
    out
}

/// One record of a preview as a line for people: its event, its problems or its cells.
fn record_line(record: &PreviewRecord) -> String {
    let number = record.record;
    let line = record.line.map_or(String::new(), |line| format!(" (line {line})"));
    let content = match (&record.event, record.problems.as_slice()) {
        (Some(event), _) => event_text(event),
        (None, []) => record.cells.join(" | "),
        (None, problems) => {
            let each = problems.iter().map(|CellProblem { problem, .. }| {
                format!("{}: {}", problem.code.name(), problem_text(&problem.pointer, &problem.detail))
            });
            format!("REJECTED {}", each.collect::<Vec<_>>().join("; "))
        }
    };
    escape_control_characters(&format!("{number}{line}: {content}"))
}

/// The text of a problem: the JSON pointer of its field, if there is one, and the detail.
fn problem_text(pointer: &str, detail: &str) -> String {
    if pointer.is_empty() { detail.to_owned() } else { format!("{pointer} {detail}") }
}

/// An event as text for people: time, type, external id, place, notes and properties. Long content is cut.
fn event_text(event: &NewEvent) -> String {
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
