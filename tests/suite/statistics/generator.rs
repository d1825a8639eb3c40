//! Makes events and questions at random, with a preference for what is hard.

use chrono_tz::{TZ_VARIANTS, Tz};
use serde_json::{Map, Value, json};

use super::oracle::Zone;
use crate::simulator::rng::Rng;

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;

/// Zones with a skipped date, a repeated date, changes at midnight, and offsets that are no whole hours.
const HARD_ZONES: [&str; 16] = [
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Asia/Calcutta",
    "Europe/Amsterdam",
    "Africa/Monrovia",
    "America/Havana",
    "Asia/Gaza",
    "Pacific/Kiritimati",
    "Antarctica/Troll",
    "Europe/London",
    "America/New_York",
];

#[derive(Debug, Clone)]
pub struct Event {
    pub id: String,
    pub kind: String,
    pub timestamp: i64,
    pub end: Option<i64>,
    pub is_all_day: bool,
    pub source: String,
    pub properties: Value,
    pub is_deleted: bool,
}

impl Event {
    pub fn input(&self) -> Value {
        let text = |ms: i64| chrono::DateTime::from_timestamp_millis(ms).unwrap().to_rfc3339();
        json!({
            "id": self.id, "eventTypeId": self.kind, "timestamp": text(self.timestamp), "endDate": self.end.map(text),
            "isAllDay": self.is_all_day, "sourceType": self.source, "properties": self.properties,
        })
    }
}

#[derive(Debug, Clone)]
pub struct Question {
    pub zone: Tz,
    pub granularity: Option<&'static str>,
    pub day_start: i64,
    pub week_start: i64,
    pub groups: Vec<&'static str>,
    /// Properties and the properties of their units.
    pub measures: Vec<(String, String)>,
    pub fill: bool,
    pub prefer: Option<Vec<String>>,
    pub source_property: Option<String>,
    pub kinds: Option<Vec<String>>,
    pub sources: Option<Vec<String>>,
    pub from: Option<i64>,
    pub to: Option<i64>,
}

impl Question {
    pub fn lets_through(&self, event: &Event) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&event.kind))
            && self.sources.as_ref().is_none_or(|sources| sources.contains(&event.source))
    }

    pub fn is_empty_range(&self) -> bool {
        matches!((self.from, self.to), (Some(from), Some(to)) if from >= to)
    }

    pub fn input(&self) -> Value {
        const WEEKDAYS: [&str; 7] =
            ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"];
        let text = |ms: i64| chrono::DateTime::from_timestamp_millis(ms).unwrap().to_rfc3339();
        let mut filter = Map::new();
        let mut set =
            |name: &str, value: Option<Value>| drop(value.map(|value| filter.insert(name.to_owned(), value)));
        set("eventTypeIds", self.kinds.as_ref().map(|kinds| json!(kinds)));
        set("sourceTypes", self.sources.as_ref().map(|sources| json!(sources)));
        set("from", self.from.map(|from| json!(text(from))));
        set("to", self.to.map(|to| json!(text(to))));
        let measures = self.measures.iter().map(|(property, unit)| match unit.as_str() {
            "unit" => json!({ "property": property }),
            unit => json!({ "property": property, "unitProperty": unit }),
        });
        let measures: Vec<Value> = measures.collect();
        json!({
            "filter": filter,
            "timeZone": self.zone.name(),
            "granularity": self.granularity,
            "dayStartMinutes": self.day_start,
            "weekStart": WEEKDAYS[usize::try_from(self.week_start).unwrap()],
            "groupBy": (!self.groups.is_empty()).then_some(&self.groups),
            "measures": (!measures.is_empty()).then_some(measures),
            "fill": self.fill,
            "preferSources": self.prefer,
            "sourceProperty": self.source_property,
        })
    }
}

fn zone(rng: &mut Rng) -> Tz {
    if rng.chance(50) {
        rng.pick(&HARD_ZONES).unwrap().parse().unwrap()
    } else {
        TZ_VARIANTS[rng.below(TZ_VARIANTS.len())]
    }
}

/// An instant of the years 1900 to 2099, often one at which the clock changes.
fn anchor(rng: &mut Rng, tz: Tz) -> i64 {
    let hours = i64::try_from(rng.below(1_753_000)).unwrap();
    let mut at = -2_208_988_800 + hours * 3600;
    if rng.chance(15) {
        return *rng.pick(&[-2_208_988_800_000, 4_102_444_799_000, 1_325_239_200_000, 0]).unwrap();
    }
    if rng.chance(75) {
        let clock = Zone::new(tz, 0);
        let differs = |at: i64| clock.local(at + 3600) - clock.local(at) != 3600;
        for _ in 0..9_000 {
            if differs(at) {
                at = (at..at + 3600).find(|at| clock.local(at + 1) - clock.local(*at) != 1).unwrap() + 1;
                break;
            }
            at += 3600;
        }
    }
    at * 1000
}

/// How far events lie around the anchor.
fn spread(granularity: Option<&str>) -> i64 {
    match granularity {
        Some("HOUR") => 2 * DAY_MS,
        Some("DAY") | None => 6 * DAY_MS,
        Some("WEEK") => 40 * DAY_MS,
        Some("MONTH") => 200 * DAY_MS,
        Some("QUARTER") => 700 * DAY_MS,
        _ => 4_000 * DAY_MS,
    }
}

fn instant(rng: &mut Rng, anchor: i64, spread: i64) -> i64 {
    let width = usize::try_from(2 * spread).unwrap();
    let at = anchor - spread + i64::try_from(rng.below(width)).unwrap();
    match rng.below(6) {
        0 => at.div_euclid(HOUR_MS) * HOUR_MS,
        1 => at.div_euclid(HOUR_MS / 2) * HOUR_MS / 2 - 1,
        2 => anchor + [-1, 0, 1, 60_000, -60_000, HOUR_MS, -HOUR_MS][rng.below(7)],
        3 => at.div_euclid(DAY_MS) * DAY_MS,
        _ => at,
    }
}

fn number(rng: &mut Rng) -> Value {
    match rng.below(14) {
        0..6 => json!(i64::try_from(rng.below(20_000)).unwrap() - 5_000),
        6..9 => json!(rng.below(1_000_000) as f64 / 997.0 - 300.0),
        9 => json!([1e-12, -3e-300, 9.5e15, 1.7e308, -1.7e308, 4_503_599_627_370_497.5, -0.0][rng.below(7)]),
        10 => json!("12"),
        11 => json!({ "value": 1 }),
        12 => json!(null),
        _ => json!(true),
    }
}

fn unit(rng: &mut Rng) -> Value {
    match rng.below(8) {
        0 => json!(7),
        1 => json!(""),
        2 => json!("é".repeat(64)),
        3 => json!("é".repeat(65)),
        _ => json!(["kg", "lb", "steps"][rng.below(3)]),
    }
}

fn properties(rng: &mut Rng) -> Value {
    let mut properties = Map::new();
    for (key, unit_key) in [("value", "unit"), ("x", "u"), ("__proto__", "unit")] {
        if rng.chance(70) {
            properties.insert(key.to_owned(), number(rng));
        }
        if rng.chance(60) {
            properties.insert(unit_key.to_owned(), unit(rng));
        }
    }
    if rng.chance(70) {
        let name = [json!("phone"), json!("watch"), json!(3), json!("ring \"1\"")];
        properties.insert("sourceName".to_owned(), name[rng.below(4)].clone());
    }
    Value::Object(properties)
}

/// A zone, a granularity, and events around one instant.
pub fn events(
    rng: &mut Rng,
    kinds: &[String],
    new_id: impl Fn() -> String,
) -> (Tz, Option<&'static str>, i64, Vec<Event>) {
    let tz = zone(rng);
    let granularity = *rng
        .pick(&[
            None,
            Some("HOUR"),
            Some("DAY"),
            Some("DAY"),
            Some("WEEK"),
            Some("MONTH"),
            Some("QUARTER"),
            Some("YEAR"),
        ])
        .unwrap();
    let (anchor, spread) = (anchor(rng, tz), spread(granularity));
    let count = rng.below(40);
    let events = (0..count).map(|_| {
        let is_all_day = rng.chance(25);
        let at = instant(rng, anchor, spread);
        let timestamp = if is_all_day { at.div_euclid(DAY_MS) * DAY_MS } else { at };
        let length = i64::try_from(rng.below(10_000_000)).unwrap();
        let end = rng.chance(40).then_some(timestamp + if is_all_day { DAY_MS } else { length });
        Event {
            id: new_id(),
            kind: rng.pick(kinds).unwrap().clone(),
            timestamp,
            end,
            is_all_day,
            source: (*rng.pick(&["phone", "watch", "manual", "ring"]).unwrap()).to_owned(),
            properties: properties(rng),
            is_deleted: rng.chance(5),
        }
    });
    (tz, granularity, anchor, events.collect())
}

/// A question about events around an instant.
pub fn question(
    rng: &mut Rng,
    zone: Tz,
    granularity: Option<&'static str>,
    anchor: i64,
    kinds: &[String],
) -> Question {
    let spread = spread(granularity);
    let end = |rng: &mut Rng| rng.chance(50).then(|| instant(rng, anchor, spread + spread / 4));
    let mut groups = Vec::new();
    let mut all = vec!["EVENT_TYPE", "SOURCE_TYPE", "WEEKDAY", "HOUR_OF_DAY"];
    for _ in 0..[0, 0, 1, 1, 2][rng.below(5)] {
        groups.extend(rng.take(&mut all));
    }
    let mut measures = Vec::new();
    if rng.chance(40) {
        measures.push(("value".to_owned(), "unit".to_owned()));
    } else if rng.chance(30) {
        let mut pairs = vec![("value", "u"), ("x", "u"), ("__proto__", "unit"), ("missing", "unit")];
        for _ in 0..1 + rng.below(3) {
            measures.extend(rng.take(&mut pairs).map(|(key, unit)| (key.to_owned(), unit.to_owned())));
        }
    }
    let prefer = rng.chance(40).then(|| {
        let mut sources = vec!["phone", "watch", "ring", "ring \"1\"", "nobody"];
        (0..1 + rng.below(3)).filter_map(|_| rng.take(&mut sources)).map(str::to_owned).collect()
    });
    Question {
        zone,
        granularity,
        day_start: if rng.chance(50) { 0 } else { i64::try_from(rng.below(1_440)).unwrap() },
        week_start: i64::try_from(rng.below(7)).unwrap(),
        groups,
        measures,
        fill: rng.chance(40),
        source_property: rng.chance(40).then(|| "sourceName".to_owned()),
        prefer,
        kinds: rng.chance(40).then(|| kinds.iter().take(1 + rng.below(kinds.len())).cloned().collect()),
        sources: rng.chance(10).then(|| vec!["phone".to_owned(), "manual".to_owned()]),
        from: end(rng),
        to: end(rng),
    }
}
