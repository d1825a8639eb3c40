//! Computes the content hash of events and event types.
//!
//! It is one SHA-256 of all fields except the id, after defaults and normalisation. Two inputs have the same
//! content if and only if their hashes are equal.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::row::EventBody;

/// What the hash of an event contains of its type.
#[derive(Debug, Clone, Copy)]
pub enum TypeKey<'a> {
    /// The canonical id.
    Id(Uuid),
    /// The name, if a record has no id of its type.
    Name(&'a str),
}

/// The hash of an event.
#[must_use]
pub fn of_event(
    type_key: TypeKey<'_>,
    source_type: &str,
    external_id: Option<&str>,
    body: &EventBody,
) -> [u8; 32] {
    let mut fields = Fields::default();
    match type_key {
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
        Some(location) => {
            // Adding zero turns -0.0 into 0.0, so that both have the same hash.
            fields.add(Some(&(location.latitude + 0.0).to_be_bytes()));
            fields.add(Some(&(location.longitude + 0.0).to_be_bytes()));
            fields.add(location.name.as_deref().map(str::as_bytes));
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

/// Hashes fields with their lengths, so that no two lists of fields give the same bytes.
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
