//! The file of an import: the same records as NDJSON for us and as rows for COPY.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::content::{FIRST_MS, Random, TYPE_ID, time};
use crate::options::Payload;

/// Five minutes between one record and the next.
const APART_S: u64 = 300;
const KINDS: [&str; 6] = ["Run", "Ride", "Swim", "Walk", "Strength training", "Heart rate"];
const PLACES: [&str; 4] = ["Along the river", "Round the lake", "In the hall", "Up the hill and down again"];

/// Where they lie.
pub struct Files {
    /// What is sent to us.
    pub payload: PathBuf,
    /// What psql copies in.
    pub rows: PathBuf,
    /// How many records each of them has.
    pub records: u64,
}

/// Writes both.
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
    let second = number * APART_S;
    let ms = FIRST_MS + i64::try_from(second * 1_000)?;
    let kind = KINDS[usize::try_from(random.below(KINDS.len() as u64))?];
    let place = PLACES[usize::try_from(random.below(PLACES.len() as u64))?];
    let (duration_s, distance_m) = (600 + random.below(6_000), random.below(20_000));
    let (heart_rate, speed) = (90 + random.below(90), random.below(400));
    // In canonical form, so that it is stored as it stands.
    let properties = format!(
        r#"{{"distance_m":{distance_m},"duration_s":{duration_s},"heart_rate_avg":{heart_rate},"place":"{place}","speed_kmh":{}.{}5}}"#,
        speed / 10,
        speed % 10
    );
    let time = time(second);
    writeln!(
        lines,
        r#"{{"externalId":"watch-{number:09}","eventType":"{kind}","timestamp":"{time}","sourceType":"watch","notes":"{place}, lap {number}","properties":{properties}}}"#
    )?;
    // A UUIDv7 of that time, as ours are, and a hash of the length of ours.
    let id = format!("{ms:012x}7abc8def{:012x}", random.below(1 << 48));
    let hash = format!("{:016x}", random.below(u64::MAX)).repeat(4);
    writeln!(
        cells,
        "{id}\t{TYPE_ID}\t{ms}\t{place}, lap {number}\twatch\twatch-{number:09}\t{properties}\t\\\\x{hash}"
    )?;
    Ok(())
}
