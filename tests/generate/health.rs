//! Writes an export like those of Apple Health, of any size, with the irregularities of real exports that are
//! hard to read. Prints as JSON the counts that a correct reader finds in it.
//!
//! `samples.txt` has the elements. The line `== weight records nested` before each element has its relative
//! frequency, and the numbers of its records and of its nested records.

mod packing;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use packing::Zip;

const USAGE: &str = "usage: generate-health FILE (--bytes N | --records N) [--seed S] [--zip]";
const HEAD: &str = include_str!("head.xml");
const SAMPLES: &str = include_str!("samples.txt");
const BAD: &str = " <Record type=\"HKQuantityTypeIdentifierStepCount\" sourceName=\"x\" unit=\"count\" \
    startDate=\"2016-13-45 10:00:00 +0100\" endDate=\"2016-13-45 10:01:00 +0100\" value=\"7\"/>\n";
const ROUTE: &str =
    "<?xml version=\"1.0\"?>\n<gpx><trk><trkseg><trkpt lon=\"13\" lat=\"52\"/></trkseg></trk></gpx>\n";
const CDA: &str = "<?xml version=\"1.0\"?>\n<ClinicalDocument xmlns=\"urn:hl7-org:v3\"/>\n";
/// Names of sources, with the apostrophe and the no-break space of Apple, a control character that XML does
/// not allow, double spaces, and other scripts.
const SOURCES: [&str; 5] =
    ["Anna’s Apple\u{a0}Watch", "Anna’s iPhone", "Fit\u{3}Bit &amp; Co", "Health  Mate", "体重計 Größe"];
/// 2014-01-01T00:00:00Z
const FIRST_S: i64 = 1_388_534_400;
const HALF_YEAR_S: i64 = 15_768_000;
const FLUSH_BYTES: usize = 1 << 16;
/// The number of records before the bad one.
const BAD_AFTER: u64 = 9;

/// The counts that a reader must find.
#[derive(Default)]
struct Truth {
    bytes: u64,
    /// Samples and workouts at the top level, including bad and repeated ones.
    records: u64,
    /// Samples inside correlations. Each is at the top level as well.
    nested: u64,
    /// Samples that differ from an earlier one only in the text of the device and the creation date.
    repeated: u64,
    /// Samples with an invalid time.
    bad: u64,
}

/// An element: pieces of text, each with the name of the value that follows it.
struct Template {
    pieces: Vec<(&'static str, &'static str)>,
    records: u64,
    nested: u64,
}

/// Parses the elements. The result repeats each one by its weight.
fn templates() -> Result<Vec<Template>, Box<dyn std::error::Error>> {
    let mut all = Vec::new();
    for block in SAMPLES.split("== ").skip(1) {
        let (head, text) = block.split_once('\n').ok_or("an element without lines")?;
        let numbers: Vec<u64> = head.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let pieces: Vec<_> =
            text.split('}').map(|piece| piece.split_once('{').unwrap_or((piece, ""))).collect();
        for _ in 0..numbers[0] {
            all.push(Template { pieces: pieces.clone(), records: numbers[1], nested: numbers[2] });
        }
    }
    Ok(all)
}

struct Export {
    text: Vec<u8>,
    state: u64,
    truth: Truth,
}

impl Export {
    /// Draws a number below `below` (xorshift64).
    fn random(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % below
    }

    /// Writes a time like `2014-01-01 10:11:12 +0100`. Every second half year is summer time.
    fn date(&mut self, at: i64) {
        let is_summer = at / HALF_YEAR_S % 2 == 1;
        let local = at + if is_summer { 7_200 } else { 3_600 };
        let second = local.rem_euclid(86_400);
        let (year, month, day) = civil(local.div_euclid(86_400));
        let parts = [year / 100, year % 100, month, day, second / 3_600, second / 60 % 60, second % 60];
        for (part, separator) in parts.into_iter().zip(*b"\0-- ::\0") {
            self.text.extend([b'0' + (part / 10) as u8, b'0' + (part % 10) as u8]);
            self.text.extend((separator != 0).then_some(separator));
        }
        self.text.extend(if is_summer { b" +0200" } else { b" +0100" });
    }

    /// Writes an element with this start time. Sometimes it is written twice, with another device text and a
    /// later creation date.
    fn element(&mut self, template: &Template, start: i64) {
        let value = format!("{}.{}", self.random(200), 1 + self.random(99));
        let (source, end) = (SOURCES[self.random(5) as usize], start + self.random(600) as i64);
        let times = if template.records == 1 && self.random(400) == 0 { 2 } else { 1 };
        for time in 0..times {
            for (text, name) in &template.pieces {
                self.text.extend_from_slice(text.as_bytes());
                match *name {
                    "start" => self.date(start),
                    "end" => self.date(end),
                    "made" => self.date(end + 60 * time),
                    "source" => self.text.extend_from_slice(source.as_bytes()),
                    "value" => self.text.extend_from_slice(value.as_bytes()),
                    "device" => {
                        let pointer = 0x2_8300_0000 + self.random(1 << 24);
                        let device = format!(
                            "&lt;&lt;HKDevice: {pointer:#x}&gt;, name:Apple Watch, manufacturer:Apple Inc., \
                             model:Watch, hardware:Watch6,2, software:9.1&gt;"
                        );
                        self.text.extend_from_slice(device.as_bytes());
                    }
                    _ => {}
                }
            }
            self.truth.records += template.records;
            self.truth.nested += template.nested;
        }
        self.truth.repeated += times as u64 - 1;
    }

    fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.text)?;
        self.truth.bytes += self.text.len() as u64;
        self.text.clear();
        Ok(())
    }
}

/// Writes an export until it has `bytes_max` bytes or `records_max` records. Each sample is later than the
/// one before.
fn write(
    out: &mut dyn Write,
    templates: &[Template],
    seed: u64,
    bytes_max: u64,
    records_max: u64,
) -> io::Result<Truth> {
    // The state must not be zero, because xorshift would never leave zero.
    let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut export = Export { text: HEAD.as_bytes().to_vec(), state, truth: Truth::default() };
    let mut now = FIRST_S;
    while export.truth.bytes + (export.text.len() as u64) < bytes_max && export.truth.records < records_max {
        if export.truth.bad == 0 && export.truth.records >= BAD_AFTER {
            export.text.extend_from_slice(BAD.as_bytes());
            export.truth.records += 1;
            export.truth.bad += 1;
        }
        now += 1 + export.random(60) as i64;
        let which = export.random(templates.len() as u64) as usize;
        export.element(&templates[which], now);
        if export.text.len() >= FLUSH_BYTES {
            export.flush(out)?;
        }
    }
    export.text.extend_from_slice(b"</HealthData>\n");
    export.flush(out)?;
    Ok(export.truth)
}

/// Returns year, month and day of a day since 1970 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + days.div_euclid(146_097) * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * from_march + 2) / 5 + 1)
}

fn run() -> Result<Truth, Box<dyn std::error::Error>> {
    let (mut path, mut bytes, mut records, mut seed, mut is_zip) = (None, u64::MAX, u64::MAX, 1, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().ok_or(USAGE)?.parse::<u64>().map_err(|_| USAGE);
        match word.as_str() {
            "--bytes" => bytes = number()?,
            "--records" => records = number()?,
            "--seed" => seed = number()?,
            "--zip" => is_zip = true,
            _ => path = Some(word),
        }
    }
    let path = path.filter(|_| bytes.min(records) < u64::MAX).ok_or(USAGE)?;
    let mut file = BufWriter::new(File::create(path)?);
    let templates = templates()?;
    if !is_zip {
        let truth = write(&mut file, &templates, seed, bytes, records)?;
        file.flush()?;
        return Ok(truth);
    }
    let mut zip = Zip::new(file);
    for n in 1..4 {
        let name = format!("apple_health_export/workout-routes/route_{n}.gpx");
        zip.member(&name, |out| out.write_all(ROUTE.as_bytes()))?;
    }
    zip.member("apple_health_export/export_cda.xml", |out| out.write_all(CDA.as_bytes()))?;
    let name = "apple_health_export/export.xml";
    let truth = zip.member(name, |out| write(out, &templates, seed, bytes, records))?;
    zip.finish()?;
    Ok(truth)
}

fn main() -> ExitCode {
    match run() {
        Ok(Truth { bytes, records, nested, repeated, bad }) => {
            let distinct = records - repeated - bad;
            println!(
                "{{\"bytes\":{bytes},\"records\":{records},\"nested\":{nested},\"distinct\":{distinct},\"bad\":{bad}}}"
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("generate-health: {error}");
            ExitCode::FAILURE
        }
    }
}
