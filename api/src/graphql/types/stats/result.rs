//! The result of `eventStats`: buckets with what their events add up to.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, SimpleObject};
use domain::stats::calendar::format_date;
use domain::stats::table::{GroupValue, Row, StatsResult, Totals};
use domain::stats::{SelectedFields, StatsQuery};
use service::queries::stats::Statistics;
use uuid::Uuid;

use super::Weekday;
use crate::graphql::json_writer::{
    JsonList, JsonText, SelectedField, WriteField, WriteJson, infallible_field_writer,
};
use crate::graphql::scalar::{Cursor, DateTime, Long};

/// Numbers from events.
#[derive(Debug, Clone, SimpleObject)]
pub struct EventStats {
    /// The buckets, by their start and then by the groups as listed: ids and texts by their bytes, weekdays from
    /// Monday, hours upwards, null first.
    buckets: JsonList<StatsBucket>,
    /// The events of all buckets together.
    total: StatsBucket,
    /// The feed position that this is true for.
    as_of: Cursor,
}

/// What the events of one bucket, and of one value of each group, add up to.
#[derive(Debug, Clone)]
pub struct StatsBucket {
    query: Arc<StatsQuery>,
    ends: (Option<i64>, Option<i64>),
    row: Row,
}

/// What the numbers of one measure and one unit add up to.
#[derive(Debug, Clone, SimpleObject)]
pub struct StatsMeasured {
    /// The key of the numbers in `properties`.
    property: String,
    /// The unit; null if there is none.
    unit: Option<String>,
    /// How many numbers there are.
    count: Long,
    /// Their sum. Of integers it is exact, as long as the sum of their absolute values is at most 2^53.
    sum: f64,
    /// Their average.
    average: f64,
    /// The smallest of them.
    minimum: f64,
    /// The largest of them.
    maximum: f64,
}

impl EventStats {
    /// What the client has selected of the buckets and the total.
    pub(crate) fn selected_fields(context: &Context<'_>) -> SelectedFields {
        let selects = |name: &str| {
            ["buckets", "total"].iter().any(|part| context.look_ahead().field(part).field(name).exists())
        };
        let measures = |name: &str| {
            let part = |part: &str| context.look_ahead().field(part).field("measures").field(name).exists();
            part("buckets") || part("total")
        };
        SelectedFields {
            durations: selects("durationSeconds"),
            sums: measures("sum") || measures("average"),
            extremes: measures("minimum") || measures("maximum"),
        }
    }

    /// Converts a result for a response. `ends` are `from` and `to` of the filter.
    pub(crate) fn new(
        query: &Arc<StatsQuery>,
        ends: (Option<i64>, Option<i64>),
        statistics: Statistics,
        user_id: Uuid,
    ) -> Self {
        let bucket = |row| StatsBucket { query: Arc::clone(query), ends, row };
        let Statistics { result: StatsResult { rows, total }, as_of } = statistics;
        Self {
            buckets: JsonList(rows.into_iter().map(bucket).collect()),
            total: bucket(Row { bucket: None, groups: Vec::new(), totals: total }),
            as_of: Cursor(as_of.encode(user_id)),
        }
    }

    /// How many objects the response has: buckets, and measures in them.
    pub(crate) fn count_rows(&self) -> usize {
        let rows = self.buckets.0.iter().chain([&self.total]);
        rows.map(|bucket| 1 + bucket.row.totals.sums.len()).sum()
    }
}

impl StatsBucket {
    fn totals(&self) -> &Totals {
        &self.row.totals
    }

    fn first_ms(&self) -> Option<i64> {
        self.row.bucket.map(|bucket| bucket.start).or(self.ends.0)
    }

    fn end_ms(&self) -> Option<i64> {
        self.row.bucket.map(|bucket| bucket.end).or(self.ends.1)
    }

    fn first_date(&self) -> Option<String> {
        self.row.bucket.map(|bucket| format_date(bucket.date))
    }

    fn group_type(&self) -> Option<Uuid> {
        self.row.groups.iter().find_map(|group| match group {
            GroupValue::EventType(id) => Some(*id),
            _ => None,
        })
    }

    fn group_source(&self) -> Option<&str> {
        self.row.groups.iter().find_map(|group| match group {
            GroupValue::SourceType(source) => Some(&**source),
            _ => None,
        })
    }

    fn group_weekday(&self) -> Option<Weekday> {
        self.row.groups.iter().find_map(|group| match group {
            GroupValue::Weekday(number) => Weekday::from_number(*number),
            _ => None,
        })
    }

    fn group_hour(&self) -> Option<u8> {
        self.row.groups.iter().find_map(|group| match group {
            GroupValue::HourOfDay(hour) => *hour,
            _ => None,
        })
    }

    fn event_count(&self) -> i64 {
        i64::try_from(self.totals().count).unwrap_or(i64::MAX)
    }

    fn seconds(&self) -> f64 {
        self.totals().duration_ms as f64 / 1000.0
    }

    fn measured(&self) -> impl Iterator<Item = StatsMeasured> {
        self.totals().sums.iter().map(|((measure, unit), sum)| StatsMeasured {
            property: self.query.measures[*measure].property.clone(),
            unit: unit.as_deref().map(str::to_owned),
            count: Long(i64::try_from(sum.count()).unwrap_or(i64::MAX)),
            sum: sum.total(),
            average: sum.average(),
            minimum: sum.minimum(),
            maximum: sum.maximum(),
        })
    }
}

/// What the events of one bucket, and of one value of each group, add up to.
#[Object]
impl StatsBucket {
    /// The first instant. Without granularity, and in `total`, it is `filter.from`, or null.
    async fn start(&self) -> Option<DateTime> {
        self.first_ms().map(DateTime::At)
    }

    /// The first instant after it. Without granularity, and in `total`, it is `filter.to`, or null.
    async fn end(&self) -> Option<DateTime> {
        self.end_ms().map(DateTime::At)
    }

    /// The date of its first local day, as `YYYY-MM-DD`; null without granularity, and in `total`. Of an hour it is the
    /// date of the local day in which it lies.
    async fn local_date(&self) -> Option<String> {
        self.first_date()
    }

    /// The type, if the events are grouped by it; otherwise null.
    async fn event_type_id(&self) -> Option<ID> {
        self.group_type().map(ID::from)
    }

    /// The source, if the events are grouped by it; otherwise null.
    async fn source_type(&self) -> Option<&str> {
        self.group_source()
    }

    /// The weekday, if the events are grouped by it; otherwise null.
    async fn weekday(&self) -> Option<Weekday> {
        self.group_weekday()
    }

    /// The hour of the clock, 0 to 23, if the events are grouped by it and are not all-day events; otherwise null.
    async fn hour_of_day(&self) -> Option<u8> {
        self.group_hour()
    }

    /// How many events there are.
    async fn count(&self) -> Long {
        Long(self.event_count())
    }

    /// How long the events that have an end last, in seconds. An event counts where it begins, and an all-day event
    /// counts 0.
    async fn duration_seconds(&self) -> f64 {
        self.seconds()
    }

    /// One entry for each measure and unit that occurs, measures as listed and units by their bytes, no unit first.
    async fn measures(&self) -> Vec<StatsMeasured> {
        self.measured().collect()
    }
}

impl WriteJson for StatsBucket {
    fn field_writer(field: SelectedField<'_>) -> Option<WriteField<Self>> {
        match field.schema_field_name() {
            "start" => infallible_field_writer(|bucket: &Self, text| {
                text.push_or_null(bucket.first_ms(), JsonText::push_instant)
            }),
            "end" => infallible_field_writer(|bucket: &Self, text| {
                text.push_or_null(bucket.end_ms(), JsonText::push_instant)
            }),
            "localDate" => infallible_field_writer(|bucket: &Self, text| {
                text.push_or_null(bucket.first_date().as_deref(), JsonText::push_string)
            }),
            "eventTypeId" => infallible_field_writer(|bucket: &Self, text| {
                text.push_or_null(bucket.group_type(), JsonText::push_uuid)
            }),
            "sourceType" => infallible_field_writer(|bucket: &Self, text| {
                text.push_or_null(bucket.group_source(), JsonText::push_string)
            }),
            "weekday" => infallible_field_writer(|bucket: &Self, text| {
                text.push_or_null(bucket.group_weekday(), JsonText::push_enum_name)
            }),
            "hourOfDay" => {
                infallible_field_writer(|bucket: &Self, text| text.push_serialized(&bucket.group_hour()))
            }
            "count" => {
                infallible_field_writer(|bucket: &Self, text| text.push_serialized(&bucket.event_count()))
            }
            "durationSeconds" => {
                infallible_field_writer(|bucket: &Self, text| text.push_serialized(&bucket.seconds()))
            }
            "measures" => {
                let plan = field.compile_object_plan::<StatsMeasured>()?;
                Some(Box::new(move |bucket, text| {
                    text.push_raw_json("[");
                    for (index, measured) in bucket.measured().enumerate() {
                        if index > 0 {
                            text.push_raw_json(",");
                        }
                        if !plan.write_row(&measured, text) {
                            return false;
                        }
                    }
                    text.push_raw_json("]");
                    true
                }))
            }
            _ => None,
        }
    }
}

impl WriteJson for StatsMeasured {
    fn field_writer(field: SelectedField<'_>) -> Option<WriteField<Self>> {
        match field.schema_field_name() {
            "property" => {
                infallible_field_writer(|measured: &Self, text| text.push_string(&measured.property))
            }
            "unit" => infallible_field_writer(|measured: &Self, text| {
                text.push_or_null(measured.unit.as_deref(), JsonText::push_string)
            }),
            "count" => {
                infallible_field_writer(|measured: &Self, text| text.push_serialized(&measured.count.0))
            }
            "sum" => infallible_field_writer(|measured: &Self, text| text.push_serialized(&measured.sum)),
            "average" => {
                infallible_field_writer(|measured: &Self, text| text.push_serialized(&measured.average))
            }
            "minimum" => {
                infallible_field_writer(|measured: &Self, text| text.push_serialized(&measured.minimum))
            }
            "maximum" => {
                infallible_field_writer(|measured: &Self, text| text.push_serialized(&measured.maximum))
            }
            _ => None,
        }
    }
}
