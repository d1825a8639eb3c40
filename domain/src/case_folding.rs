//! Folds text for searches, so that two texts that differ only in case are equal.
//!
//! The comparison is canonical caseless matching (Unicode, section 3.13.5). So the encoding of a letter with
//! an accent makes no difference either.

use std::borrow::Cow;

use icu_casemap::CaseMapper;
use unicode_normalization::UnicodeNormalization;

/// Folds case as the Unicode standard defines it, for comparisons that ignore case but not accents.
///
/// `ΠΑΣ`, `πας` and `πασ` become the same text, and so do `Straße` and `STRASSE`. The result is in NFC, so
/// that a search for a letter does not match the base of an accented one.
#[must_use]
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Some letters fold only after their decomposition (NFD), and folding can leave marks out of order.
    let decomposed: String = text.nfd().collect();
    let folded: Cow<'_, str> = CaseMapper::new().fold_string(&decomposed);
    folded.nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_only_in_case_are_equal() {
        for same in [
            &["ΠΑΣΧΑ", "πασχα", "Πασχα"][..],
            &["ΠΑΣ", "πας", "πασ"],
            &["Straße", "STRASSE", "strasse", "STRAẞE"],
            &["Café", "CAFÉ", "cafe\u{301}", "CAFE\u{301}"],
            &["Å", "\u{212b}", "a\u{30a}"],
            &["ᾳ", "ᾼ", "αι"],
            &["plain", "PLAIN"],
        ] {
            let folded: Vec<_> = same.iter().map(|text| fold(text)).collect();
            assert!(folded.windows(2).all(|pair| pair[0] == pair[1]), "{folded:?}");
        }
    }

    #[test]
    fn a_word_contains_its_beginning_and_an_accented_letter_does_not_contain_its_base() {
        assert!(fold("ΠΑΣΧΑ").contains(&fold("ΠΑΣ")));
        assert!(fold("Große Wäsche").contains(&fold("wäsche")));
        assert!(!fold("Café").contains(&fold("cafe")), "accents count");
    }

    #[test]
    fn folding_twice_is_folding_once() {
        for text in ["ΠΑΣ", "İstanbul", "ǰ", "ﬃ", "\u{345}\u{301}", "\u{1fb3}\u{301}", "ŉ"] {
            let once = fold(text);
            assert_eq!(fold(&once), once, "{text}");
        }
    }
}
