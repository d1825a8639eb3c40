//! Writes an export like those of Apple Health, as big as one likes, with what real ones have that readers
//! stumble over, and prints as JSON what a right reader finds in it.
//!
//! `generate-health FILE (--bytes N | --records N) [--seed S] [--zip]`

mod packing;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use packing::Zip;

const USAGE: &str = "usage: generate-health FILE (--bytes N | --records N) [--seed S] [--zip]";
const HEAD: &str = include_str!("head.xml");
const ROUTE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<gpx version=\"1.1\" creator=\"Apple Health Export\">\n\
    <trk><trkseg><trkpt lon=\"13.4\" lat=\"52.5\"><ele>34.1</ele></trkpt></trkseg></trk>\n</gpx>\n";
const CDA: &str = "<?xml version=\"1.0\"?>\n<ClinicalDocument xmlns=\"urn:hl7-org:v3\"/>\n";
/// 2014-01-01T00:00:00Z
const FIRST_S: i64 = 1_388_534_400;
const HALF_YEAR_S: i64 = 15_768_000;
const FLUSH_BYTES: usize = 1 << 16;
/// Type, unit, lowest value, how many there are above it, whether a watch measures it, what it encloses.
const QUANTITIES: [(&str, &str, u64, u64, bool, &str); 7] = [
    (
        "HeartRate",
        "count/min",
        45,
        120,
        true,
        "<MetadataEntry key=\"HKMetadataKeyHeartRateMotionContext\" value=\"1\"/>",
    ),
    ("StepCount", "count", 1, 900, false, ""),
    ("DistanceWalkingRunning", "km", 0, 2, true, ""),
    ("ActiveEnergyBurned", "kcal", 0, 40, true, ""),
    ("BodyMass", "kg", 60, 30, false, "<MetadataEntry key=\"HKWasUserEntered\" value=\"1\"/>"),
    ("OxygenSaturation", "%", 0, 1, true, ""),
    (
        "HeartRateVariabilitySDNN",
        "ms",
        15,
        90,
        true,
        "<HeartRateVariabilityMetadataList><InstantaneousBeatsPerMinute bpm=\"71\" time=\"7:21:02,91\"/>\
         </HeartRateVariabilityMetadataList>",
    ),
];
/// Apostrophe and no-break space as Apple writes them, a control character that XML does not know, doubled
/// spaces, other scripts.
const SOURCES: [&str; 5] =
    ["Anna’s Apple\u{a0}Watch", "Anna’s iPhone", "Fit\u{3}Bit &amp; Co", "Health  Mate", "体重計 Größe"];
const SLEEP: [&str; 4] = ["InBed", "AsleepCore", "AsleepDeep", "Awake"];

/// What a reader must find.
#[derive(Default)]
struct Truth {
    /// Samples and workouts at the top, bad and repeated ones too.
    records: u64,
    /// Samples inside correlations; each stands at the top too.
    nested: u64,
    /// Samples that differ from an earlier one in device text and creation date only.
    repeated: u64,
    /// Samples whose start is no date.
    bad: u64,
}

struct Export<'a> {
    out: &'a mut dyn Write,
    text: Vec<u8>,
    written: u64,
    state: u64,
    now: i64,
    truth: Truth,
}

impl Export<'_> {
    fn roll(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % below
    }

    fn put(&mut self, texts: &[&str]) {
        texts.iter().for_each(|text| self.text.extend_from_slice(text.as_bytes()));
    }

    /// ` name="2014-01-01 10:11:12 +0100"`; every other half year is summer.
    fn date(&mut self, name: &str, at: i64) {
        let is_summer = at / HALF_YEAR_S % 2 == 1;
        let local = at + if is_summer { 7_200 } else { 3_600 };
        let second = local.rem_euclid(86_400);
        let (year, month, day) = civil(local.div_euclid(86_400));
        self.put(&[" ", name, "=\""]);
        let parts = [year / 100, year % 100, month, day, second / 3_600, second / 60 % 60, second % 60];
        for (part, behind) in parts.into_iter().zip(*b"\0-- ::\0") {
            self.text.extend([b'0' + (part / 10) as u8, b'0' + (part % 10) as u8]);
            self.text.extend((behind != 0).then_some(behind));
        }
        self.put(&[if is_summer { " +0200\"" } else { " +0100\"" }]);
    }

    /// An element up to its dates: what it is, who made it, and with what.
    fn begin(
        &mut self,
        what: [&str; 3],
        source: usize,
        device: Option<u64>,
        start: i64,
        end: i64,
        later: i64,
    ) {
        let gap = if self.roll(50) == 0 { "  " } else { " " };
        let source = SOURCES[source];
        self.put(&[
            " <",
            what[0],
            gap,
            what[1],
            what[2],
            "\"",
            gap,
            "sourceName=\"",
            source,
            "\" sourceVersion=\"9.1\"",
        ]);
        if let Some(device) = device {
            let device = device.to_string();
            self.put(&[
                " device=\"&lt;&lt;HKDevice: 0x283",
                &device,
                "&gt;, name:Apple Watch, manufacturer:Apple Inc., ",
            ]);
            self.put(&["model:Watch, hardware:Watch6,2, software:9.1&gt;\""]);
        }
        self.date("creationDate", end + later);
        self.date("startDate", start);
        self.date("endDate", end);
    }

    /// A measured value; sometimes once more, with another device text and made later.
    fn quantity(&mut self, which: usize) {
        let (kind, unit, least, range, is_of_watch, inside) = QUANTITIES[which];
        let value = format!("{}.{}", least + self.roll(range), 1 + self.roll(99));
        let (source, end) = (self.roll(5) as usize, self.now + self.roll(600) as i64);
        let times = if self.roll(400) == 0 { 2 } else { 1 };
        for later in 0..times {
            let device = is_of_watch.then(|| self.roll(1 << 24));
            let what = ["Record", "type=\"HKQuantityTypeIdentifier", kind];
            self.begin(what, source, device, self.now, end, 60 * later);
            self.put(&[" unit=\"", unit, "\" value=\"", &value, "\""]);
            self.put(if inside.is_empty() { &["/>\n"] } else { &[">\n  ", inside, "\n </Record>\n"] });
        }
        self.truth.records += times as u64;
        self.truth.repeated += times as u64 - 1;
    }

    /// What is not a number but a text, or nothing at all.
    fn category(&mut self) {
        let (stage, end) = (SLEEP[self.roll(4) as usize], self.now + self.roll(7_200) as i64);
        if self.roll(10) == 0 {
            let what = ["Record", "type=\"HKCategoryTypeIdentifier", "MindfulSession"];
            self.begin(what, 1, None, self.now, end, 0);
            self.put(&["/>\n"]);
        } else {
            let what = ["Record", "type=\"HKCategoryTypeIdentifier", "SleepAnalysis"];
            self.begin(what, 0, Some(1), self.now, end, 0);
            self.put(&[" value=\"HKCategoryValueSleepAnalysis", stage, "\"/>\n"]);
        }
        self.truth.records += 1;
    }

    fn workout(&mut self) {
        let end = self.now + 1_800;
        let what = ["Workout", "workoutActivityType=\"HKWorkoutActivityType", "Running"];
        self.begin(what, 0, Some(2), self.now, end, 0);
        self.put(&[" duration=\"30.01\" durationUnit=\"min\">\n  <MetadataEntry key=\"HKIndoorWorkout\" value=\"0\"/>\n"]);
        self.put(&["  <WorkoutEvent type=\"HKWorkoutEventTypePause\""]);
        self.date("date", self.now + 600);
        self.put(&["/>\n  <WorkoutStatistics type=\"HKQuantityTypeIdentifierActiveEnergyBurned\""]);
        self.date("startDate", self.now);
        self.date("endDate", end);
        self.put(&[" sum=\"250.5\" unit=\"kcal\"/>\n  <WorkoutRoute sourceName=\"Watch\">\n"]);
        self.put(&[
            "   <FileReference path=\"/workout-routes/route_1.gpx\"/>\n  </WorkoutRoute>\n </Workout>\n",
        ]);
        self.truth.records += 1;
    }

    /// Blood pressure: two samples at the top, and again inside what belongs together.
    fn correlation(&mut self) {
        let values = [100 + self.roll(40), 60 + self.roll(30)].map(|value| value.to_string());
        for is_nested in [false, true] {
            if is_nested {
                let what = ["Correlation", "type=\"HKCorrelationTypeIdentifier", "BloodPressure"];
                self.begin(what, 3, None, self.now, self.now, 0);
                self.put(&[">\n"]);
            }
            for (kind, value) in ["BloodPressureSystolic", "BloodPressureDiastolic"].iter().zip(&values) {
                let what = ["Record", "type=\"HKQuantityTypeIdentifier", kind];
                self.begin(what, 3, None, self.now, self.now, 0);
                self.put(&[" unit=\"mmHg\" value=\"", value, "\"/>\n"]);
            }
        }
        self.put(&[" </Correlation>\n"]);
        self.truth.records += 2;
        self.truth.nested += 2;
    }

    fn bad(&mut self) {
        self.put(&[" <Record type=\"HKQuantityTypeIdentifierStepCount\" sourceName=\"x\" unit=\"count\" "]);
        self.put(&[
            "startDate=\"2016-13-45 10:00:00 +0100\" endDate=\"2016-13-45 10:01:00 +0100\" value=\"7\"/>\n",
        ]);
        self.truth.records += 1;
        self.truth.bad += 1;
    }

    /// Writes until one of both is reached, each sample later than the one before.
    fn write(&mut self, bytes_max: u64, records_max: u64) -> io::Result<()> {
        self.put(&[HEAD]);
        while self.written + (self.text.len() as u64) < bytes_max && self.truth.records < records_max {
            self.now += 1 + self.roll(60) as i64;
            match self.roll(1_000) {
                _ if self.truth.bad == 0 && self.truth.records > 9 => self.bad(),
                0..2 => self.workout(),
                2..4 => self.correlation(),
                4..24 => self.category(),
                24..27 => self
                    .put(&[" <ActivitySummary dateComponents=\"2014-01-01\" activeEnergyBurned=\"510\"/>\n"]),
                dice => self.quantity(dice as usize % QUANTITIES.len()),
            }
            if self.text.len() >= FLUSH_BYTES {
                self.flush()?;
            }
        }
        self.put(&["</HealthData>\n"]);
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.text)?;
        self.written += self.text.len() as u64;
        self.text.clear();
        Ok(())
    }
}

/// Year, month and day of a day since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
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

fn run() -> Result<String, Box<dyn std::error::Error>> {
    let (mut path, mut bytes, mut records, mut seed, mut zip) = (None, u64::MAX, u64::MAX, 1, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().ok_or(USAGE)?.parse::<u64>().map_err(|_| USAGE);
        match word.as_str() {
            "--bytes" => bytes = number()?,
            "--records" => records = number()?,
            "--seed" => seed = number()?,
            "--zip" => zip = true,
            _ => path = Some(word),
        }
    }
    let path = path.filter(|_| bytes.min(records) < u64::MAX).ok_or(USAGE)?;
    let file = BufWriter::new(File::create(path)?);
    // No state of zero: it would stay so.
    let begin = |out| Export {
        out,
        text: Vec::new(),
        written: 0,
        state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        now: FIRST_S,
        truth: Truth::default(),
    };
    let (truth, written) = if zip {
        let mut zip = Zip::new(file);
        for n in 1..4 {
            let name = format!("apple_health_export/workout-routes/route_{n}.gpx");
            zip.member(&name, |out| out.write_all(ROUTE.as_bytes()))?;
        }
        zip.member("apple_health_export/export_cda.xml", |out| out.write_all(CDA.as_bytes()))?;
        let found = zip.member("apple_health_export/export.xml", |out| {
            let mut export = begin(out);
            export.write(bytes, records).map(|()| (export.truth, export.written))
        })?;
        zip.finish()?;
        found
    } else {
        let mut file = file;
        let mut export = begin(&mut file);
        export.write(bytes, records)?;
        let found = (export.truth, export.written);
        file.flush()?;
        found
    };
    let Truth { records, nested, repeated, bad } = truth;
    let distinct = records - repeated - bad;
    Ok(format!(
        "{{\"bytes\":{written},\"records\":{records},\"nested\":{nested},\"distinct\":{distinct},\"bad\":{bad}}}"
    ))
}

fn main() -> ExitCode {
    match run() {
        Ok(found) => {
            println!("{found}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("generate-health: {error}");
            ExitCode::FAILURE
        }
    }
}
