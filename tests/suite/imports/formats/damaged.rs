//! Tests payloads that are truncated or have a flipped bit, at places that a seed determines. Each import
//! ends, and its counts add up.

use futures::StreamExt;
use serde_json::{Value, json};

use super::{WEATHER, counts, gunzip, gzip, import, weather, zip};
use crate::harness::{TestServer, on_both};

on_both!(a_damaged_payload_completes_or_fails_with_a_problem_and_its_counts_add_up);

/// A random number generator (SplitMix64).
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}

/// Returns the same hours of weather in every format, each with its CSV mapping if it needs one.
fn samples() -> Vec<(&'static str, Option<Value>, Vec<u8>)> {
    let plain = String::from_utf8(gunzip(WEATHER)).unwrap();
    let rows: String = plain.split_inclusive('\n').take(150).collect();
    let (mut objects, mut elements) = (Vec::new(), String::new());
    for row in rows.lines().skip(1) {
        let cells: Vec<_> = row.split(',').collect();
        objects.push(format!(
            r#"{{"eventType":"w","timestamp":"{}","properties":{{"temp":"{}"}}}}"#,
            cells[14], cells[5]
        ));
        elements += &format!("<Record type=\"w\" startDate=\"{}\" value=\"{}\"/>\n", cells[14], cells[5]);
    }
    vec![
        ("CSV", Some(weather()), rows.into_bytes()),
        ("NDJSON", None, objects.join("\n").into_bytes()),
        ("JSON", None, format!("[{}]", objects.join(",")).into_bytes()),
        ("APPLE_HEALTH", None, format!("<HealthData>\n{elements}</HealthData>\n").into_bytes()),
    ]
}

async fn a_damaged_payload_completes_or_fails_with_a_problem_and_its_counts_add_up(server: &TestServer) {
    let seed = std::env::var("TESTS_SEED").map_or(42, |seed| seed.parse().unwrap());
    let each = if std::env::var_os("TESTS_FULL").is_some() { 250 } else { 25 };
    println!("TESTS_SEED={seed}");
    let mut rng = Rng(seed);
    let mut imports = Vec::new();
    for (format, mapping, plain) in samples() {
        let packings =
            [plain.clone(), gzip(&plain), zstd::encode_all(&plain[..], 3).unwrap(), zip(&[("a", &plain)])];
        for n in 0..each {
            let mut payload = packings[n % packings.len()].clone();
            let at = rng.below(payload.len() - 1) + 1;
            if n % 2 == 0 {
                payload.truncate(at);
            } else {
                payload[at] ^= 1 << rng.below(8);
            }
            // Each import has its own user: a user runs only two imports at once, and their events must not
            // meet.
            imports.push((server.client(&format!("{format}-{n}")), format, mapping.clone(), payload, at));
        }
    }
    let inserted = futures::stream::iter(imports).map(|(client, format, mapping, payload, at)| async move {
        let job = import(&client, format, mapping, &payload).await;
        let what = format!("{format} at {at}: {job}");
        match job["state"].as_str().unwrap() {
            "COMPLETED" => assert_eq!(job["problem"], Value::Null, "{what}"),
            "FAILED" => {
                let codes = ["PAYLOAD_FORMAT", "PAYLOAD_LIMIT"];
                assert!(codes.contains(&job["problem"]["code"].as_str().unwrap()), "{what}");
                assert_ne!(job["problem"]["detail"], json!(""), "{what}");
            }
            other => panic!("{other}: {what}"),
        }
        let [inserted, _, _, rejected] = counts(&job);
        assert!(job["rejections"]["totalCount"].as_i64().unwrap() >= rejected, "{what}");
        inserted
    });
    let inserted: Vec<i64> = inserted.buffer_unordered(8).collect().await;
    let inserted: i64 = inserted.into_iter().sum();
    assert_eq!(inserted, server.number("SELECT count(*) FROM event").await);
    assert!(inserted > 1_000, "{inserted}");
}
