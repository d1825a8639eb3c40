//! Tests imports of Apple Health exports: generated ones, plain and as zip archives, and exports of the same
//! data.

use std::process::Command;

use serde_json::{Value, json};

use super::{counts, events, import, zip};
use crate::harness::{TestServer, on_both};

on_both!(
    an_export_is_imported_completely_and_a_second_export_adds_nothing,
    a_sample_is_one_event_even_if_another_export_writes_it_differently,
    two_foods_of_one_moment_are_two_events,
    broken_elements_of_an_export_are_rejected_alone,
);

/// Generates an export of so many samples. Returns it and the counts that a correct reader finds in it.
fn export(server: &TestServer, records: u64, is_zip: bool) -> (Vec<u8>, Value) {
    let path = server.dir.path().join(format!("export-{is_zip}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_generate-health"));
    command.arg(&path).args(["--records", &records.to_string(), "--seed", "7"]);
    let output = command.args(is_zip.then_some("--zip")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    (std::fs::read(path).unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

async fn an_export_is_imported_completely_and_a_second_export_adds_nothing(server: &TestServer) {
    let client = server.client("ann");
    let (payload, truth) = export(server, 3_000, true);
    let number = |name: &str| truth[name].as_i64().unwrap();
    let again = number("records") + number("nested") - number("distinct") - number("bad");
    let job = import(&client, "APPLE_HEALTH", None, &payload).await;
    assert_eq!(job["state"], "COMPLETED", "{job}");
    assert_eq!(counts(&job), [number("distinct"), again, 0, number("bad")], "{truth} {}", job["rejections"]);
    let refused = &job["rejections"]["nodes"][0];
    assert!(refused["detail"].as_str().unwrap().starts_with("/timestamp: is not of the form"), "{refused}");
    assert!(refused["excerpt"].as_str().unwrap().starts_with("<Record type="), "{refused}");
    assert!(again > 0 && number("bad") > 0);
    let (plain, _) = export(server, 3_000, false);
    let next = import(&client, "APPLE_HEALTH", None, &plain).await;
    assert_eq!(counts(&next), [0, number("distinct") + again, 0, number("bad")]);
}

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE HealthData [\n<!ELEMENT HealthData (Record*)>\n<!ENTITY lol \"lol\"><!ENTITY lol2 \"&lol;&lol;&lol;&lol;\">\n]>\n<HealthData locale=\"de_DE\">\n";
const SAMPLE: &str = " <Record type=\"HKQuantityTypeIdentifierBodyMass\" sourceName=\"Scale\" device=\"&lt;&lt;HKDevice: 0x1&gt;, name:Scale&gt;\" unit=\"kg\" creationDate=\"2019-01-01 10:01:00 +0100\" startDate=\"2019-01-01 10:00:00 +0100\" endDate=\"2019-01-01 10:00:00 +0100\" value=\"70.5\">\n  <MetadataEntry key=\"HKExternalUUID\" value=\"A\"/>\n  <MetadataEntry key=\"HKTimeZone\" value=\"Europe/Berlin\"/>\n </Record>\n";

async fn a_sample_is_one_event_even_if_another_export_writes_it_differently(server: &TestServer) {
    let client = server.client("ann");
    let first = format!("{HEAD}{SAMPLE}</HealthData>");
    assert_eq!(counts(&import(&client, "APPLE_HEALTH", None, first.as_bytes()).await), [1, 0, 0, 0]);
    let all = events(&client).await;
    let expected = json!([{ "id": all[0]["id"], "timestamp": "2019-01-01T09:00:00.000Z", "endDate": "2019-01-01T09:00:00.000Z",
        "timeZone": "Europe/Berlin", "notes": null, "sourceType": "healthkit", "externalId": null,
        "properties": { "device": "name:Scale", "sourceName": "Scale", "unit": "kg", "value": 70.5 },
        "eventType": { "name": "HKQuantityTypeIdentifierBodyMass" }, "location": null }]);
    assert_eq!(json!(all), expected);
    let renamed = first.replace("\"A\"", "\"B\"").replace("0x1", "0x2").replace("10:01:00", "11:01:00");
    let moved = renamed.replace("10:00:00 +0100", "09:00:00 +0000");
    let both = zip(&[
        ("apple_health_export/export_cda.xml", b"<a/>"),
        ("apple_health_export/Export.xml", moved.as_bytes()),
    ]);
    assert_eq!(counts(&import(&client, "APPLE_HEALTH", None, &both).await), [0, 1, 0, 0]);
    let other = first.replace("name:Scale", "name:Scale 2");
    assert_eq!(counts(&import(&client, "APPLE_HEALTH", None, other.as_bytes()).await), [0, 0, 1, 0]);
    assert_eq!(
        counts(&import(&server.client("bob"), "APPLE_HEALTH", None, first.as_bytes()).await),
        [1, 0, 0, 0]
    );
}

async fn broken_elements_of_an_export_are_rejected_alone(server: &TestServer) {
    let client = server.client("ann");
    let with = |from: &str, to: &str| {
        SAMPLE.replace(from, to).replace("70.5", &format!("{}", from.len() * 100 + to.len()))
    };
    let body = [
        SAMPLE.to_owned(),
        with("unit=\"kg\"", "unit=\"&lol2;\""),
        with("unit=\"kg\"", "unit=kg"),
        with("unit=\"kg\"", "unit=\"kg\"\""),
        with("unit=\"kg\"", "unit = \n '\u{b}kg'"),
        with("\"Scale\"", "\"Sc\u{1}ale\""),
        with("2019-01-01 10:00:00", "2019-02-30 10:00:00"),
        format!(
            " <Correlation type=\"c\">{SAMPLE}</Correlation>\n <ActivitySummary/>\n <ClinicalRecord type=\"x\"/>\n"
        ),
    ];
    let whole = format!("{HEAD}{}</HealthData>\n", body.concat());
    let job = import(&client, "APPLE_HEALTH", None, whole.as_bytes()).await;
    assert_eq!((&job["state"], counts(&job)), (&json!("COMPLETED"), [3, 1, 0, 4]), "{job}");
    let cut = &whole[..whole.len() - 30];
    let job = import(&client, "APPLE_HEALTH", None, cut.as_bytes()).await;
    assert_eq!((&job["state"], &job["problem"]["code"]), (&json!("FAILED"), &json!("PAYLOAD_FORMAT")));
    assert_eq!(counts(&job), [0, 4, 0, 4], "{job}");
    let deep = format!("<HealthData>{}", "<a>".repeat(1_000_000));
    let job = import(&client, "APPLE_HEALTH", None, deep.as_bytes()).await;
    assert_eq!(job["problem"]["detail"], "elements of the XML are nested deeper than 16");
}

/// Returns a sample of 100 kcal with these child elements.
fn meal(children: &str) -> String {
    format!(
        " <Record type=\"HKQuantityTypeIdentifierDietaryEnergyConsumed\" sourceName=\"Food\" unit=\"kcal\" value=\"100\" \
         startDate=\"2024-03-01 12:30:00 +0100\" endDate=\"2024-03-01 12:30:00 +0100\">{children}</Record>\n"
    )
}

/// Returns a sample of 100 kcal of this food.
fn meal_of(food: &str) -> String {
    meal(&format!("<MetadataEntry key=\"HKFoodType\" value=\"{food}\"/>"))
}

async fn two_foods_of_one_moment_are_two_events(server: &TestServer) {
    let send = async |who: &str, samples: &[String]| {
        let payload = format!("{HEAD}{}</HealthData>", samples.concat());
        counts(&import(&server.client(who), "APPLE_HEALTH", None, payload.as_bytes()).await)
    };
    let (egg, bread) = (meal_of("Egg"), meal_of("Bread"));
    assert_eq!(send("ann", &[egg.clone(), bread.clone(), egg.clone(), meal("")]).await, [3, 1, 0, 0]);
    assert_eq!(send("ann", &[meal(""), bread.clone(), egg.clone()]).await, [0, 3, 0, 0]);
    // This event was imported by a version whose ids did not depend on the food. The egg is matched with it
    // by that id, and the bread is not.
    assert_eq!(send("bob", &[meal("")]).await, [1, 0, 0, 0]);
    let old = "UPDATE event SET properties = '{\"metadata\":{\"HKFoodType\":\"Egg\"},\"sourceName\":\"Food\",\
        \"unit\":\"kcal\",\"value\":100}' WHERE user_id = (SELECT user_id FROM account WHERE subject = 'bob')";
    server.execute(old).await;
    // The UPDATE above did not change the content hash, so the egg is a differing duplicate.
    assert_eq!(send("bob", &[egg.clone(), bread.clone()]).await, [1, 0, 1, 0]);
    assert_eq!(send("bob", &[bread.clone(), egg.clone()]).await, [0, 1, 1, 0]);
    let delete = "mutation($id: ID!) { deleteEvent(input: { id: $id }) { result { outcome } } }";
    for event in events(&server.client("bob")).await {
        server.client("bob").ask(delete, json!({ "id": event["id"] })).await;
    }
    assert_eq!(send("bob", &[egg, bread]).await, [0, 0, 0, 0], "events that the user deleted stay deleted");
}
