//! Builds JSON text from values that are not JSON, such as the cells of a CSV.

/// Every decimal number with this many significant digits is read back unchanged from a 64-bit float.
const EXACT_DIGITS_MAX: usize = 15;

/// Whether the text is a JSON number (RFC 8259, section 6) that is finite as a 64-bit float.
#[must_use]
pub fn is_finite_number(text: &str) -> bool {
    split_json_number(text).is_some() && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whether the text is a JSON number that is stored as a number, because no digit is lost.
///
/// That is an integer of 64 bits, or a decimal number without an exponent that a 64-bit float keeps exactly as
/// it is written, apart from zeros at its end. Other text, such as `007` or `1e5`, is more likely a name.
#[must_use]
pub fn is_lossless_number(text: &str) -> bool {
    match split_json_number(text) {
        Some(Number { whole, fraction: None, exponent: None }) => {
            whole.parse::<i64>().is_ok() || whole.parse::<u64>().is_ok()
        }
        Some(Number { whole, fraction: Some(fraction), exponent: None }) => {
            let digits = whole.trim_start_matches('-').trim_start_matches('0').len() + fraction.len();
            digits <= EXACT_DIGITS_MAX || is_kept_by_float(text)
        }
        _ => false,
    }
}

/// Whether a 64-bit float is written in the same way as this number with a fraction. Rust writes the shortest
/// text that is read back as the same float.
fn is_kept_by_float(text: &str) -> bool {
    let without_zeros = text.trim_end_matches('0').trim_end_matches('.');
    text.parse::<f64>().is_ok_and(|float| float.to_string() == without_zeros)
}

struct Number<'t> {
    /// The integer part, with its sign.
    whole: &'t str,
    fraction: Option<&'t str>,
    exponent: Option<&'t str>,
}

/// Splits a JSON number (RFC 8259, section 6) into its parts. `None` if the text is not one.
fn split_json_number(text: &str) -> Option<Number<'_>> {
    if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return None;
    }
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let is_valid = is_digits(digits)
        && (digits == "0" || !digits.starts_with('0'))
        && fraction.is_none_or(is_digits)
        && exponent.is_none_or(|exponent| is_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)));
    is_valid.then_some(Number { whole, fraction, exponent })
}

/// Appends `text` as a JSON string: in quotes, and escaped where that is needed.
pub fn push_json_string(out: &mut String, text: &str) {
    let is_plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::to_string(text).expect("text is JSON"));
    }
}

/// Appends the key of a field with the colon after it, and with a comma before it unless `out` ends with `{`.
pub fn push_json_key(out: &mut String, key: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    push_json_string(out, key);
    out.push(':');
}
