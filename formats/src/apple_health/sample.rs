//! Reads one `Record` or `Workout` element of an Apple Health export as an event. The same sample stays the
//! same event if it is exported again under another sample id, or from a device with another pointer.

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

/// Elements that become events, at any depth.
pub(super) const ELEMENTS: [&str; 2] = ["Record", "Workout"];

/// A sample, and the keys from which its id is derived.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    /// The event.
    pub(super) draft: EventDraft,
    /// Digests of type, source, start, end, value and unit, and of [`IDENTIFYING_METADATA`].
    pub(super) keys: Keys,
    /// Problems of the parts that are missing or cannot be read: the times and the type.
    pub(super) problems: Vec<FieldProblem>,
}

/// Metadata that is not stored, because it changes with each export or sync and says nothing about the
/// sample.
const VOLATILE_METADATA: [&str; 3] =
    ["HKExternalUUID", "HKMetadataKeySyncIdentifier", "HKMetadataKeySyncVersion"];

/// Metadata that distinguishes two samples of the same moment, such as what was eaten or why insulin was
/// given. Earlier versions derived ids without it.
const IDENTIFYING_METADATA: [&str; 3] = ["HKFoodType", "HKInsulinDeliveryReason", "HKBloodGlucoseMealTime"];
/// The JSON Pointers of [`IDENTIFYING_METADATA`] within `properties`, in the same order.
const IDENTIFYING_POINTERS: [&str; 3] =
    ["/metadata/HKFoodType", "/metadata/HKInsulinDeliveryReason", "/metadata/HKBloodGlucoseMealTime"];

/// Attributes that are stored in `properties`, as numbers if they are numbers.
const PROPERTY_ATTRIBUTES: [&str; 10] = [
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

/// Attributes of a `WorkoutStatistics` that are stored.
const STATISTICS_ATTRIBUTES: [&str; 6] = ["type", "average", "minimum", "maximum", "sum", "unit"];

/// Number of bytes of `properties` that are reserved for the names of its lists, and for numbers that are
/// longer in canonical JSON.
const RESERVED_BYTES: usize = 512;

/// Parses a `Record` or `Workout` element, from its `<` to its last `>`. Times must be written as
/// `2019-01-01 10:00:00 +0100` or in RFC 3339; other times are problems of the sample.
///
/// # Errors
/// [`Code::InvalidValue`] if it is not well-formed XML in UTF-8, or refers to an entity that XML does not
/// predefine.
pub(super) fn parse_sample(element: &[u8]) -> Result<Sample, Vec<FieldProblem>> {
    let text = std::str::from_utf8(element).map_err(|_| malformed_problems("is not UTF-8"))?;
    let parts = read_element_parts(&remove_control_characters(text)).map_err(malformed_problems)?;
    let mut problems = Vec::new();
    let mut time =
        |pointer: &str, name: &str| match parts.attributes.get(name).map(|text| to_rfc_3339_and_ms(text)) {
            None => (Sent::Absent, None),
            Some(Some((time, ms))) => (Sent::Value(time), Some(ms)),
            Some(None) => {
                let detail = "is not of the form 2019-01-01 10:00:00 +0100";
                problems.push(FieldProblem::new(pointer, Code::InvalidDatetime, detail));
                (Sent::WrongType, None)
            }
        };
    let ((timestamp, start_ms), (end_date, end_ms)) =
        (time("/timestamp", "startDate"), time("/endDate", "endDate"));
    let kind = ["type", "workoutActivityType"].into_iter().find_map(|name| parts.attributes.get(name));
    if kind.is_none() {
        problems.push(FieldProblem::new("/eventType", Code::Required, "has no type"));
    }
    let keys = parts.derive_id_digests(kind.map(String::as_str), start_ms, end_ms);
    let zone = parts.metadata.get("HKTimeZone").filter(|zone| chrono_tz::Tz::from_str(zone).is_ok());
    let draft = EventDraft {
        event_type: kind.map_or(Sent::Absent, |kind| Sent::Value(kind.clone())),
        timestamp,
        end_date,
        time_zone: zone.map_or(Sent::Absent, |zone| Sent::Value(zone.clone())),
        source_type: Sent::Value("healthkit".to_owned()),
        properties: Sent::Value(parts.to_properties_json(zone.is_some())),
        ..EventDraft::default()
    };
    Ok(Sample { draft, keys, problems })
}

fn malformed_problems(detail: &str) -> Vec<FieldProblem> {
    vec![FieldProblem::new("", Code::InvalidValue, detail)]
}

type Attributes = BTreeMap<&'static str, String>;

/// The parts of an element that are read.
#[derive(Default)]
struct Parts {
    attributes: Attributes,
    metadata: BTreeMap<String, String>,
    statistics: Vec<Attributes>,
}

/// Attributes that are read in addition to [`PROPERTY_ATTRIBUTES`].
const OTHER_ATTRIBUTES: [&str; 5] = ["type", "workoutActivityType", "startDate", "endDate", "device"];

fn read_element_parts(text: &str) -> Result<Parts, &'static str> {
    const NOT_WELL_FORMED: &str = "is not well-formed XML";
    let mut reader = Reader::from_str(text);
    let mut parts = Parts::default();
    let mut depth = 0_usize;
    loop {
        let (tag, is_open) = match reader.read_event().map_err(|_| NOT_WELL_FORMED)? {
            Event::Start(tag) => (tag, true),
            Event::Empty(tag) => (tag, false),
            Event::End(_) => {
                depth -= 1;
                continue;
            }
            Event::GeneralRef(name) if !is_supported_reference(&name) => return Err(UNKNOWN_ENTITY),
            Event::Eof if depth == 0 => return Ok(parts),
            Event::Eof => return Err(NOT_WELL_FORMED),
            _ => continue,
        };
        match (depth, tag.name().as_ref()) {
            (0, _) => {
                parts.attributes = read_attributes(&tag, OTHER_ATTRIBUTES.iter().chain(&PROPERTY_ATTRIBUTES))?
            }
            (1, b"MetadataEntry") => {
                let mut entry = read_attributes(&tag, &["key", "value"])?;
                if let (Some(key), Some(value)) = (entry.remove("key"), entry.remove("value")) {
                    parts.metadata.insert(key, value);
                }
            }
            (1, b"WorkoutStatistics") => {
                parts.statistics.push(read_attributes(&tag, &STATISTICS_ATTRIBUTES)?)
            }
            _ => {}
        }
        depth += usize::from(is_open);
    }
}

/// Whether bytes are exactly one complete and well-formed XML element.
pub(super) fn is_complete_element(bytes: &[u8]) -> bool {
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

const UNKNOWN_ENTITY: &str =
    "refers to an entity: only the five predefined entities of XML and numeric references are read";

fn is_supported_reference(name: &[u8]) -> bool {
    name.starts_with(b"#") || [&b"lt"[..], b"gt", b"amp", b"apos", b"quot"].contains(&name)
}

/// The attributes of a tag that have one of these names. All attributes must be well-formed, also the others.
fn read_attributes<'n>(
    tag: &BytesStart<'_>,
    names: impl IntoIterator<Item = &'n &'static str> + Clone,
) -> Result<Attributes, &'static str> {
    let mut attributes = Attributes::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| "has a broken attribute")?;
        let raw = std::str::from_utf8(&attribute.value).map_err(|_| "is not UTF-8")?;
        let value = unescape(raw).map_err(|_| UNKNOWN_ENTITY)?;
        if let Some(name) = names.clone().into_iter().find(|name| name.as_bytes() == attribute.key.as_ref()) {
            attributes.insert(name, normalize_attribute_value(value));
        }
    }
    Ok(attributes)
}

/// Normalizes a value: line ends and tabs become blanks, as XML requires. Control characters, which some
/// exports hold, are removed.
fn normalize_attribute_value(value: Cow<'_, str>) -> String {
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

/// Removes the control characters that XML forbids, and DEL.
fn remove_control_characters(text: &str) -> Cow<'_, str> {
    let is_forbidden = |byte: u8| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r') || byte == 0x7f;
    if text.bytes().any(is_forbidden) {
        text.chars().filter(|c| !u8::try_from(*c).is_ok_and(is_forbidden)).collect::<String>().into()
    } else {
        text.into()
    }
}

/// Converts `2019-01-01 10:00:00 +0100` to RFC 3339. Returns it with its epoch milliseconds. Text in RFC 3339
/// stays as it is. `None` for any other text.
fn to_rfc_3339_and_ms(text: &str) -> Option<(String, i64)> {
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

/// The description of a device without its pointer: `<<HKDevice: 0x281>, name:Watch>` is `name:Watch`.
fn device_without_memory_address(text: &str) -> &str {
    let Some(inner) = text.strip_prefix("<<HKDevice: ") else { return text };
    let Some((_, rest)) = inner.split_once(">, ") else { return text };
    rest.strip_suffix('>').unwrap_or(rest)
}

impl Parts {
    /// The digests from which the id of the event is derived, the same in each export of the sample. `former`
    /// is set if the sample has [`IDENTIFYING_METADATA`], which earlier versions left out of the digest.
    fn derive_id_digests(&self, kind: Option<&str>, start_ms: Option<i64>, end_ms: Option<i64>) -> Keys {
        let without_metadata = self.digest_without_metadata(kind, start_ms, end_ms);
        let metadata: Vec<_> =
            IDENTIFYING_METADATA.iter().filter_map(|name| self.metadata.get_key_value(*name)).collect();
        if metadata.is_empty() {
            return Keys { key: without_metadata, former: None };
        }
        let mut digest = Sha256::new();
        digest.update(without_metadata);
        for text in metadata.into_iter().flat_map(|(name, value)| [name, value]) {
            digest.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(text);
        }
        Keys { key: digest.finalize().into(), former: Some((without_metadata, &IDENTIFYING_POINTERS)) }
    }

    /// The digest of type, source, start, end, value and unit.
    fn digest_without_metadata(
        &self,
        kind: Option<&str>,
        start_ms: Option<i64>,
        end_ms: Option<i64>,
    ) -> [u8; 32] {
        let mut digest = Sha256::new();
        let attribute = |name: &str| self.attributes.get(name).map(|text| normalize_number(text));
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

    fn to_properties_json(&self, has_known_zone: bool) -> String {
        let mut object = String::from("{");
        for name in PROPERTY_ATTRIBUTES {
            push_json_attribute(&mut object, &self.attributes, name);
        }
        if let Some(text) = self.attributes.get("device") {
            json_text::push_json_key(&mut object, "device");
            json_text::push_json_string(&mut object, device_without_memory_address(text));
        }
        let mut budget = ByteBudget {
            bytes: PROPERTIES_BYTES_MAX.saturating_sub(object.len() + RESERVED_BYTES),
            omitted: 0,
        };
        let metadata: Vec<String> = self
            .metadata
            .iter()
            .filter(|(key, _)| {
                !VOLATILE_METADATA.contains(&key.as_str()) && (!has_known_zone || *key != "HKTimeZone")
            })
            .map(|(key, value)| {
                let mut entry = String::from("{");
                json_text::push_json_key(&mut entry, key);
                json_text::push_json_string(&mut entry, value);
                entry.split_off(1)
            })
            .filter(|entry| budget.take_bytes_if_entry_fits(entry))
            .collect();
        if !metadata.is_empty() {
            json_text::push_json_key(&mut object, "metadata");
            object += &format!("{{{}}}", metadata.join(","));
        }
        let statistics: Vec<String> = self
            .statistics
            .iter()
            .map(|statistics| {
                let mut entry = String::from("{");
                STATISTICS_ATTRIBUTES
                    .iter()
                    .for_each(|name| push_json_attribute(&mut entry, statistics, name));
                entry + "}"
            })
            .filter(|entry| budget.take_bytes_if_entry_fits(entry))
            .collect();
        if !statistics.is_empty() {
            json_text::push_json_key(&mut object, "statistics");
            object += &format!("[{}]", statistics.join(","));
        }
        if budget.omitted > 0 {
            json_text::push_json_key(&mut object, "omitted");
            object += &budget.omitted.to_string();
        }
        object.push('}');
        object
    }
}

/// The remaining bytes that `properties` may have.
struct ByteBudget {
    bytes: usize,
    /// Number of entries that did not fit.
    omitted: usize,
}

impl ByteBudget {
    /// Takes the bytes of an entry and a comma if they fit, or else counts the entry as omitted. Returns
    /// whether it fits.
    fn take_bytes_if_entry_fits(&mut self, entry: &str) -> bool {
        let left = self.bytes.checked_sub(entry.len() + 1);
        self.omitted += usize::from(left.is_none());
        self.bytes = left.unwrap_or(self.bytes);
        left.is_some()
    }
}

fn push_json_attribute(object: &mut String, attributes: &Attributes, name: &str) {
    let Some(value) = attributes.get(name) else { return };
    json_text::push_json_key(object, name);
    if attribute_may_be_number(name) && json_text::is_finite_number(value) {
        object.push_str(value);
    } else {
        json_text::push_json_string(object, value);
    }
}

/// Whether the attribute with this name may hold a number. A version such as `12.10` is not a number.
fn attribute_may_be_number(name: &str) -> bool {
    !matches!(name, "sourceName" | "sourceVersion" | "type") && !name.to_ascii_lowercase().ends_with("unit")
}

/// Text of a number in one form, so that equal numbers become equal text. Other text stays as it is.
fn normalize_number(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(number) if json_text::is_finite_number(text) => number.to_string(),
        _ => text.to_owned(),
    }
}
