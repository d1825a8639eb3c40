//! One `Record` or `Workout` element of an Apple Health export as an event. The same sample, exported
//! again under another sample id or from a device with another pointer, is the same event.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use domain::draft::{EventDraft, Keys, Sent};
use domain::limits::PROPERTIES_BYTES_MAX;
use domain::problem::{Code, FieldProblem};
use domain::{instant, json_text};
use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};
use sha2::{Digest, Sha256};

/// Elements that become events, wherever they stand.
pub(super) const ELEMENTS: [&str; 2] = ["Record", "Workout"];

/// What a sample says, and what its id is derived from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    /// The event.
    pub(super) draft: EventDraft,
    /// Made of type, source, start, end, value and unit, and of [`IDENTIFYING`] metadata.
    pub(super) keys: Keys,
    /// What of it cannot be read.
    pub(super) problems: Vec<FieldProblem>,
}

/// Metadata that is given anew with each export or sync: it says nothing of the sample.
const FLEETING: [&str; 3] = ["HKExternalUUID", "HKMetadataKeySyncIdentifier", "HKMetadataKeySyncVersion"];

/// Metadata without which two samples of one moment are one: what was eaten, why insulin was given. Ids were derived
/// without it before.
const IDENTIFYING: [&str; 3] = ["HKFoodType", "HKInsulinDeliveryReason", "HKBloodGlucoseMealTime"];
/// Where it stands in `properties`.
const IDENTIFYING_POINTERS: [&str; 3] =
    ["/metadata/HKFoodType", "/metadata/HKInsulinDeliveryReason", "/metadata/HKBloodGlucoseMealTime"];

/// Attributes that are kept as they are, as numbers where they are numbers.
const KEPT: [&str; 10] = [
    "value",
    "unit",
    "sourceName",
    "sourceVersion",
    "duration",
    "durationUnit",
    "totalDistance",
    "totalDistanceUnit",
    "totalEnergyBurned",
    "totalEnergyBurnedUnit",
];

/// The amounts of a `WorkoutStatistics`.
const STATISTICS: [&str; 6] = ["type", "average", "minimum", "maximum", "sum", "unit"];

/// Bytes of `properties` for the names of its lists, and for numbers that are longer in canonical JSON.
const RESERVED_BYTES: usize = 512;

/// Reads an element, from its `<` to its last `>`.
///
/// # Errors
/// `INVALID_VALUE` when it is not well-formed XML in UTF-8 or names an entity. Times that are neither
/// `2019-01-01 10:00:00 +0100` nor RFC 3339 are problems of the sample.
pub(super) fn parse(element: &[u8]) -> Result<Sample, Vec<FieldProblem>> {
    let text = std::str::from_utf8(element).map_err(|_| malformed("is not UTF-8"))?;
    let parts = read(&without_controls(text)).map_err(malformed)?;
    let mut problems = Vec::new();
    let mut time = |pointer: &str, name: &str| match parts.attributes.get(name).map(|text| rfc_3339(text)) {
        None => (Sent::Absent, None),
        Some(Some((time, ms))) => (Sent::Value(time), Some(ms)),
        Some(None) => {
            let detail = "is not of the form 2019-01-01 10:00:00 +0100";
            problems.push(FieldProblem::new(pointer, Code::InvalidDatetime, detail));
            (Sent::WrongKind, None)
        }
    };
    let ((timestamp, start_ms), (end_date, end_ms)) =
        (time("/timestamp", "startDate"), time("/endDate", "endDate"));
    let kind = ["type", "workoutActivityType"].into_iter().find_map(|name| parts.attributes.get(name));
    if kind.is_none() {
        problems.push(FieldProblem::new("/eventType", Code::Required, "has no type"));
    }
    let keys = parts.keys(kind.map(String::as_str), start_ms, end_ms);
    let zone = parts.metadata.get("HKTimeZone").filter(|zone| chrono_tz::Tz::from_str(zone).is_ok());
    let draft = EventDraft {
        event_type: kind.map_or(Sent::Absent, |kind| Sent::Value(kind.clone())),
        timestamp,
        end_date,
        time_zone: zone.map_or(Sent::Absent, |zone| Sent::Value(zone.clone())),
        source_type: Sent::Value("healthkit".to_owned()),
        properties: Sent::Value(parts.properties(zone.is_some())),
        ..EventDraft::default()
    };
    Ok(Sample { draft, keys, problems })
}

fn malformed(detail: &str) -> Vec<FieldProblem> {
    vec![FieldProblem::new("", Code::InvalidValue, detail)]
}

type Attributes = BTreeMap<&'static str, String>;

/// What an element holds that is kept.
#[derive(Default)]
struct Parts {
    attributes: Attributes,
    metadata: BTreeMap<String, String>,
    statistics: Vec<Attributes>,
}

const KEYS: [&str; 5] = ["type", "workoutActivityType", "startDate", "endDate", "device"];

fn read(text: &str) -> Result<Parts, &'static str> {
    const BROKEN: &str = "is not well-formed XML";
    let mut reader = Reader::from_str(text);
    let mut parts = Parts::default();
    let mut depth = 0_usize;
    loop {
        let (tag, is_open) = match reader.read_event().map_err(|_| BROKEN)? {
            Event::Start(tag) => (tag, true),
            Event::Empty(tag) => (tag, false),
            Event::End(_) => {
                depth -= 1;
                continue;
            }
            Event::GeneralRef(name) if !is_predefined(&name) => return Err(ENTITY),
            Event::Eof if depth == 0 => return Ok(parts),
            Event::Eof => return Err(BROKEN),
            _ => continue,
        };
        match (depth, tag.name().as_ref()) {
            (0, _) => parts.attributes = attributes(&tag, KEYS.iter().chain(&KEPT))?,
            (1, b"MetadataEntry") => {
                let mut entry = attributes(&tag, &["key", "value"])?;
                if let (Some(key), Some(value)) = (entry.remove("key"), entry.remove("value")) {
                    parts.metadata.insert(key, value);
                }
            }
            (1, b"WorkoutStatistics") => parts.statistics.push(attributes(&tag, &STATISTICS)?),
            _ => {}
        }
        depth += usize::from(is_open);
    }
}

/// Whether bytes are one element, its end included.
pub(super) fn is_element(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut reader = Reader::from_str(text);
    let (mut depth, mut elements) = (0_usize, 0);
    loop {
        let (opens, closes) = match reader.read_event() {
            Ok(Event::Start(_)) => (1, 0),
            Ok(Event::Empty(_)) => (1, 1),
            Ok(Event::End(_)) => (0, 1),
            Ok(Event::Eof) => return depth == 0 && elements == 1,
            Ok(_) => (0, 0),
            Err(_) => return false,
        };
        elements += usize::from(depth == 0) * opens;
        depth = depth + opens - closes;
    }
}

const ENTITY: &str = "names an entity: only the five of XML and numbers are read";

fn is_predefined(name: &[u8]) -> bool {
    name.starts_with(b"#") || [&b"lt"[..], b"gt", b"amp", b"apos", b"quot"].contains(&name)
}

/// Of the attributes of a tag those with these names. All must be right.
fn attributes<'n>(
    tag: &BytesStart<'_>,
    names: impl IntoIterator<Item = &'n &'static str> + Clone,
) -> Result<Attributes, &'static str> {
    let mut found = Attributes::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| "has a broken attribute")?;
        let raw = std::str::from_utf8(&attribute.value).map_err(|_| "is not UTF-8")?;
        let value = unescape(raw).map_err(|_| ENTITY)?;
        if let Some(name) = names.clone().into_iter().find(|name| name.as_bytes() == attribute.key.as_ref()) {
            found.insert(name, plain(value));
        }
    }
    Ok(found)
}

/// A value as XML says: white space is blanks; and without control characters, which some exports hold.
fn plain(value: Cow<'_, str>) -> String {
    if value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return value.into_owned();
    }
    let kept = value.chars().filter_map(|c| match c {
        '\t' | '\n' | '\r' => Some(' '),
        other if other.is_control() => None,
        other => Some(other),
    });
    kept.collect()
}

/// Without the control characters that XML forbids.
fn without_controls(text: &str) -> Cow<'_, str> {
    let is_forbidden = |byte: u8| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r') || byte == 0x7f;
    if text.bytes().any(is_forbidden) {
        text.chars().filter(|c| !u8::try_from(*c).is_ok_and(is_forbidden)).collect::<String>().into()
    } else {
        text.into()
    }
}

/// `2019-01-01 10:00:00 +0100` as RFC 3339, and in epoch milliseconds; what is RFC 3339 already as it stands.
fn rfc_3339(text: &str) -> Option<(String, i64)> {
    let text = text.trim_ascii();
    let time = match text.split_once(' ') {
        Some((date, rest)) => {
            let (time, offset) = rest.split_once(' ')?;
            let (hours, minutes) = offset.split_at_checked(3)?;
            format!("{date}T{time}{hours}:{minutes}")
        }
        None => text.to_owned(),
    };
    instant::parse(&time).map(|written| (time, written.ms))
}

/// The text of a device without its pointer: `<<HKDevice: 0x281>, name:Watch>` is `name:Watch`.
fn device(text: &str) -> &str {
    let Some(inner) = text.strip_prefix("<<HKDevice: ") else { return text };
    let Some((_, rest)) = inner.split_once(">, ") else { return text };
    rest.strip_suffix('>').unwrap_or(rest)
}

impl Parts {
    /// What tells this sample from others of the same user, whatever it is named in an export.
    fn keys(&self, kind: Option<&str>, start_ms: Option<i64>, end_ms: Option<i64>) -> Keys {
        let bare = self.bare_key(kind, start_ms, end_ms);
        let metadata: Vec<_> =
            IDENTIFYING.iter().filter_map(|name| self.metadata.get_key_value(*name)).collect();
        if metadata.is_empty() {
            return Keys { key: bare, former: None };
        }
        let mut digest = Sha256::new();
        digest.update(bare);
        for text in metadata.into_iter().flat_map(|(name, value)| [name, value]) {
            digest.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(text);
        }
        Keys { key: digest.finalize().into(), former: Some((bare, &IDENTIFYING_POINTERS)) }
    }

    /// The digest over type, source, start, end, value and unit.
    fn bare_key(&self, kind: Option<&str>, start_ms: Option<i64>, end_ms: Option<i64>) -> [u8; 32] {
        let mut digest = Sha256::new();
        let attribute = |name: &str| self.attributes.get(name).map(|text| number_or_text(text));
        let fields = [
            kind.map(str::to_owned),
            attribute("sourceName"),
            start_ms.map(|ms| ms.to_string()),
            end_ms.map(|ms| ms.to_string()),
            attribute("value"),
            attribute("unit"),
        ];
        for field in fields {
            let length =
                field.as_ref().map_or(u64::MAX, |field| u64::try_from(field.len()).unwrap_or_default());
            digest.update(length.to_be_bytes());
            digest.update(field.unwrap_or_default());
        }
        digest.finalize().into()
    }

    fn properties(&self, zone_is_known: bool) -> String {
        let mut object = String::from("{");
        for name in KEPT {
            push(&mut object, &self.attributes, name);
        }
        if let Some(text) = self.attributes.get("device") {
            json_text::push_key(&mut object, "device");
            json_text::push_text(&mut object, device(text));
        }
        let mut room =
            Room { bytes: PROPERTIES_BYTES_MAX.saturating_sub(object.len() + RESERVED_BYTES), omitted: 0 };
        let metadata: Vec<String> = self
            .metadata
            .iter()
            .filter(|(key, _)| !FLEETING.contains(&key.as_str()) && (!zone_is_known || *key != "HKTimeZone"))
            .map(|(key, value)| {
                let mut entry = String::from("{");
                json_text::push_key(&mut entry, key);
                json_text::push_text(&mut entry, value);
                entry.split_off(1)
            })
            .filter(|entry| room.has_room_for(entry))
            .collect();
        if !metadata.is_empty() {
            json_text::push_key(&mut object, "metadata");
            object += &format!("{{{}}}", metadata.join(","));
        }
        let statistics: Vec<String> = self
            .statistics
            .iter()
            .map(|statistics| {
                let mut entry = String::from("{");
                STATISTICS.iter().for_each(|name| push(&mut entry, statistics, name));
                entry + "}"
            })
            .filter(|entry| room.has_room_for(entry))
            .collect();
        if !statistics.is_empty() {
            json_text::push_key(&mut object, "statistics");
            object += &format!("[{}]", statistics.join(","));
        }
        if room.omitted > 0 {
            json_text::push_key(&mut object, "omitted");
            object += &room.omitted.to_string();
        }
        object.push('}');
        object
    }
}

/// What is left of the bytes that `properties` may have.
struct Room {
    bytes: usize,
    /// Entries for which there was none.
    omitted: usize,
}

impl Room {
    /// Whether an entry still fits, with a comma.
    fn has_room_for(&mut self, entry: &str) -> bool {
        let left = self.bytes.checked_sub(entry.len() + 1);
        self.omitted += usize::from(left.is_none());
        self.bytes = left.unwrap_or(self.bytes);
        left.is_some()
    }
}

fn push(object: &mut String, attributes: &Attributes, name: &str) {
    let Some(value) = attributes.get(name) else { return };
    json_text::push_key(object, name);
    if is_amount(name) && json_text::is_number(value) {
        object.push_str(value);
    } else {
        json_text::push_text(object, value);
    }
}

/// Whether an attribute may hold a number; a version such as `12.10` is none.
fn is_amount(name: &str) -> bool {
    !matches!(name, "sourceName" | "sourceVersion" | "type") && !name.to_ascii_lowercase().ends_with("unit")
}

/// Numbers that are equal are written alike.
fn number_or_text(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(number) if json_text::is_number(text) => number.to_string(),
        _ => text.to_owned(),
    }
}
