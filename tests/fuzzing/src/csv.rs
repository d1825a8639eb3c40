//! Splits and joins inputs of the target `csv`, which are a mapping followed by a payload.

use domain::csv_mapping::CsvMapping;

const DELIMITERS: [&str; 6] = ["auto", ",", ";", "\t", "|", " "];
/// Formats of timestamps. The first one means no format.
const PATTERNS: [&str; 16] = [
    "",
    "unix_s",
    "unix_ms",
    "%Y-%m-%d %H:%M:%S,%f",
    "%Y-%m-%d %H:%M:%S.%f",
    "%d.%m.%Y %H:%M",
    "%Y-%m-%d %H",
    "%Y-%m-%d %H:%M:%S%#z",
    "%d.%m.%y",
    "%b %d, %Y, %I:%M:%S %p",
    "%m/%d/%Y",
    "%Y-%m-%d %H:%M:%S %Z",
    "%G-W%V-%u",
    "%Y-%j",
    "%s",
    "%+",
];
const ZONES: [&str; 7] = [
    "",
    "UTC",
    "Europe/Berlin",
    "America/Santiago",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "Africa/Monrovia",
];
const ENCODINGS: [&str; 10] = [
    "", "windows-1252", "utf-16le", "utf-16be", "shift_jis", "iso-2022-jp", "gb18030", "big5", "euc-kr",
    "x-user-defined",
];
/// A bit of the fifth byte: the decimal separator is a comma.
const DECIMAL_COMMA: u8 = 1;
/// A bit of the fifth byte: a cell with a dash counts as missing.
const DASH_IS_MISSING: u8 = 2;
/// The bits of the fifth byte from this one on are the number of skipped lines.
const SKIP_LINES_FROM: u32 = 2;
const SKIP_LINES_MAX: u8 = 3;

/// Splits an input into a mapping and a payload. Returns `None` if the input does not begin with a valid
/// mapping.
///
/// The first five bytes each choose a setting. Then follows a line with the column names, separated by tabs:
/// timestamp, end, id, external id, notes, latitude, longitude, type. The rest is the payload.
pub(crate) fn split(input: &[u8]) -> Option<(CsvMapping, &[u8])> {
    let (choices, rest) = input.split_first_chunk::<5>()?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (names, payload) = (std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]);
    let mut names = names.split('\t').map(|name| Some(name.to_owned()).filter(|name| !name.is_empty()));
    let mut name = || names.next().flatten();
    let [delimiter, pattern, zone, encoding, flags] = *choices;
    let setting = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let mapping = CsvMapping {
        timestamp_column: name()?,
        end_date_column: name(),
        id_column: name(),
        external_id_columns: name().map(|name| vec![name]),
        notes_column: name(),
        latitude_column: name(),
        longitude_column: name(),
        event_type_column: name(),
        delimiter: choose(&DELIMITERS, delimiter).to_owned(),
        timestamp_format: setting(choose(&PATTERNS, pattern)),
        time_zone: setting(choose(&ZONES, zone)),
        encoding: setting(choose(&ENCODINGS, encoding)),
        has_decimal_comma: flags & DECIMAL_COMMA != 0,
        missing: (flags & DASH_IS_MISSING != 0).then(|| vec!["-".to_owned()]),
        skip_lines: u32::from((flags >> SKIP_LINES_FROM) & SKIP_LINES_MAX),
        ..CsvMapping::default()
    };
    let event_type = mapping.event_type_column.is_none().then(|| "reading".to_owned());
    let mapping = CsvMapping { event_type, ..mapping };
    formats::csv::check_mapping(&mapping).is_empty().then_some((mapping, payload))
}

fn choose(table: &[&'static str], byte: u8) -> &'static str {
    table[usize::from(byte) % table.len()]
}

/// Joins a payload and the `csv` input of its import, as GraphQL has it, into one input. Settings that the
/// tables above do not have are left out.
pub(crate) fn join(csv: &serde_json::Value, payload: &[u8]) -> Vec<u8> {
    let text = |field: &str| csv[field].as_str().unwrap_or_default();
    let index = |table: &[&str], text: &str| {
        let index = table.iter().position(|other| *other == text);
        u8::try_from(index.unwrap_or_default()).unwrap_or_default()
    };
    let delimiter = match text("delimiter") {
        "" => ",",
        "tab" => "\t",
        other => other,
    };
    let lines = u8::try_from(csv["skipLines"].as_u64().unwrap_or_default()).unwrap_or_default();
    let comma = if text("decimalSeparator") == "," { DECIMAL_COMMA } else { 0 };
    let mut input = vec![
        index(&DELIMITERS, delimiter),
        index(&PATTERNS, text("timestampFormat")),
        index(&ZONES, text("timeZone")),
        index(&ENCODINGS, text("encoding")),
        comma | (lines << SKIP_LINES_FROM),
    ];
    let fields = ["timestampColumn", "endDateColumn", "idColumn", "externalId", "notesColumn"];
    let names: Vec<_> = fields
        .into_iter()
        .chain(["latitudeColumn", "longitudeColumn", "eventTypeColumn"])
        .map(text)
        .collect();
    input.extend(names.join("\t").into_bytes());
    input.push(b'\n');
    input.extend(payload);
    input
}
