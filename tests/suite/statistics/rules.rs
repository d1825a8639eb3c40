//! Tests the rules of statistics one by one, with the examples of the guide.

use serde_json::{Value, json};

use super::ask;
use crate::harness::{Client, TestServer, new_id, on_both};

on_both!(
    days_are_as_long_as_the_clock_makes_them,
    a_change_of_the_clock_begins_an_hour,
    a_date_that_was_skipped_has_no_bucket,
    the_preferred_source_counts_on_each_day,
    a_type_without_a_preferred_source_counts,
    an_all_day_event_belongs_to_its_date_in_every_zone,
    columns_follow_the_properties,
    the_answer_tells_its_feed_position,
    a_filter_selects_what_counts,
    a_question_costs_a_point_for_each_ten_thousand_events,
    answers_are_right_while_the_columns_are_filled,
);

fn event(kind: &str, timestamp: &str, properties: Value) -> Value {
    json!({ "id": new_id(), "eventTypeId": kind, "timestamp": timestamp, "properties": properties })
}

/// The parts of buckets, with `null` for what they do not have.
fn parts(answer: &Value, names: &[&str]) -> Vec<Vec<Value>> {
    let buckets = answer["buckets"].as_array().unwrap().iter();
    buckets.map(|bucket| names.iter().map(|name| bucket[*name].clone()).collect()).collect()
}

async fn days_are_as_long_as_the_clock_makes_them(server: &TestServer) {
    let client = server.client("ann");
    // On 29 October 2006 clocks in St John's were set back at 00:01, to 23:01 of the day before.
    let answer = ask(
        &client,
        json!({
            "timeZone": "America/St_Johns", "granularity": "DAY", "fill": true,
            "filter": { "from": "2006-10-28T12:00:00Z", "to": "2006-10-30T12:00:00Z" },
        }),
    )
    .await;
    let expected = [
        ["2006-10-28", "2006-10-28T02:30:00.000Z", "2006-10-29T02:30:00.000Z"],
        ["2006-10-29", "2006-10-29T02:30:00.000Z", "2006-10-30T03:30:00.000Z"],
        ["2006-10-30", "2006-10-30T03:30:00.000Z", "2006-10-31T03:30:00.000Z"],
    ];
    assert_eq!(json!(parts(&answer, &["localDate", "start", "end"])), json!(expected));
}

async fn a_change_of_the_clock_begins_an_hour(server: &TestServer) {
    let client = server.client("ann");
    let hours = async |time_zone: &str, from: &str, to: &str| {
        let question = json!({
            "timeZone": time_zone, "granularity": "HOUR", "fill": true, "dayStartMinutes": 700,
            "filter": { "from": from, "to": to },
        });
        json!(parts(&ask(&client, question).await, &["localDate", "start", "end"]))
    };
    // On 5 April 2026 clocks on Lord Howe Island are set back by half an hour at 02:00.
    let expected = [
        ["2026-04-05", "2026-04-04T14:00:00.000Z", "2026-04-04T15:00:00.000Z"],
        ["2026-04-05", "2026-04-04T15:00:00.000Z", "2026-04-04T15:30:00.000Z"],
        ["2026-04-05", "2026-04-04T15:30:00.000Z", "2026-04-04T16:30:00.000Z"],
    ];
    let found = hours("Australia/Lord_Howe", "2026-04-04T14:00:00Z", "2026-04-04T15:45:00Z").await;
    assert_eq!(found, json!(expected));
    // On 29 October 2006 clocks in St John's were set back at 00:01, to 23:01 of the day before.
    let expected = [
        ["2006-10-29", "2006-10-29T02:30:00.000Z", "2006-10-29T02:31:00.000Z"],
        ["2006-10-29", "2006-10-29T02:31:00.000Z", "2006-10-29T03:30:00.000Z"],
        ["2006-10-29", "2006-10-29T03:30:00.000Z", "2006-10-29T04:30:00.000Z"],
    ];
    let found = hours("America/St_Johns", "2006-10-29T02:30:00Z", "2006-10-29T03:45:00Z").await;
    assert_eq!(found, json!(expected));
}

async fn a_date_that_was_skipped_has_no_bucket(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let mut skipped = event(&kind, "2011-12-30T00:00:00Z", json!({}));
    skipped["isAllDay"] = json!(true);
    client.create(&[skipped]).await;
    for day_start in [0, 600] {
        let question = json!({
            "timeZone": "Pacific/Apia", "granularity": "DAY", "fill": true, "dayStartMinutes": day_start,
            "filter": { "from": "2011-12-30T00:00:00Z", "to": "2012-01-01T00:00:00Z" },
        });
        let answer = ask(&client, question).await;
        let expected = json!([["2011-12-29", 0], ["2011-12-31", 1]]);
        let days = parts(&answer, &["localDate", "count"]);
        assert_eq!(json!(days[..2]), expected, "day start {day_start}");
        assert_eq!(answer["buckets"][0]["end"], answer["buckets"][1]["start"]);
    }
}

/// A phone counts on 364 days, a watch on these and on one more.
async fn store_steps_of_a_year(client: &Client) -> String {
    let kind = client.event_type("steps").await;
    let mut events = Vec::new();
    for day in 0..365 {
        let at = chrono::DateTime::from_timestamp(1_735_732_800 + day * 86_400, 0).unwrap().to_rfc3339();
        for source in ["phone", "watch"] {
            if source == "watch" || day != 100 {
                events.push(event(
                    &kind,
                    &at,
                    json!({ "value": 8000, "unit": "steps", "sourceName": source }),
                ));
            }
        }
    }
    for part in events.chunks(500) {
        client.create(part).await;
    }
    kind
}

async fn the_preferred_source_counts_on_each_day(server: &TestServer) {
    let client = server.client("ann");
    store_steps_of_a_year(&client).await;
    for sources in [["watch", "phone"], ["phone", "watch"]] {
        let answer = ask(
            &client,
            json!({
                "timeZone": "Europe/Berlin", "granularity": "YEAR", "measures": [{ "property": "value" }],
                "preferSources": sources, "sourceProperty": "sourceName",
            }),
        )
        .await;
        assert_eq!(answer["buckets"].as_array().unwrap().len(), 1);
        let expected = json!({
            "property": "value", "unit": "steps", "count": 365, "sum": 8000.0 * 365.0, "average": 8000.0,
            "minimum": 8000.0, "maximum": 8000.0,
        });
        assert_eq!(answer["buckets"][0]["measures"][0], expected);
        assert_eq!(answer["total"]["measures"][0], expected);
    }
}

async fn a_type_without_a_preferred_source_counts(server: &TestServer) {
    let client = server.client("ann");
    let (steps, coffee) = (client.event_type("steps").await, client.event_type("coffee").await);
    let named = |kind: &str, source: &str| {
        let mut event = event(kind, "2026-01-02T12:00:00Z", json!({}));
        event["sourceType"] = json!(source);
        event
    };
    client.create(&[named(&steps, "phone"), named(&steps, "watch"), named(&coffee, "manual")]).await;
    let question = json!({ "timeZone": "UTC", "groupBy": ["EVENT_TYPE", "SOURCE_TYPE"], "preferSources": ["watch", "phone"] });
    let answer = ask(&client, question).await;
    let mut expected = [json!([steps, "watch", 1]), json!([coffee, "manual", 1])];
    expected.sort_by_key(|row| row[0].as_str().unwrap().to_owned());
    assert_eq!(json!(parts(&answer, &["eventTypeId", "sourceType", "count"])), json!(expected));
}

async fn an_all_day_event_belongs_to_its_date_in_every_zone(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("holiday").await;
    let mut days = Vec::new();
    for date in ["2026-07-01", "2026-07-02"] {
        let mut day = event(&kind, &format!("{date}T00:00:00Z"), json!({}));
        day["isAllDay"] = json!(true);
        day["endDate"] = json!("2026-07-03T00:00:00Z");
        days.push(day);
    }
    client.create(&days).await;
    // Today in Los Angeles. Tomorrow's event begins at midnight UTC, which is today in Los Angeles.
    let answer = ask(
        &client,
        json!({
            "timeZone": "America/Los_Angeles", "groupBy": ["HOUR_OF_DAY"],
            "filter": { "from": "2026-07-01T07:00:00Z", "to": "2026-07-02T07:00:00Z" },
        }),
    )
    .await;
    assert_eq!(json!(parts(&answer, &["hourOfDay", "count", "durationSeconds"])), json!([[null, 1, 0.0]]));
}

/// The sum of the measure `value`, its unit, and how many numbers there are.
async fn sum_of_values(client: &Client) -> Value {
    let question = json!({ "timeZone": "UTC", "measures": [{ "property": "value" }] });
    let answer = ask(client, question).await;
    let sums = answer["total"]["measures"].as_array().unwrap().iter();
    sums.map(|sum| json!([sum["unit"], sum["count"], sum["sum"]])).collect()
}

async fn columns_follow_the_properties(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("weight").await;
    let sent = event(&kind, "2026-01-02T12:00:00Z", json!({ "value": 70.5, "unit": "kg" }));
    client
        .create(&[sent.clone(), event(&kind, "2026-01-03T12:00:00Z", json!({ "value": "70", "unit": "kg" }))])
        .await;
    assert_eq!(sum_of_values(&client).await, json!([["kg", 1, 70.5]]));
    let update = "mutation($id: ID!, $patch: EventPatch!) { updateEvent(input: { id: $id, patch: $patch }) \
        { result { outcome } } }";
    let properties = json!({ "value": 155, "unit": "lb", "more": { "value": 3 } });
    client.ask(update, json!({ "id": sent["id"], "patch": { "properties": properties } })).await;
    assert_eq!(sum_of_values(&client).await, json!([["lb", 1, 155.0]]));
    client.ask(update, json!({ "id": sent["id"], "patch": { "notes": "after lunch" } })).await;
    assert_eq!(sum_of_values(&client).await, json!([["lb", 1, 155.0]]));
    let delete = "mutation($id: ID!) { deleteEvent(input: { id: $id }) { result { outcome } } }";
    client.ask(delete, json!({ "id": sent["id"] })).await;
    assert_eq!(sum_of_values(&client).await, json!([]));
    let columns = "SELECT count(*) FROM event WHERE value IS NOT NULL OR unit IS NOT NULL";
    assert_eq!(server.number(columns).await, 0, "a tombstone has no number");
    let restore = "mutation($event: EventInput!) { restoreEvent(input: { event: $event, expectedVersion: 4 }) \
        { result { outcome } } }";
    client.ask(restore, json!({ "event": sent })).await;
    assert_eq!(sum_of_values(&client).await, json!([["kg", 1, 70.5]]));
    let line = json!({
        "eventType": "weight", "externalId": "1", "timestamp": "2026-01-04T12:00:00Z",
        "properties": { "value": 80, "unit": "kg" },
    });
    client.import_all(&new_id(), format!("{line}\n").into_bytes()).await;
    assert_eq!(sum_of_values(&client).await, json!([["kg", 2, 150.5]]));
}

async fn the_answer_tells_its_feed_position(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let question = json!({ "timeZone": "UTC" });
    for _ in 0..2 {
        client.create(&[event(&kind, "2026-01-02T12:00:00Z", json!({}))]).await;
        let answer = ask(&client, question.clone()).await;
        let (_, head) = client.pull(None, 500).await;
        let (changes, _) = client.pull(answer["asOf"].as_str(), 500).await;
        assert_eq!((changes.len(), answer["asOf"].as_str().is_some()), (0, true), "{head}");
    }
}

async fn a_filter_selects_what_counts(server: &TestServer) {
    let client = server.client("ann");
    let (run, walk) = (client.event_type("run").await, client.event_type("walk").await);
    let mut noted = event(&run, "2026-01-02T12:00:00Z", json!({ "value": 5 }));
    noted["notes"] = json!("Along the River");
    client.create(&[noted.clone(), event(&walk, "2026-01-02T12:00:00Z", json!({ "value": 2 }))]).await;
    let line = json!({
        "eventType": "run", "externalId": "1", "timestamp": "2026-01-04T12:00:00Z", "sourceType": "watch",
    });
    let import = new_id();
    client.import_all(&import, format!("{line}\n").into_bytes()).await;
    let other = server.client("bob").event_type("run").await;
    let id_time = json!("2020-01-01T00:00:00Z");
    for (filter, count) in [
        (json!({}), 3),
        (json!({ "search": "river" }), 1),
        (json!({ "importJobId": import }), 1),
        (json!({ "eventTypeIds": [walk, other] }), 1),
        (json!({ "eventTypeIds": [other] }), 0),
        (json!({ "sourceTypes": ["manual"] }), 2),
        (json!({ "idFrom": id_time }), 3),
        (json!({ "idTo": id_time }), 0),
        (json!({ "from": "2026-01-03T00:00:00Z" }), 1),
        (json!({ "from": "2026-01-05T00:00:00Z" }), 0),
        (json!({ "from": "2026-01-05T00:00:00Z", "to": "2026-01-01T00:00:00Z" }), 0),
    ] {
        let answer = ask(&client, json!({ "timeZone": "UTC", "filter": filter })).await;
        assert_eq!(answer["total"]["count"], json!(count), "{filter}");
        assert_eq!(answer["buckets"].as_array().unwrap().len(), usize::from(count > 0), "{filter}");
    }
}

async fn a_question_costs_a_point_for_each_ten_thousand_events(server: &TestServer) {
    let client = server.client("ann");
    let cost = |query: &'static str| {
        let client = client.clone();
        async move { client.send(query, json!({})).await["extensions"]["cost"].take() }
    };
    let once = "{ eventStats(input: { timeZone: \"UTC\" }) { total { count } } }";
    let twice = "{ a: eventStats(input: { timeZone: \"UTC\" }) { total { count } } \
        ...Q } fragment Q on Query { b: eventStats(input: { timeZone: \"UTC\" }) { total { count } } }";
    assert_eq!((cost(once).await, cost(twice).await), (json!(1), json!(2)));
    let line = |number: usize| json!({ "eventType": "run", "externalId": number.to_string(), "timestamp": "2026-01-04T12:00:00Z" });
    let records: String = (0..10_001).map(|number| format!("{}\n", line(number))).collect();
    client.import_all(&new_id(), records.into_bytes()).await;
    assert_eq!((cost(once).await, cost(twice).await), (json!(2), json!(4)));
    let filter = json!({ "timeZone": "UTC", "filter": { "to": "2026-01-01T00:00:00Z" } });
    assert_eq!(ask(&client, filter).await["total"]["count"], json!(0));
    let newest = "{ events(first: 2) { nodes { id } } }";
    for event in client.ask(newest, json!({})).await["events"]["nodes"].as_array().unwrap() {
        let delete = "mutation($id: ID!) { deleteEvent(input: { id: $id }) { result { outcome } } }";
        client.ask(delete, json!({ "id": event["id"] })).await;
    }
    assert_eq!((cost(once).await, cost(twice).await), (json!(1), json!(2)), "9 999 events are left");
}

/// Rows that an older version has written have no columns, until the backfill has passed them.
async fn answers_are_right_while_the_columns_are_filled(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("weight").await;
    let events: Vec<Value> = (0..600)
        .map(|number| {
            event(&kind, "2026-01-02T12:00:00Z", json!({ "value": number as f64 / 8.0, "unit": "kg" }))
        })
        .collect();
    for part in events.chunks(500) {
        client.create(part).await;
    }
    let right = json!([["kg", 600, 599.0 * 600.0 / 16.0]]);
    assert_eq!(sum_of_values(&client).await, right);
    for sql in [
        "UPDATE event SET value = NULL, unit = 'stone'",
        "UPDATE backfill SET is_done = false WHERE name = 'event.value'",
    ] {
        server.execute(sql).await;
    }
    assert_eq!(sum_of_values(&client).await, right, "before it begins");
    let mut backfill = load(server).await;
    for _ in 0..2 {
        match store::backfill::run_step(&server.store, &backfill).await.unwrap() {
            store::backfill::Step::Done(_, next) => backfill = next,
            other => panic!("{other:?}"),
        }
        assert_eq!(sum_of_values(&client).await, right, "in the middle");
    }
    while !load(server).await.is_done {
        store::backfill::run_step(&server.store, &load(server).await).await.unwrap();
    }
    assert_eq!(sum_of_values(&client).await, right, "at the end");
    assert_eq!(
        server.number("SELECT count(*) FROM event WHERE unit = 'kg' AND value IS NOT NULL").await,
        600
    );
}

async fn load(server: &TestServer) -> store::backfill::Backfill {
    let all = store::backfill::load_all(&server.store).await.unwrap();
    all.into_iter().find(|backfill| backfill.name == "event.value").unwrap()
}
