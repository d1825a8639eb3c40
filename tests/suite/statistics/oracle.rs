//! The oracle: answers a question by the rules, one event and one second at a time.
//!
//! It knows the zone only by its offset from UTC at an instant. It shares no code with the server.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeZone};
use chrono_tz::Tz;
use serde_json::{Value, json};

use super::generator::{Event, Question};

const DAY: i64 = 86_400;
const YEARS: std::ops::Range<i64> = -2_208_988_800..4_102_444_800;

/// A zone whose days are found by trying one time after another. All times are in seconds.
pub struct Zone {
    tz: Tz,
    day_start: i64,
    days: HashMap<i64, Option<i64>>,
}

impl Zone {
    pub fn new(tz: Tz, day_start_minutes: i64) -> Self {
        Self { tz, day_start: day_start_minutes * 60, days: HashMap::new() }
    }

    pub fn local(&self, at: i64) -> i64 {
        let utc = DateTime::from_timestamp(at, 0).unwrap().naive_utc();
        at + i64::from(self.tz.offset_from_utc_datetime(&utc).fix().local_minus_utc())
    }

    /// When the day of a date begins. `None` if no instant has the date.
    pub fn start_of(&mut self, date: i64) -> Option<i64> {
        if let Some(known) = self.days.get(&date) {
            return *known;
        }
        let exists = (date * DAY - 18 * 3600..date * DAY + 42 * 3600)
            .step_by(60)
            .any(|at| self.local(at).div_euclid(DAY) == date);
        let start = exists.then(|| self.first_instant(date * DAY + self.day_start));
        self.days.insert(date, start);
        start
    }

    /// The first instant at which the clock shows this time or a later one.
    fn first_instant(&self, local: i64) -> i64 {
        let mut at = local - 27 * 3600;
        while self.local(at) < local {
            // A clock that is not set forward cannot arrive earlier.
            let rest = local - self.local(at);
            let next = at + if rest > 30 * 3600 { 3600 } else { (rest / 2).clamp(1, 30) };
            if self.local(next) >= local && next > at + 1 {
                return (at + 1..=next).find(|at| self.local(*at) >= local).unwrap();
            }
            at = next;
        }
        at
    }

    fn next_existing(&mut self, date: i64) -> i64 {
        (date..).find(|date| self.start_of(*date).is_some()).unwrap()
    }

    /// The date of the day in which an instant lies.
    pub fn day_of(&mut self, at: i64) -> i64 {
        let about = self.local(at).div_euclid(DAY);
        let mut dates = (about - 3..=about + 2).rev();
        dates.find(|date| self.start_of(*date).is_some_and(|start| start <= at)).unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    pub start: i64,
    pub end: i64,
    pub date: i64,
}

fn ymd(date: i64) -> (i32, u32) {
    let date = DateTime::from_timestamp(date * DAY, 0).unwrap().date_naive();
    (date.year(), date.month())
}

fn first(year: i32, month: u32) -> i64 {
    NaiveDate::from_ymd_opt(year, month, 1).unwrap().signed_duration_since(NaiveDate::default()).num_days()
}

/// The bucket of an instant.
pub fn bucket_of(zone: &mut Zone, at: i64, granularity: &str, week_start: i64) -> Bucket {
    let date = zone.day_of(at);
    let (year, month) = ymd(date);
    let (from, to) = match granularity {
        "HOUR" => {
            let is_start =
                |at: i64| zone.local(at).rem_euclid(3600) == 0 || zone.local(at) - zone.local(at - 1) != 1;
            let start = (at - 3600..=at).rev().find(|at| is_start(*at)).unwrap();
            let end = (start + 1..).find(|at| is_start(*at)).unwrap();
            return Bucket { start, end, date };
        }
        "DAY" => (date, date + 1),
        "WEEK" => {
            let monday = 4; // 1970-01-05
            let week = (date - monday - week_start).div_euclid(7) * 7 + monday + week_start;
            (week, week + 7)
        }
        "MONTH" => {
            (first(year, month), if month == 12 { first(year + 1, 1) } else { first(year, month + 1) })
        }
        "QUARTER" => {
            let quarter = month - (month - 1) % 3;
            let next = if quarter == 10 { first(year + 1, 1) } else { first(year, quarter + 3) };
            (first(year, quarter), next)
        }
        _ => (first(year, 1), first(year + 1, 1)),
    };
    let (date, next) = (zone.next_existing(from), zone.next_existing(to));
    Bucket { start: zone.start_of(date).unwrap(), end: zone.start_of(next).unwrap(), date }
}

fn date_text(date: i64) -> String {
    DateTime::from_timestamp(date * DAY, 0).unwrap().format("%Y-%m-%d").to_string()
}

const WEEKDAYS: [&str; 7] = ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"];

/// Where the value of a group stands in the order.
type GroupKey = (u8, i64, String);
/// The names and values of the groups of a row.
type Groups = Vec<(String, Value)>;
type Rows = BTreeMap<(Option<Bucket>, Vec<GroupKey>), (Groups, Totals)>;

#[derive(Debug, Default, Clone)]
pub struct Totals {
    pub count: i64,
    pub duration_ms: i64,
    /// By measure and unit: the numbers.
    pub numbers: BTreeMap<(usize, Option<String>), Vec<f64>>,
}

#[derive(Debug, Clone)]
pub struct Row {
    pub start: Option<i64>,
    pub end: Option<i64>,
    pub date: Option<String>,
    pub groups: Groups,
    pub totals: Totals,
}

pub struct Answer {
    pub rows: Vec<Row>,
    pub total: Totals,
}

struct Counted<'e> {
    event: &'e Event,
    bucket: Option<Bucket>,
    date: i64,
    hour: Option<i64>,
}

/// Answers a question. `Err` is the name of the limit that it exceeds.
pub fn answer(question: &Question, events: &[Event]) -> Result<Answer, &'static str> {
    let is_hour = question.granularity == Some("HOUR");
    let mut zone = Zone::new(question.zone, if is_hour { 0 } else { question.day_start });
    let mut counted = Vec::new();
    for event in events.iter().filter(|event| !event.is_deleted && question.lets_through(event)) {
        if !YEARS.contains(&event.timestamp.div_euclid(1000)) {
            continue;
        }
        let at_ms = if event.is_all_day {
            let date = zone.next_existing(event.timestamp.div_euclid(DAY * 1000));
            zone.start_of(date).unwrap() * 1000
        } else {
            event.timestamp
        };
        let is_in = question.from.is_none_or(|from| at_ms >= from) && question.to.is_none_or(|to| at_ms < to);
        if !is_in {
            continue;
        }
        let at = at_ms.div_euclid(1000);
        let bucket = question.granularity.map(|name| bucket_of(&mut zone, at, name, question.week_start));
        let hour = (!event.is_all_day).then(|| zone.local(at).rem_euclid(DAY) / 3600);
        counted.push(Counted { event, bucket, date: zone.day_of(at), hour });
    }
    if let Some(preferred) = &question.prefer {
        let rank = |event: &Event| {
            let source = match &question.source_property {
                None => Some(event.source.as_str()),
                Some(key) => event.properties[key].as_str(),
            };
            preferred.iter().position(|name| Some(name.as_str()) == source).unwrap_or(usize::MAX)
        };
        let mut best: HashMap<(String, i64), usize> = HashMap::new();
        for one in &counted {
            let best = best.entry((one.event.kind.clone(), one.date)).or_insert(usize::MAX);
            *best = (*best).min(rank(one.event));
        }
        counted.retain(|one| best[&(one.event.kind.clone(), one.date)] == rank(one.event));
    }
    let mut rows = Rows::new();
    let mut total = Totals::default();
    for one in &counted {
        let (key, groups) = groups_of(question, one);
        let (_, totals) = rows.entry((one.bucket, key)).or_insert((groups, Totals::default()));
        add(totals, question, one.event);
        add(&mut total, question, one.event);
    }
    let buckets =
        buckets_to_show(&mut zone, question, rows.keys().filter_map(|(bucket, _)| *bucket).collect())?;
    if question.fill {
        let combinations: BTreeMap<Vec<GroupKey>, Groups> = match question.groups.is_empty() {
            true => BTreeMap::from([(Vec::new(), Vec::new())]),
            false => rows.iter().map(|((_, key), (groups, _))| (key.clone(), groups.clone())).collect(),
        };
        let all: Vec<Option<Bucket>> = match question.granularity {
            Some(_) => buckets.into_iter().map(Some).collect(),
            None if question.groups.is_empty() && !question.is_empty_range() => vec![None],
            None => Vec::new(),
        };
        for bucket in all {
            for (key, groups) in &combinations {
                rows.entry((bucket, key.clone())).or_insert_with(|| (groups.clone(), Totals::default()));
            }
        }
    }
    let rows = rows.into_iter().map(|((bucket, _), (groups, totals))| Row {
        start: bucket.map(|bucket| bucket.start * 1000).or(question.from),
        end: bucket.map(|bucket| bucket.end * 1000).or(question.to),
        date: bucket.map(|bucket| date_text(bucket.date)),
        groups,
        totals,
    });
    Ok(Answer { rows: rows.collect(), total })
}

fn groups_of(question: &Question, one: &Counted<'_>) -> (Vec<GroupKey>, Groups) {
    let groups = question.groups.iter().map(|group| match *group {
        "EVENT_TYPE" => ((1, 0, one.event.kind.clone()), ("eventTypeId".to_owned(), json!(one.event.kind))),
        "SOURCE_TYPE" => {
            ((1, 0, one.event.source.clone()), ("sourceType".to_owned(), json!(one.event.source)))
        }
        "WEEKDAY" => {
            let number = (one.date + 3).rem_euclid(7);
            let name = WEEKDAYS[usize::try_from(number).unwrap()];
            ((1, number, String::new()), ("weekday".to_owned(), json!(name)))
        }
        _ => {
            let order = one.hour.map_or((0, 0), |hour| (1, hour));
            ((order.0, order.1, String::new()), ("hourOfDay".to_owned(), json!(one.hour)))
        }
    });
    groups.unzip()
}

fn add(totals: &mut Totals, question: &Question, event: &Event) {
    totals.count += 1;
    if let (Some(end), false) = (event.end, event.is_all_day) {
        totals.duration_ms += end - event.timestamp;
    }
    for (index, (property, unit)) in question.measures.iter().enumerate() {
        let Some(number) = event.properties[property].as_f64() else { continue };
        let unit = event.properties[unit].as_str().filter(|unit| unit.chars().count() <= 64);
        totals.numbers.entry((index, unit.map(str::to_owned))).or_default().push(number);
    }
}

/// All buckets from the first to the last one that the answer shows.
fn buckets_to_show(
    zone: &mut Zone,
    question: &Question,
    with_events: BTreeSet<Bucket>,
) -> Result<Vec<Bucket>, &'static str> {
    let Some(granularity) = question.granularity else { return Ok(Vec::new()) };
    let clamp = |ms: i64| ms.div_euclid(1000).clamp(YEARS.start, YEARS.end);
    let (mut from, mut to) = (with_events.first().map(|b| b.start), with_events.last().map(|b| b.start));
    if question.fill {
        let is_open = question.from.is_none() || question.to.is_none();
        if let (Some(from), Some(to)) = (question.from, question.to)
            && clamp(from) == clamp(to)
            && !YEARS.contains(&from.div_euclid(1000))
        {
            return Ok(Vec::new());
        }
        if question.is_empty_range() || (is_open && with_events.is_empty()) {
            return Ok(Vec::new());
        }
        from = question.from.map(clamp).or(from);
        // The last millisecond before `to`.
        to = question.to.map(|to| clamp(to - 1).min(YEARS.end - 1)).or(to);
    }
    let (Some(from), Some(to)) = (from, to) else { return Ok(Vec::new()) };
    if from > to {
        return Ok(Vec::new());
    }
    let seconds = match granularity {
        "HOUR" => 3600,
        "DAY" => DAY,
        "WEEK" => 7 * DAY,
        "MONTH" => 31 * DAY,
        "QUARTER" => 92 * DAY,
        _ => 366 * DAY,
    };
    // Far too many: they need not be listed.
    if (to - from) / seconds > 5_050 {
        return Err("stats buckets");
    }
    let mut buckets = vec![bucket_of(zone, from, granularity, question.week_start)];
    while buckets.last().unwrap().end <= to {
        let next = buckets.last().unwrap().end;
        buckets.push(bucket_of(zone, next, granularity, question.week_start));
    }
    if buckets.len() > 5_000 { Err("stats buckets") } else { Ok(buckets) }
}
