//! Pins the content hashes of stored rows. A row that is stored keeps its hash, so a change of these values
//! would make every event that is sent again differ. The values were computed by another program.

use domain::content_hash::{TypeKey, hash_event, hash_event_type};
use domain::row::{EventBody, Location};
use uuid::{Uuid, uuid};

const TYPE_ID: Uuid = uuid!("019b6fff-0000-7000-8000-000000000001");

fn hex(hash: [u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_hash_of_an_event_without_optional_fields_stays_as_it_is() {
    let body =
        EventBody { timestamp: 1_764_547_200_000, properties: "{}".to_owned(), ..EventBody::default() };
    assert_eq!(
        hex(hash_event(TypeKey::Id(TYPE_ID), "manual", None, &body)),
        "fb6b3b92b8f3bea41e5b584f73a5eb141c026279180dd7a01f028d1b4cb64136"
    );
}

#[test]
fn the_hash_of_an_event_with_all_fields_stays_as_it_is() {
    let body = EventBody {
        timestamp: 1_764_547_200_000,
        end_date: Some(1_764_550_800_000),
        is_all_day: true,
        time_zone: Some("Europe/Berlin".to_owned()),
        notes: Some("Grüße".to_owned()),
        location: Some(Location { latitude: 52.5, longitude: -13.25, name: Some("Park".to_owned()) }),
        properties: r#"{"a":1}"#.to_owned(),
    };
    assert_eq!(
        hex(hash_event(TypeKey::Id(TYPE_ID), "watch", Some("run-1"), &body)),
        "e26ec3e325101c3c46c49a5b186cc747e5fc073a71f7c51abe2adea19c3f20e4"
    );
}

#[test]
fn the_hash_of_an_event_type_stays_as_it_is() {
    assert_eq!(
        hex(hash_event_type("Run", Some("#ff0000"), None)),
        "022e3017a9e02acf6202ec39a6d5d0ef3330d4c3e19d032b3ec66628730a5374"
    );
}
