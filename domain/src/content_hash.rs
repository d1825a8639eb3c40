//! One SHA-256 over all that an input says except its id, after defaults and normalisation: two
//! inputs say the same if and only if their hashes are equal.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::row::EventBody;

/// The type of an event, as far as the hash is concerned.
#[derive(Debug, Clone, Copy)]
pub enum TypeKey<'a> {
    /// The canonical id.
    Id(Uuid),
    /// The name, where a record has only that.
    Name(&'a str),
}

/// The hash of an event.
#[must_use]
pub fn of_event(
    kind: TypeKey<'_>,
    source_type: &str,
    external_id: Option<&str>,
    body: &EventBody,
) -> [u8; 32] {
    let mut fields = Fields::default();
    match kind {
        TypeKey::Id(id) => fields.add(Some(id.as_bytes())),
        TypeKey::Name(name) => fields.add(Some(name.as_bytes())),
    }
    fields.add(Some(source_type.as_bytes()));
    fields.add(external_id.map(str::as_bytes));
    fields.add(Some(&body.timestamp.to_be_bytes()));
    fields.add(body.end_date.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    fields.add(Some(&[u8::from(body.is_all_day)]));
    fields.add(body.time_zone.as_deref().map(str::as_bytes));
    fields.add(body.notes.as_deref().map(str::as_bytes));
    match &body.location {
        None => fields.add(None),
        Some(place) => {
            // Adding zero makes -0.0 and 0.0 one.
            fields.add(Some(&(place.latitude + 0.0).to_be_bytes()));
            fields.add(Some(&(place.longitude + 0.0).to_be_bytes()));
            fields.add(place.name.as_deref().map(str::as_bytes));
        }
    }
    fields.add(Some(body.properties.as_bytes()));
    fields.finish()
}

/// The hash of an event type.
#[must_use]
pub fn of_type(name: &str, color: Option<&str>, icon: Option<&str>) -> [u8; 32] {
    let mut fields = Fields::default();
    fields.add(Some(name.as_bytes()));
    fields.add(color.map(str::as_bytes));
    fields.add(icon.map(str::as_bytes));
    fields.finish()
}

/// Fields with their lengths, so that no two lists of fields give the same bytes.
#[derive(Default)]
struct Fields(Sha256);

impl Fields {
    fn add(&mut self, field: Option<&[u8]>) {
        match field {
            None => self.0.update([0]),
            Some(bytes) => {
                self.0.update([1]);
                self.0.update(u64::try_from(bytes.len()).expect("a length fits").to_be_bytes());
                self.0.update(bytes);
            }
        }
    }

    fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}
