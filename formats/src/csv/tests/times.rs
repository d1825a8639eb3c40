//! Tests times in every notation that a mapping allows, and times that clocks skip or show twice.

use super::*;

#[test]
fn the_order_of_the_rows_resolves_ambiguous_times() {
    let berlin = CsvMapping { time_zone: some("Europe/Berlin"), ..mapping() };
    let times = |cells: &[&str]| -> Vec<String> {
        let file = cells.iter().fold("t,v\n".to_owned(), |file, cell| file + cell + ",1\n");
        rows(&berlin, file)
            .into_iter()
            .map(|row| match row {
                Ok(EventDraft { timestamp: Sent::Value(time), .. }) => time[11..16].to_owned(),
                Ok(other) => panic!("{other:?}"),
                Err(problems) => problems[0].detail.chars().take(6).collect(),
            })
            .collect()
    };
    let night =
        |times: &[&'static str]| times.iter().map(|time| format!("2013-10-27 {time}")).collect::<Vec<_>>();
    let of = |clocks: &[&'static str]| {
        let cells = night(clocks);
        times(&cells.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let passes = ["23:00", "00:00", "00:30", "01:00", "01:30", "02:00"];
    assert_eq!(of(&["01:00", "02:00", "02:30", "02:00", "02:30", "03:00"]), passes);
    let backwards = of(&["03:00", "02:30", "02:00", "02:30", "02:00", "01:00"]);
    assert_eq!(backwards, ["02:00", "01:30", "01:00", "00:30", "00:00", "23:00"]);
    assert_eq!(
        of(&["00:00", "01:00", "02:00", "02:00", "03:00"]),
        ["22:00", "23:00", "00:00", "01:00", "02:00"]
    );
    // Several rows have the same time, so nothing distinguishes the passes. Of two equal rows, the second one
    // is rejected.
    assert_eq!(of(&["01:00", "01:00", "02:00", "02:00"]), ["23:00", "23:00", "00:00", "equals"]);
    let keyed = CsvMapping { external_id_columns: list(&["v"]), ..berlin.clone() };
    let twice = rows(&keyed, "t,v\n2013-10-27 01:00,1\n2013-10-27 02:00,2\n2013-10-27 02:00,2\n");
    assert!(twice.iter().all(Result::is_ok), "an external id shows that it is the same event: {twice:?}");
    // An offset takes precedence over the order.
    assert_eq!(of(&["02:00+01:00", "02:00+02:00"]), ["01:00", "00:00"]);
    let ends = CsvMapping { end_date_column: some("e"), ..berlin.clone() };
    let read = rows(&ends, "t,e\n2013-10-27 02:50,2013-10-27 02:10\n").remove(0).expect("a row");
    assert_eq!(read.end_date, text("2013-10-27T01:10:00.000Z"), "the end is after the start");
}

#[test]
fn a_date_alone_begins_at_the_first_instant_of_its_day() {
    let table = [
        ("America/Santiago", "2023-09-03", Some("2023-09-03T04:00:00.000Z")),
        ("America/Sao_Paulo", "2018-11-04", Some("2018-11-04T03:00:00.000Z")),
        ("Africa/Cairo", "2024-04-26", Some("2024-04-25T22:00:00.000Z")),
        // The time zone skips the whole day.
        ("Pacific/Apia", "2011-12-30", None),
    ];
    for (zone, date, expected) in table {
        let mapping = CsvMapping { time_zone: some(zone), ..mapping() };
        let read = row(&mapping, &["t"], &[date]);
        match expected {
            Some(expected) => assert_eq!(read.expect("a day").timestamp, text(expected), "{zone}"),
            None => assert!(read.expect_err("no day")[0].detail.contains("does not exist"), "{zone}"),
        }
    }
}

#[test]
fn times_are_read_in_every_notation_that_a_mapping_allows() {
    let table = [
        (None, None, "2013-01-01T06:00:00Z", "2013-01-01T06:00:00.000Z"),
        (None, None, " 2013-01-01 06:00:00+01:00 ", "2013-01-01T05:00:00.000Z"),
        (None, None, "2023-02-10 15:45:31+01", "2023-02-10T14:45:31.000Z"),
        (None, None, "2023-02-10 15:45:31.25-0330", "2023-02-10T19:15:31.250Z"),
        (None, None, "2023-02-10 15:45:31,25 +05:30", "2023-02-10T10:15:31.250Z"),
        (None, None, "2023-02-10 15:45Z", "2023-02-10T15:45:00.000Z"),
        (None, Some("Europe/Berlin"), "2013-01-01", "2012-12-31T23:00:00.000Z"),
        (None, Some("Europe/Berlin"), "2013-07-01 10:00", "2013-07-01T08:00:00.000Z"),
        (None, Some("Europe/Berlin"), "2013-07-01T10:00:30", "2013-07-01T08:00:30.000Z"),
        (None, Some("UTC"), "2013-07-01 10:00:30.1239", "2013-07-01T10:00:30.123Z"),
        // This time occurs twice that night. The earlier one, in summer time, is meant.
        (None, Some("Europe/Berlin"), "2013-10-27 02:30", "2013-10-27T00:30:00.000Z"),
        (None, Some("America/New_York"), "2013-11-03 01:30", "2013-11-03T05:30:00.000Z"),
        (Some("unix_s"), None, "1357020000", "2013-01-01T06:00:00.000Z"),
        (Some("unix_s"), None, "-1.5", "1969-12-31T23:59:58.500Z"),
        (Some("unix_s"), None, "1357020000.1239", "2013-01-01T06:00:00.123Z"),
        (Some("unix_ms"), None, "1357020000001", "2013-01-01T06:00:00.001Z"),
        (Some("unix_ms"), None, "1357020000001.9", "2013-01-01T06:00:00.001Z"),
        (Some("%d.%m.%Y"), Some("UTC"), "01.02.2013", "2013-02-01T00:00:00.000Z"),
        (
            Some("%m/%d/%Y %I:%M %p"),
            Some("America/New_York"),
            "01/02/2013 01:05 PM",
            "2013-01-02T18:05:00.000Z",
        ),
        (Some("%Y-%m-%d %H:%M:%S %z"), None, "2019-01-01 10:00:00 +0100", "2019-01-01T09:00:00.000Z"),
        (Some("%s"), None, "1357020000", "2013-01-01T06:00:00.000Z"),
    ];
    for (format, zone, cell, expected) in table {
        let mapping = CsvMapping {
            timestamp_format: format.map(str::to_owned),
            time_zone: zone.map(str::to_owned),
            ..mapping()
        };
        assert_eq!(draft(&mapping, &["t"], &[cell]).timestamp, text(expected), "{format:?} {zone:?} {cell}");
    }
}

#[test]
fn an_invalid_time_is_reported_with_its_column() {
    let table = [
        (None, None, "2013-01-01", "has no offset"),
        (None, None, "2013-01-01 10:00", "has no offset"),
        (None, Some("UTC"), "", "is required"),
        (None, Some("UTC"), "yesterday", "is no time"),
        (None, Some("UTC"), "2013-02-30", "is no time"),
        (None, Some("UTC"), "2013-01-01 24:00", "is no time"),
        (None, Some("UTC"), "2013-01-01 10", "is no time"),
        (None, Some("UTC"), "2013-01-01 10:00:", "is no time"),
        (None, Some("UTC"), "2013-01-01 10:00:00.", "is no time"),
        (None, Some("UTC"), "0000-01-01", "years 0001 to 9999"),
        (None, Some("Europe/Berlin"), "2013-03-31 02:30", "does not exist"),
        (Some("unix_s"), None, "1e9", "is no number of seconds"),
        (Some("unix_s"), None, "", "is required"),
        (Some("unix_s"), None, "-", "is no number of seconds"),
        (Some("unix_s"), None, "99999999999999999999", "is no number of seconds"),
        (Some("unix_ms"), None, "999999999999999", "years 0001 to 9999"),
        (Some("%d.%m.%Y"), None, "01.02.2013", "has no offset"),
        (Some("%d.%m.%Y"), Some("UTC"), "01.02.2013 10:00", "is no time"),
    ];
    for (format, zone, cell, expected) in table {
        let mapping = CsvMapping {
            timestamp_format: format.map(str::to_owned),
            time_zone: zone.map(str::to_owned),
            ..mapping()
        };
        let found = problems(&mapping, &["t", "x"], &[cell, ""]);
        let [problem] = found.as_slice() else { panic!("{cell}: {found:?}") };
        let code = if expected == "is required" { Code::Required } else { Code::InvalidDatetime };
        assert_eq!((problem.pointer.as_str(), problem.code), ("/timestamp", code), "{cell}");
        assert!(
            problem.detail.contains(expected) && problem.detail.ends_with("(column \"t\")"),
            "{cell}: {}",
            problem.detail
        );
    }
}
