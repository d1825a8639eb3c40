//! Text as a search compares it: two texts that differ in case alone, or in how a letter with an accent is written down,
//! are one (Unicode, section 3.13.5, canonical caseless matching).

use std::borrow::Cow;

use icu_casemap::CaseMapper;
use unicode_normalization::UnicodeNormalization;

/// Folds case as the Unicode standard does, whatever stands around a letter: `ΠΑΣ`, `πας` and `πασ` are one text, and so
/// are `Straße` and `STRASSE`. The result is in NFC, so that no letter is found in half of another one.
#[must_use]
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Some letters fold into others only once they are taken apart, and folding leaves some not in order.
    let apart: String = text.nfd().collect();
    let folded: Cow<'_, str> = CaseMapper::new().fold_string(&apart);
    folded.nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_case_alone_is_one() {
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
    fn the_beginning_of_a_word_is_found_in_it_and_a_letter_is_not_found_in_another() {
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
