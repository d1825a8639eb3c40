//! Tests `idem stats` as a user runs it.

use serde_json::{Value, json};
use tokio::process::Command;

use super::{Cli, Run};
use crate::harness::new_id;

async fn stats(cli: &Cli, flags: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idem-under-test"));
    let url = cli.test_server.url.as_str();
    command.args(["stats", "--url", url, "--token", &cli.client.token]).args(flags);
    Run::new(command.output().await.unwrap())
}

/// Stores two runs in Berlin, around midnight and one of half an hour, and a coffee.
async fn store_events(cli: &Cli) {
    let (run, coffee) = (cli.client.event_type("run").await, cli.client.event_type("coffee").await);
    let event = |kind: &str, timestamp: &str, end: Option<&str>, properties: Value| {
        json!({
            "id": new_id(), "eventTypeId": kind, "timestamp": timestamp, "endDate": end, "properties": properties,
        })
    };
    cli.client
        .create(&[
            event(&run, "2026-01-01T22:59:00Z", None, json!({ "value": 5.25, "unit": "km" })),
            event(
                &run,
                "2026-01-01T23:00:00Z",
                Some("2026-01-01T23:30:00Z"),
                json!({ "value": 4, "unit": "km" }),
            ),
            event(&run, "2026-01-04T12:00:00Z", None, json!({ "value": 3, "unit": "mi\u{1b}[31m" })),
            event(&coffee, "2026-01-02T08:00:00Z", None, json!({})),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_has_a_row_for_each_bucket_and_unit() {
    let cli = Cli::open().await;
    store_events(&cli).await;
    let flags = ["--time-zone", "Europe/Berlin", "--by", "day", "--type", "run", "--measure", "value"];
    let run = stats(&cli, &flags).await;
    assert_eq!(run.code, Some(0), "{}", run.err);
    let expected = "\
from        events  duration  measure                 sum  average  minimum  maximum
2026-01-01       1   0:00:00  value in km            5.25     5.25     5.25     5.25
2026-01-02       1   0:30:00  value in km               4        4        4        4
2026-01-04       1   0:00:00  value in mi\\u{1b}[31m     3        3        3        3
total            3   0:30:00  value in km            9.25    4.625        4     5.25
                              value in mi\\u{1b}[31m     3        3        3        3
";
    assert_eq!(run.out, expected);
    cli.test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bars_are_as_long_as_their_numbers() {
    let cli = Cli::open().await;
    store_events(&cli).await;
    let flags = ["--time-zone", "Europe/Berlin", "--by", "day", "--fill", "--bars", "--to", "2026-01-04"];
    let run = stats(&cli, &flags).await;
    let expected = format!("2026-01-01  1  {}\n2026-01-02  2  {}\n", "█".repeat(20), "█".repeat(40));
    assert_eq!(run.out, expected + "2026-01-03  0\n", "{}", run.err);
    let flags = ["--time-zone", "UTC", "--group", "type,weekday", "--bars"];
    let run = stats(&cli, &flags).await;
    let labels: Vec<&str> = run.out.lines().map(|line| line.trim_end_matches(['█', ' '])).collect();
    let mut expected = vec!["coffee  friday  1", "run  thursday   2", "run  sunday     1"];
    expected.sort_unstable();
    let mut found: Vec<String> = labels.iter().map(|label| label.to_string()).collect();
    found.sort_unstable();
    assert_eq!(found, expected, "{}", run.out);
    cli.test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_the_answer_of_the_server() {
    let cli = Cli::open().await;
    store_events(&cli).await;
    let flags = ["--time-zone", "UTC", "--json", "--group", "type,hour", "--from", "2026-01-02T00:00:00Z"];
    let answer = stats(&cli, &flags).await.json(0);
    assert_eq!((&answer["total"]["count"], answer["buckets"].as_array().unwrap().len()), (&json!(2), 2));
    let nothing = stats(&cli, &["--time-zone", "UTC", "--to", "1950-01-01"]).await;
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(0), "no events\n"));
    cli.test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_refused_with_a_message_that_helps() {
    let cli = Cli::open().await;
    store_events(&cli).await;
    for (flags, code, message) in [
        (&["--time-zone", "Mars"][..], 1, "\"Mars\" is not a name of the IANA time zone database"),
        (
            &["--time-zone", "UTC", "--type", "walk"],
            1,
            "there is no event type \"walk\"; there are: coffee, run",
        ),
        (
            &["--time-zone", "UTC", "--from", "yesterday"],
            1,
            "--from yesterday: must be a date such as 2026-01-31",
        ),
        (
            &["--time-zone", "UTC", "--by", "hour", "--fill", "--from", "1990-01-01"],
            1,
            "more than 5000: ask for",
        ),
        (&["--time-zone", "UTC", "--measure", ""], 1, "/measures/0/property must not be empty"),
        (&["--by", "minute"], 64, "invalid value 'minute'"),
        (&["--day-start", "24:00"], 64, "must be a time from 00:00 to 23:59"),
    ] {
        let run = stats(&cli, flags).await;
        assert_eq!((run.code, run.out.as_str()), (Some(code), ""), "{flags:?}: {}", run.err);
        assert!(run.err.contains(message), "{flags:?}: {}", run.err);
    }
    cli.test_server.end().await;
}
