//! Computes the content hash of events and event types.
//!
//! It is one SHA-256 of all fields except the id, after defaults and normalisation. Two inputs have the same
//! content if and only if their hashes are equal.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::row::EventBody;

/// The value that stands for the event type in the content hash of an event.
#[derive(Debug, Clone, Copy)]
pub enum TypeKey<'a> {
    /// The canonical id of the type. The hash of a stored event always has it.
    Id(Uuid),
    /// The name of the type. It is used only to derive the id of a record that names its type.
    Name(&'a str),
}

/// The SHA-256 of the content of an event: all fields except its own id.
#[must_use]
pub fn hash_event(
    type_key: TypeKey<'_>,
    source_type: &str,
    external_id: Option<&str>,
    body: &EventBody,
) -> [u8; 32] {
    let mut fields = Fields::default();
    match type_key {
        TypeKey::Id(id) => fields.add_field(Some(id.as_bytes())),
        TypeKey::Name(name) => fields.add_field(Some(name.as_bytes())),
    }
    fields.add_field(Some(source_type.as_bytes()));
    fields.add_field(external_id.map(str::as_bytes));
    fields.add_field(Some(&body.timestamp.to_be_bytes()));
    fields.add_field(body.end_date.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    fields.add_field(Some(&[u8::from(body.is_all_day)]));
    fields.add_field(body.time_zone.as_deref().map(str::as_bytes));
    fields.add_field(body.notes.as_deref().map(str::as_bytes));
    match &body.location {
        None => fields.add_field(None),
        Some(location) => {
            // Adding zero turns -0.0 into 0.0, so that both have the same hash.
            fields.add_field(Some(&(location.latitude + 0.0).to_be_bytes()));
            fields.add_field(Some(&(location.longitude + 0.0).to_be_bytes()));
            fields.add_field(location.name.as_deref().map(str::as_bytes));
        }
    }
    fields.add_field(Some(body.properties.as_bytes()));
    fields.into_hash()
}

/// The SHA-256 of the content of an event type: all fields except its id.
#[must_use]
pub fn hash_event_type(name: &str, color: Option<&str>, icon: Option<&str>) -> [u8; 32] {
    let mut fields = Fields::default();
    fields.add_field(Some(name.as_bytes()));
    fields.add_field(color.map(str::as_bytes));
    fields.add_field(icon.map(str::as_bytes));
    fields.into_hash()
}

/// Hashes fields with their lengths, so that two different lists of fields are never the same input.
#[derive(Default)]
struct Fields(Sha256);

impl Fields {
    fn add_field(&mut self, field: Option<&[u8]>) {
        match field {
            None => self.0.update([0]),
            Some(bytes) => {
                self.0.update([1]);
                self.0.update(u64::try_from(bytes.len()).expect("a length fits").to_be_bytes());
                self.0.update(bytes);
            }
        }
    }

    fn into_hash(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}
