//! The names of the objects of a payload. Each is named by its number and its content, so that a row of an import says
//! which bytes are its payload: two senders who send different bytes at once store different objects.

use sha2::{Digest, Sha256};

/// Bytes of a digest that are part of a name.
const DIGEST_BYTES: usize = 8;

/// What the row of an import holds of the names: one part an object, by number. An empty part, and one that is not
/// there, stand for an object that is named by its number alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PayloadObjects(String);

impl PayloadObjects {
    /// As it is stored.
    #[must_use]
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    /// To be stored.
    #[must_use]
    pub fn as_text(&self) -> &str {
        &self.0
    }

    /// The name of an object that is part of the payload.
    #[must_use]
    pub fn name(&self, number: u64) -> String {
        let part = usize::try_from(number).ok().and_then(|number| self.0.split(',').nth(number));
        match part {
            None | Some("") => number.to_string(),
            Some(digest) => format!("{number}-{digest}"),
        }
    }

    /// With one object more, and its name.
    #[must_use]
    pub fn with(&self, number: u64, bytes: &[u8]) -> (Self, String) {
        let parts = if self.0.is_empty() { 0 } else { self.0.split(',').count() };
        let number_of_parts = usize::try_from(number).unwrap_or(usize::MAX);
        let mut text = self.0.clone();
        text.extend(std::iter::repeat_n(',', number_of_parts.saturating_sub(parts.max(1))));
        if number > 0 {
            text.push(',');
        }
        text += &hex::encode(&Sha256::digest(bytes)[..DIGEST_BYTES]);
        let objects = Self(text);
        let name = objects.name(number);
        (objects, name)
    }
}

#[cfg(test)]
mod tests {
    use super::PayloadObjects;

    #[test]
    fn an_object_is_named_by_its_number_and_its_content() {
        let none = PayloadObjects::default();
        assert_eq!((none.name(0), none.name(7)), ("0".to_owned(), "7".to_owned()));
        let (one, first) = none.with(0, b"a");
        let (_, other) = none.with(0, b"b");
        assert!(first.starts_with("0-") && first.len() == 18 && first != other);
        let (two, second) = one.with(1, b"a");
        assert_eq!((two.name(0), two.name(1)), (first.clone(), second));
        assert_eq!((two.name(2), one.name(1)), ("2".to_owned(), "1".to_owned()));
        assert_eq!(PayloadObjects::from_text(two.as_text().to_owned()), two);
    }

    #[test]
    fn objects_that_were_stored_before_they_had_names_keep_their_numbers() {
        for before in 1..4 {
            let (objects, name) = PayloadObjects::default().with(before, b"a");
            assert_eq!(objects.name(before), name, "{objects:?}");
            assert!((0..before).all(|number| objects.name(number) == number.to_string()), "{objects:?}");
            let (more, last) = objects.with(before + 1, b"b");
            assert_eq!((more.name(before), more.name(before + 1)), (name, last));
        }
    }
}
