//! Tests `idem import --preview`, which needs no server. The output is compared word for word.

use super::Cli;

const EXPORT: &str =
    "List of runs\nwhen;what;miles\n01.02.2024 10:00;run;1,5\nyesterday;run;2\n03.02.2024 07:30;walk;0,25\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_shown_as_it_would_be_read_without_a_server() {
    let cli = Cli::open().await;
    let file = cli.file("runs.csv", EXPORT.as_bytes());
    let preview = async |flags: &[&str]| {
        let url = "http://127.0.0.1:1";
        super::Run::new(cli.command(url, &file, &[flags, &["--preview"]].concat()).output().await.unwrap())
    };
    let output = |run: &super::Run| run.out.replace(&file.display().to_string(), "runs.csv");

    let bare = preview(&["--skip-lines", "1", "--delimiter", "auto"]).await;
    assert_eq!(
        (bare.code, output(&bare).as_str()),
        (
            Some(0),
            "runs.csv: CSV, not packed, 97 B\n\
             encoding UTF-8, delimiter ';', one line before the header\n\
             columns: when | what | miles\n\
             \n\
             1 (line 3): 01.02.2024 10:00 | run | 1,5\n\
             2 (line 4): yesterday | run | 2\n\
             3 (line 5): 03.02.2024 07:30 | walk | 0,25\n\
             \n\
             3 records\n\
             To read the rows as events, give at least --timestamp COL and --event-type NAME.\n"
        )
    );
    // The hint names each setting that the preview detected and that the import has to be given.
    let semicolons = cli.file("kinds.csv", b"when;what\n2024-01-01T00:00:00Z;run\n");
    let hint = cli.import(&semicolons, &["--preview"]).await;
    assert!(hint.out.contains("and --event-type NAME, and --delimiter ';'."), "{}", hint.out);
    // Control characters of the file are escaped, so that it cannot control the terminal.
    let hostile = cli.file(
        "esc.csv",
        "when,what\u{1b}]0;pwn\u{7}\n2024-01-01T00:00:00Z,\"\u{1b}[31mrun\u{1b}[m\"\n".as_bytes(),
    );
    for flags in [&[][..], &["--timestamp", "when", "--event-type-column", "what\u{1b}]0;pwn\u{7}"]] {
        let run = cli.import(&hostile, &[flags, &["--preview"]].concat()).await;
        assert!(run.out.contains("\\u{1b}[31mrun") && !run.out.contains('\u{1b}'), "{:?}", run.out);
    }
    let latin = cli.file("latin.csv", b"wann;Ort\n2024-01-01;Stra\xdfe\n");
    let not_utf_8 = cli.import(&latin, &["--preview"]).await;
    assert!(not_utf_8.out.contains("--encoding the text is not UTF-8"), "{}", not_utf_8.out);
    let lines = cli.file("a.ndjson", b"{\"eventType\":\"a\",\"timestamp\":\"2024-01-01T00:00:00Z\"}\n");
    let other = cli.import(&lines, &["--preview", "--timestamp", "a", "--event-type", "b"]).await;
    assert_eq!(other.code, Some(1), "{}", other.out);
    assert!(other.out.contains("INVALID_VALUE: is for the format CSV alone"), "{}", other.out);
    let flags = [
        "--skip-lines",
        "1",
        "--delimiter",
        ";",
        "--timestamp",
        "when",
        "--timestamp-format",
        "%d.%m.%Y %H:%M",
        "--time-zone",
        "Europe/Berlin",
        "--event-type-column",
        "what",
        "--decimal-separator",
        ",",
    ];
    let mapped = preview(&flags).await;
    assert_eq!(
        (mapped.code, output(&mapped).as_str()),
        (
            Some(2),
            "runs.csv: CSV, not packed, 97 B\n\
             encoding UTF-8, delimiter ';', one line before the header\n\
             columns: when | what | miles\n\
             \n\
             1 (line 3): 2024-02-01T09:00:00.000Z run {\"miles\":1.5}\n\
             2 (line 4): REJECTED INVALID_DATETIME: /timestamp is no time of the form \"%d.%m.%Y %H:%M\" (column \"when\")\n\
             3 (line 5): 2024-02-03T06:30:00.000Z walk {\"miles\":0.25}\n\
             \n\
             3 records, 1 would be rejected\n\
             \x20 1 × INVALID_DATETIME: /timestamp is no time of the form \"%d.%m.%Y %H:%M\" (column \"when\"); first in record 2, line 4\n"
        )
    );
    let wrong = preview(&["--timestamp", "when", "--timestamp-format", "%Q", "--event-type", "run"]).await;
    assert!(wrong.out.contains("INVALID_VALUE: --timestamp-format "), "{}", wrong.out);
    let refused =
        cli.import(&file, &["--timestamp", "when", "--timestamp-format", "%Q", "--event-type", "run"]).await;
    assert!(
        refused.err.contains("the server refuses the import: INVALID_VALUE: --timestamp-format "),
        "{}",
        refused.err
    );
    let few = preview(&[&flags[..], &["--rows", "1", "--json"]].concat()).await.json(2);
    assert_eq!((few["rows"].as_array().unwrap().len(), &few["rowsRead"]), (1, &serde_json::json!(3)));
    // The import gives the same result as the preview.
    let done = cli.import(&file, &[&flags[..], &["--json"]].concat()).await.json(2);
    assert_eq!((&done["counts"]["inserted"], &done["counts"]["rejected"]), (&2.into(), &1.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_ends_with_exit_code_one_and_the_reason() {
    let cli = Cli::open().await;
    for (name, bytes, code, message) in [
        ("empty.csv", &b""[..], 1, "it is empty"),
        ("tape.7z", b"7z\xbc\xaf\x27\x1c....", 1, "7z is not read"),
        (
            "good.ndjson",
            b"{\"eventType\":\"a\",\"timestamp\":\"2024-01-01T00:00:00Z\"}\n",
            0,
            "1 record, 0 would",
        ),
    ] {
        let run = cli.import(&cli.file(name, bytes), &["--preview"]).await;
        assert_eq!(run.code, Some(code), "{name}: {} {}", run.out, run.err);
        assert!(format!("{}{}", run.out, run.err).contains(message), "{name}: {} {}", run.out, run.err);
    }
    let nowhere = cli.import(&"/nowhere".into(), &["--preview"]).await;
    assert_eq!(nowhere.code, Some(1), "{}", nowhere.err);
    let both = cli.import(&cli.file("x", b"{}"), &["--preview", "--dry-run"]).await;
    assert_eq!(both.code, Some(64), "{}", both.err);
}
