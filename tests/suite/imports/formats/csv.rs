//! Tests imports of CSV: a real file, mappings, and invalid rows.

use serde_json::{Value, json};

use super::{WEATHER, counts, events, gunzip, import, weather};
use crate::harness::{TestServer, new_id, on_both};

on_both!(
    the_weather_is_stored_once_under_its_external_ids,
    an_invalid_mapping_is_refused_before_the_upload,
    every_column_is_stored_where_the_mapping_says,
    the_rejection_of_a_row_has_its_line_its_field_and_its_column,
    a_file_that_does_not_fit_the_mapping_fails_and_the_problem_names_the_columns,
);

async fn the_weather_is_stored_once_under_its_external_ids(server: &TestServer) {
    let client = server.client("ann");
    let job = import(&client, "CSV", Some(weather()), WEATHER).await;
    assert_eq!((&job["state"], &job["recordsTotal"]), (&json!("COMPLETED"), &json!(2000)), "{job}");
    assert_eq!(counts(&job), [2000, 0, 0, 0]);
    let again = import(&client, "CSV", Some(weather()), &gunzip(WEATHER)).await;
    assert_eq!(counts(&again), [0, 2000, 0, 0], "{again}");
    let all = events(&client).await;
    let event = all.iter().find(|event| event["externalId"] == "EWR|2013-03-21T09:00:00Z").unwrap();
    assert_eq!(
        (&event["timestamp"], &event["sourceType"], &event["eventType"]["name"]),
        (&json!("2013-03-21T09:00:00.000Z"), &json!("imported"), &json!("weather"))
    );
    let expected = json!({ "year": 2013, "month": 3, "day": 21, "hour": 5, "temp": 33.08, "dewp": 23, "humid": 66.11,
        "wind_dir": 10, "wind_speed": 10.357_019_999_999_999, "precip": 0, "pressure": 1008.2, "visib": 10 });
    assert_eq!(event["properties"], expected);
    let half = format!(
        "{}{}",
        "origin,time_hour,temp\n", "EWR,2013-02-07T18:00:00Z,33\nEWR,2013-02-07T18:00:00Z,33\n"
    );
    let other = import(&client, "CSV", Some(weather()), half.as_bytes()).await;
    assert_eq!(counts(&other), [0, 0, 2, 0], "{other}");
}

async fn an_invalid_mapping_is_refused_before_the_upload(server: &TestServer) {
    let client = server.client("ann");
    let query = "mutation($input: CreateImportInput!) { createImport(input: $input) \
        { importJob { id } problem { code errors { pointer code } } } }";
    let wrong = json!({ "timestampColumn": "", "delimiter": "ab", "timeZone": "Mars", "sourceType": "A", "timestampFormat": "%H" });
    let input = json!({ "id": new_id(), "format": "CSV", "sizeBytes": 10, "csv": wrong });
    let created = client.ask(query, json!({ "input": input })).await["createImport"].take();
    assert_eq!(
        (&created["importJob"], &created["problem"]["code"]),
        (&Value::Null, &json!("VALIDATION_FAILED"))
    );
    let errors = created["problem"]["errors"].as_array().unwrap();
    let pointers: Vec<_> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    let expected = ["timestampColumn", "eventType", "delimiter", "timestampFormat", "timeZone", "sourceType"];
    assert_eq!(pointers, expected.map(|name| format!("/csv/{name}")));
}

async fn every_column_is_stored_where_the_mapping_says(server: &TestServer) {
    let client = server.client("ann");
    let mapping = json!({ "eventTypeColumn": "kind", "timestampColumn": "start", "endDateColumn": "end", "idColumn": "id",
        "externalIdColumns": ["key"], "notesColumn": "text", "sourceType": "garmin", "latitudeColumn": "lat",
        "longitudeColumn": "lon", "propertyColumns": ["n", "start"], "missing": ["-"], "timeZone": "Europe/Berlin",
        "timestampFormat": "%d.%m.%Y %H:%M", "delimiter": ";" });
    let id = new_id();
    let payload = format!(
        "\u{feff}id;kind;start;end;key;text;lat;lon;n;unused\r\n{id};run;01.07.2013 10:00;01.07.2013 11:00;k1;\"a;\"\"b\"\"\r\nc\";52.5;13.4;007;x\r\n-;ride;01.01.2013 10:00;-;-;-;-;-;1.50;x"
    );
    let job = import(&client, "CSV", Some(mapping), payload.as_bytes()).await;
    assert_eq!(counts(&job), [2, 0, 0, 0], "{job}");
    let mut all = events(&client).await;
    let derived = all[1]["id"].take();
    assert_ne!(derived, json!(id));
    let run = json!({ "id": id, "timestamp": "2013-07-01T08:00:00.000Z", "endDate": "2013-07-01T09:00:00.000Z",
        "timeZone": null, "notes": "a;\"b\"\r\nc", "sourceType": "garmin", "externalId": "k1",
        "properties": { "n": "007", "start": "01.07.2013 10:00" }, "eventType": { "name": "run" },
        "location": { "latitude": 52.5, "longitude": 13.4 } });
    let ride = json!({ "id": null, "timestamp": "2013-01-01T09:00:00.000Z", "endDate": null, "timeZone": null,
        "notes": null, "sourceType": "garmin", "externalId": null,
        "properties": { "n": 1.5, "start": "01.01.2013 10:00" }, "eventType": { "name": "ride" }, "location": null });
    assert_eq!(all, [run, ride]);
}

async fn the_rejection_of_a_row_has_its_line_its_field_and_its_column(server: &TestServer) {
    let client = server.client("ann");
    let payload = b"k,t,n\n1,2013-01-01T00:00:00Z,\"a\nb\"\n2,2013-01-01T00:00:00Z,a,b\n\n\n3,yesterday,\n4,2013-01-01,\n5,2013-01-01T00:00:00Z,\xff\n6,2013-01-01T00:00:00Z,c\r7,2013-01-01T00:00:00Z,d";
    let mapping =
        json!({ "eventType": "w", "timestampColumn": "t", "notesColumn": "n", "externalIdColumns": ["k"] });
    let job = import(&client, "CSV", Some(mapping), payload).await;
    assert_eq!((&job["state"], counts(&job)), (&json!("COMPLETED"), [3, 0, 0, 4]), "{job}");
    let rejections: Vec<_> = job["rejections"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| {
            json!([
                node["record"], node["line"], node["code"], node["pointer"], node["detail"], node["excerpt"]
            ])
        })
        .collect();
    let expected = [
        json!([2, 4, "INVALID_VALUE", "", "has 4 cells under a header of 3", "2,2013-01-01T00:00:00Z,a,b"]),
        json!([
            3,
            7,
            "INVALID_DATETIME",
            "/timestamp",
            "/timestamp: is no time: RFC 3339, YYYY-MM-DD or YYYY-MM-DD HH:MM[:SS[.fff]], and perhaps an offset (column \"t\")",
            "3,yesterday,"
        ]),
        json!([
            4,
            8,
            "INVALID_DATETIME",
            "/timestamp",
            "/timestamp: has no offset, and the mapping has no timeZone (column \"t\")",
            "4,2013-01-01,"
        ]),
        json!([
            5,
            9,
            "INVALID_VALUE",
            "/notes",
            "/notes: is not UTF-8 (column \"n\")",
            "5,2013-01-01T00:00:00Z,\u{fffd}"
        ]),
    ];
    assert_eq!(rejections, expected);
}

async fn a_file_that_does_not_fit_the_mapping_fails_and_the_problem_names_the_columns(server: &TestServer) {
    let client = server.client("ann");
    let table = [
        ("", "the CSV is empty: it has no header"),
        (
            "a,b\n1,2\n",
            "the header lacks columns of the mapping: \"time_hour\", \"origin\"; it has \"a\", \"b\"",
        ),
        (
            "time_hour;origin\n1;2\n",
            "the header lacks columns of the mapping: \"time_hour\", \"origin\"; it has one column, \"time_hour;origin\"; \
             is the delimiter ';'?",
        ),
        (
            "origin,time_hour\nEWR,\"2013-01-01T00:00:00Z\n",
            "a quote in record 1, which begins on line 2, never ends",
        ),
        (
            "<?xml version=\"1.0\"?>",
            "looks like XML: for an export of Apple Health the format is APPLE_HEALTH",
        ),
    ];
    for (payload, detail) in table {
        let payload = if payload.is_empty() { "\n\n\n" } else { payload };
        let job = import(&client, "CSV", Some(weather()), payload.as_bytes()).await;
        let problem = json!({ "code": "PAYLOAD_FORMAT", "detail": detail });
        assert_eq!((&job["state"], &job["problem"]), (&json!("FAILED"), &problem));
    }
}
