//! Names the payload objects of an import.
//!
//! A name has the number and a digest of the content. So the row of an import says which bytes are its
//! payload, and two clients that send different bytes at the same time store different objects.

use sha2::{Digest, Sha256};

/// How many bytes of the SHA-256 of its content are in the name of a payload object.
const DIGEST_BYTES: usize = 8;

/// The names of the objects in which the payload of an import is stored, as the row of the import has them.
///
/// They are a list of digests, separated by commas and ordered by the number of the object. If a digest is
/// empty or missing, the name of the object is only its number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PayloadObjects(String);

impl PayloadObjects {
    /// Makes the names from the text that the row of an import has. The text is not checked.
    #[must_use]
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    /// The names as the text that the row of an import stores.
    #[must_use]
    pub fn as_text(&self) -> &str {
        &self.0
    }

    /// The name of the object with this number, counted from 0: `number-digest`, or only the number if its
    /// digest is not known.
    #[must_use]
    pub fn object_name(&self, number: u64) -> String {
        let part = usize::try_from(number).ok().and_then(|number| self.0.split(',').nth(number));
        match part {
            None | Some("") => number.to_string(),
            Some(digest) => format!("{number}-{digest}"),
        }
    }

    /// A copy of the names with one more object, which has these bytes, and the name of that object. It does
    /// not store the object.
    #[must_use]
    pub fn with_object_added(&self, number: u64, bytes: &[u8]) -> (Self, String) {
        let part_count = if self.0.is_empty() { 0 } else { self.0.split(',').count() };
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let mut text = self.0.clone();
        text.extend(std::iter::repeat_n(',', index.saturating_sub(part_count.max(1))));
        if number > 0 {
            text.push(',');
        }
        text += &hex::encode(&Sha256::digest(bytes)[..DIGEST_BYTES]);
        let objects = Self(text);
        let name = objects.object_name(number);
        (objects, name)
    }
}

#[cfg(test)]
mod tests {
    use super::PayloadObjects;

    #[test]
    fn an_object_is_named_by_its_number_and_its_content() {
        let none = PayloadObjects::default();
        assert_eq!((none.object_name(0), none.object_name(7)), ("0".to_owned(), "7".to_owned()));
        let (one, first) = none.with_object_added(0, b"a");
        let (_, other) = none.with_object_added(0, b"b");
        assert!(first.starts_with("0-") && first.len() == 18 && first != other);
        let (two, second) = one.with_object_added(1, b"a");
        assert_eq!((two.object_name(0), two.object_name(1)), (first.clone(), second));
        assert_eq!((two.object_name(2), one.object_name(1)), ("2".to_owned(), "1".to_owned()));
        assert_eq!(PayloadObjects::from_text(two.as_text().to_owned()), two);
    }

    #[test]
    fn objects_from_before_names_had_digests_keep_their_numbers() {
        for unnamed in 1..4 {
            let (objects, name) = PayloadObjects::default().with_object_added(unnamed, b"a");
            assert_eq!(objects.object_name(unnamed), name, "{objects:?}");
            assert!(
                (0..unnamed).all(|number| objects.object_name(number) == number.to_string()),
                "{objects:?}"
            );
            let (more, last) = objects.with_object_added(unnamed + 1, b"b");
            assert_eq!((more.object_name(unnamed), more.object_name(unnamed + 1)), (name, last));
        }
    }
}
