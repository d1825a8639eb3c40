//! Splits a pattern into its specifiers, and checks that together they give a date.

use chrono::format::StrftimeItems;

/// The letters of all supported specifiers.
const LETTERS: &str = "AaBbcDdeFfGgHhIjklMmnPpRrSsTtUuVvWwXxYyZz+%";

/// Specifiers that are short for others, each with what it stands for.
const COMPOSITES: [(&str, &str); 10] = [
    ("%D", "%m/%d/%y"),
    ("%F", "%Y-%m-%d"),
    ("%R", "%H:%M"),
    ("%T", "%H:%M:%S"),
    ("%X", "%H:%M:%S"),
    ("%c", "%a %b %e %H:%M:%S %Y"),
    ("%r", "%I:%M:%S %p"),
    ("%v", "%e-%b-%Y"),
    ("%x", "%m/%d/%y"),
    ("%+", "%Y-%m-%dT%H:%M:%S%.f%z"),
];

/// Specifiers of other libraries, and what to write instead.
const ALTERNATIVES: [(&str, &str); 8] = [
    ("%C", "%Y reads a year of four digits"),
    ("%q", "%m reads a month"),
    ("%L", "%f reads the digits of a fraction"),
    ("%N", "%f reads the digits of a fraction"),
    ("%Q", "unix_ms reads milliseconds since 1970"),
    ("%i", "%M reads minutes"),
    ("%E", "write it without E"),
    ("%O", "write it without O"),
];

/// Replaces the specifiers of a pattern that are short for others: `%F` becomes `%Y-%m-%d`.
///
/// # Errors
/// The detail of a problem if a specifier is unknown.
pub(super) fn expand_composites(text: &str) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    for token in split_into_tokens(text)? {
        let composite = COMPOSITES.iter().find(|(name, _)| *name == token);
        expanded.push_str(composite.map_or(token, |(_, whole)| whole));
    }
    Ok(expanded)
}

/// Splits a pattern into its specifiers and the texts between them.
///
/// # Errors
/// The detail of a problem if a specifier is unknown.
pub(super) fn split_into_tokens(text: &str) -> Result<Vec<&str>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let length = match rest.find('%') {
            Some(0) => specifier_length(rest)?,
            Some(at) => at,
            None => rest.len(),
        };
        let (token, more) = rest.split_at(length);
        tokens.push(token);
        rest = more;
    }
    Ok(tokens)
}

/// The length in bytes of the specifier with which a text begins. The text must begin with `%`.
///
/// # Errors
/// The detail of a problem if the specifier is unknown, with its alternative.
pub(super) fn specifier_length(text: &str) -> Result<usize, String> {
    let is_modifier = |c: char| matches!(c, '-' | '_' | '0' | ':' | '.' | '#' | '3' | '6' | '9');
    let after = text[1..].trim_start_matches(is_modifier);
    let Some(letter) = after.chars().next() else {
        return Err("ends within a specifier; write %% for a percent sign".to_owned());
    };
    let length = text.len() - after.len() + letter.len_utf8();
    let name = &text[..length];
    let is_known = LETTERS.contains(letter) && StrftimeItems::new(name).parse().is_ok();
    if is_known {
        return Ok(length);
    }
    let alternative = ALTERNATIVES.iter().find(|(other, _)| *other == name);
    let alternative = alternative.map_or(String::new(), |(_, advice)| format!("; {advice}"));
    Err(format!("has a specifier that is not known: {name}{alternative}"))
}

/// The letter of a specifier: `Y` of `%Y`. `None` for text that is not a specifier.
pub(super) fn specifier_letter(token: &str) -> Option<char> {
    token.strip_prefix('%')?.chars().last()
}

/// The letters of the specifiers of a pattern.
#[derive(Default)]
pub(super) struct SpecifierLetters(Vec<char>);

impl SpecifierLetters {
    pub(super) fn add_letter_of_token(&mut self, token: &str) {
        self.0.extend(specifier_letter(token));
    }

    fn has_any_letter(&self, letters: &str) -> bool {
        self.0.iter().any(|letter| letters.contains(*letter))
    }

    /// Checks that the pattern gives a whole date, and that no larger unit of its time is missing: minutes
    /// need an hour, for example.
    ///
    /// # Errors
    /// The detail of a problem: the missing part and its specifier.
    pub(super) fn check_date_and_time_complete(&self) -> Result<(), String> {
        let missing = |detail: &str| Err(detail.to_owned());
        if self.has_any_letter("s") {
            return Ok(());
        }
        let has_weekday = self.has_any_letter("aAuw");
        let is_week_date = self.has_any_letter("Gg") && self.has_any_letter("V") && has_weekday;
        if !is_week_date {
            if !self.has_any_letter("Yy") {
                return missing("has no year: add %Y, or %y for two digits");
            }
            let is_day = self.has_any_letter("de") && self.has_any_letter("mbBh");
            let is_week = self.has_any_letter("UW") && has_weekday;
            if !is_day && !is_week && !self.has_any_letter("j") {
                return missing("has no day: add %m and %d, or %j");
            }
        }
        match () {
            () if self.has_any_letter("Il") && !self.has_any_letter("pP") => {
                missing("has an hour of twelve without AM or PM: %I needs %p")
            }
            () if self.has_any_letter("pP") && !self.has_any_letter("IlHk") => {
                missing("has AM or PM without an hour: %p needs %I")
            }
            () if self.has_any_letter("M") && !self.has_any_letter("HIkl") => {
                missing("has minutes without an hour: %M needs %H")
            }
            () if self.has_any_letter("S") && !self.has_any_letter("M") => {
                missing("has seconds without minutes: %S needs %M")
            }
            () if self.has_any_letter("f") && !self.has_any_letter("S") => {
                missing("has a fraction without seconds: %f needs %S")
            }
            () => Ok(()),
        }
    }
}
