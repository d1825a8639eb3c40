//! Pieces of JSON text, for those who put `properties` together from text that is not JSON.

/// Significant digits that a 64-bit float tells apart.
const EXACT_DIGITS_MAX: usize = 17;

/// Whether text is a JSON number (RFC 8259, section 6) that is finite as a 64-bit float.
#[must_use]
pub fn is_number(text: &str) -> bool {
    split(text).is_some() && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whether text is a JSON number that is kept as it is written: a whole number of 64 bits, or decimals
/// without an exponent that a 64-bit float tells apart. What looks like `007` or `1e5` is a name.
#[must_use]
pub fn is_plain_number(text: &str) -> bool {
    match split(text) {
        Some(Number { whole, fraction: None, exponent: None }) => {
            whole.parse::<i64>().is_ok() || whole.parse::<u64>().is_ok()
        }
        Some(Number { whole, fraction: Some(fraction), exponent: None }) => {
            let digits = whole.trim_start_matches('-').trim_start_matches('0').len() + fraction.len();
            digits <= EXACT_DIGITS_MAX
        }
        _ => false,
    }
}

struct Number<'t> {
    /// With its sign.
    whole: &'t str,
    fraction: Option<&'t str>,
    exponent: Option<&'t str>,
}

/// The parts of a JSON number; none when it is not one.
fn split(text: &str) -> Option<Number<'_>> {
    if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return None;
    }
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let is_right = are_digits(digits)
        && (digits == "0" || !digits.starts_with('0'))
        && fraction.is_none_or(are_digits)
        && exponent.is_none_or(|exponent| are_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)));
    is_right.then_some(Number { whole, fraction, exponent })
}

/// Adds text as a JSON string.
pub fn push_text(out: &mut String, text: &str) {
    let is_plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::to_string(text).expect("text is JSON"));
    }
}

/// Adds the name of a field, and the comma before it unless it is the first of its object.
pub fn push_key(out: &mut String, key: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    push_text(out, key);
    out.push(':');
}
