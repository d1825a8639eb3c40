//! Writes the files of the scenario `import`: the same records as NDJSON for idem and as rows for COPY.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::content::{FIRST_MS, Random, TYPE_ID, time};
use crate::options::Payload;

/// The time between two records: five minutes.
const INTERVAL_S: u64 = 300;
const EVENT_TYPES: [&str; 6] = ["Run", "Ride", "Swim", "Walk", "Strength training", "Heart rate"];
const PLACES: [&str; 4] = ["Along the river", "Round the lake", "In the hall", "Up the hill and down again"];

/// The files that were written.
pub struct Files {
    /// The payload for idem.
    pub payload: PathBuf,
    /// The rows for psql's `\copy`.
    pub rows: PathBuf,
    /// The number of records in each file.
    pub records: u64,
}

/// Writes both files.
pub fn write(folder: &Path, records: u64, form: Payload) -> anyhow::Result<Files> {
    let (payload, rows) = (folder.join("records.ndjson"), folder.join("records.tsv"));
    let mut lines: Box<dyn Write> = match form {
        Payload::Plain => Box::new(BufWriter::new(File::create(&payload)?)),
        Payload::Gzip => Box::new(BufWriter::with_capacity(
            64 * 1024,
            GzEncoder::new(BufWriter::new(File::create(&payload)?), Compression::fast()),
        )),
    };
    let mut cells = BufWriter::new(File::create(&rows)?);
    let mut random = Random::new(1);
    for number in 0..records {
        write_record(&mut lines, &mut cells, number, &mut random)?;
    }
    lines.flush()?;
    cells.flush()?;
    Ok(Files { payload, rows, records })
}

fn write_record(
    lines: &mut dyn Write,
    cells: &mut dyn Write,
    number: u64,
    random: &mut Random,
) -> anyhow::Result<()> {
    let second = number * INTERVAL_S;
    let ms = FIRST_MS + i64::try_from(second * 1_000)?;
    let event_type = EVENT_TYPES[usize::try_from(random.below(EVENT_TYPES.len() as u64))?];
    let place = PLACES[usize::try_from(random.below(PLACES.len() as u64))?];
    let (duration_s, distance_m) = (600 + random.below(6_000), random.below(20_000));
    let (heart_rate, speed) = (90 + random.below(90), random.below(400));
    // This is canonical JSON, so both sides store the same text.
    let properties = format!(
        r#"{{"distance_m":{distance_m},"duration_s":{duration_s},"heart_rate_avg":{heart_rate},"place":"{place}","speed_kmh":{}.{}5}}"#,
        speed / 10,
        speed % 10
    );
    let time = time(second);
    writeln!(
        lines,
        r#"{{"externalId":"watch-{number:09}","eventType":"{event_type}","timestamp":"{time}","sourceType":"watch","notes":"{place}, lap {number}","properties":{properties}}}"#
    )?;
    // A UUIDv7 with this timestamp and a content hash of the same length, as idem stores them.
    let id = format!("{ms:012x}7abc8def{:012x}", random.below(1 << 48));
    let hash = format!("{:016x}", random.below(u64::MAX)).repeat(4);
    writeln!(
        cells,
        "{id}\t{TYPE_ID}\t{ms}\t{place}, lap {number}\twatch\twatch-{number:09}\t{properties}\t\\\\x{hash}"
    )?;
    Ok(())
}
