//! Tests the sums of more numbers than the random questions have, and what is asked while users write.

use serde_json::{Value, json};

use super::{ANSWER, ask};
use crate::harness::{Client, Socket, TestServer, new_id, on_both};

on_both!(
    sums_of_many_numbers_keep_their_digits,
    an_answer_counts_exactly_what_its_feed_position_includes,
    statistics_are_answered_on_a_socket,
);

async fn import(client: &Client, kind: &str, numbers: &[f64]) {
    let lines = numbers.iter().enumerate().map(|(index, number)| {
        let record = json!({
            "eventType": kind, "externalId": format!("{kind}-{index}"), "timestamp": "2026-01-04T12:00:00Z",
            "properties": { "value": number },
        });
        format!("{record}\n")
    });
    let imported = client.import_all(&new_id(), lines.collect::<String>().into_bytes()).await;
    assert_eq!(imported["counts"]["inserted"], json!(numbers.len()));
}

async fn sum_of(client: &Client, kind: &str) -> Value {
    let query = "query { eventTypes(first: 100) { nodes { id name } } }";
    let types = client.ask(query, json!({})).await;
    let types = types["eventTypes"]["nodes"].as_array().unwrap().clone();
    let id = &types.iter().find(|one| one["name"] == kind).unwrap()["id"];
    let input = json!({
        "timeZone": "UTC", "granularity": "DAY", "measures": [{ "property": "value" }],
        "filter": { "eventTypeIds": [id] },
    });
    ask(client, input).await["total"]["measures"][0].take()
}

/// There are more numbers in a day than are added up as floats.
async fn sums_of_many_numbers_keep_their_digits(server: &TestServer) {
    let client = server.client("ann");
    let integers: Vec<f64> =
        (0..4_500_i64).map(|n| ((n * 7_919_777_777) % 2_000_000_000_000 - 999_999_999_999) as f64).collect();
    import(&client, "integers", &integers).await;
    let exact: i64 = integers.iter().map(|number| *number as i64).sum();
    assert_eq!(sum_of(&client, "integers").await["sum"], json!(exact as f64));

    // Their true sum is 450 - 4 500 / 3 * 100.3 - 1 500 / 4 096, but for the digits of 0.1 and 100.3 as floats.
    let fractions: Vec<f64> = (0..4_500).flat_map(|n| [0.1, [-100.3, 0.0, -1.0 / 4_096.0][n % 3]]).collect();
    import(&client, "fractions", &fractions).await;
    let sum = sum_of(&client, "fractions").await;
    let expected = 450.0 - 150_450.0 - 1_500.0 / 4_096.0;
    let size = 450.0 + 150_450.0 + 1.0;
    assert!((sum["sum"].as_f64().unwrap() - expected).abs() <= 1e-12 * size, "{sum} is not {expected}");
    assert!((sum["average"].as_f64().unwrap() - expected / 9_000.0).abs() <= 1e-12 * size / 9_000.0, "{sum}");
    assert_eq!(
        (&sum["count"], &sum["minimum"], &sum["maximum"]),
        (&json!(9_000), &json!(-100.3), &json!(0.1))
    );

    for (kind, number) in [("tiny", 1e-20), ("huge", 1e19), ("largest", 1e308)] {
        import(&client, kind, &[number; 4_200]).await;
        let sum = sum_of(&client, kind).await;
        let expected = (number * 4_200.0).min(f64::MAX);
        assert!((sum["sum"].as_f64().unwrap() / expected - 1.0).abs() <= 1e-12, "{kind}: {sum}");
        assert!((sum["average"].as_f64().unwrap() / number - 1.0).abs() <= 1e-12, "{kind}: {sum}");
    }
}

/// Events are created while the user asks. Their number is the feed position but for the event type.
async fn an_answer_counts_exactly_what_its_feed_position_includes(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let writer = client.clone();
    let writes = tokio::spawn(async move {
        for day in 0..60 {
            let at =
                chrono::DateTime::from_timestamp(1_600_000_000 + day * 1_000_000, 0).unwrap().to_rfc3339();
            let event = || json!({ "id": new_id(), "eventTypeId": kind, "timestamp": at });
            writer.create(&[event(), event()]).await;
        }
    });
    let mut answers = 0;
    while !writes.is_finished() || answers < 20 {
        let question = json!({ "timeZone": "Europe/Berlin", "granularity": "DAY" });
        let answer = ask(&client, question).await;
        let (changes, _) = client.pull(None, 500).await;
        let (later, _) = client.pull(answer["asOf"].as_str(), 500).await;
        let events = changes.iter().filter(|change| change["entity"] == "EVENT").count();
        let counted = usize::try_from(answer["total"]["count"].as_u64().unwrap()).unwrap();
        // The first pull may end before the second one does.
        assert!(
            counted + later.len() >= events,
            "{counted} are counted, {} came later, of {events}",
            later.len()
        );
        let (both, _) = client.pull(None, 500).await;
        assert!(counted + later.len() < both.len(), "{counted} are counted, {} came later", later.len());
        answers += 1;
    }
    writes.await.unwrap();
}

async fn statistics_are_answered_on_a_socket(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    client
        .create(&[json!({ "id": new_id(), "eventTypeId": kind, "timestamp": "2026-01-02T12:00:00Z" })])
        .await;
    let mut socket = Socket::open(&client).await;
    socket.ask("1", ANSWER, json!({ "input": { "timeZone": "UTC" } })).await;
    let next = socket.next().await;
    assert_eq!(next["payload"]["data"]["eventStats"]["total"]["count"], 1, "{next}");
    assert_eq!(socket.next().await["type"], "complete");
    socket.ask("2", ANSWER, json!({ "input": { "timeZone": "Mars" } })).await;
    let refused = socket.next().await;
    assert_eq!(
        refused["payload"]["errors"][0]["extensions"]["problem"]["errors"][0]["pointer"], "/timeZone",
        "{refused}"
    );
}
