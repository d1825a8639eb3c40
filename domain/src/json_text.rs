//! Builds JSON text from values that are not JSON, such as the cells of a CSV.

/// The most significant digits that a 64-bit float can distinguish.
const EXACT_DIGITS_MAX: usize = 17;

/// Whether the text is a JSON number (RFC 8259, section 6) that is finite as a 64-bit float.
#[must_use]
pub fn is_finite_number(text: &str) -> bool {
    split_json_number(text).is_some() && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whether the text is a JSON number that loses nothing as a number.
///
/// That is an integer of 64 bits, or a decimal number without an exponent and with at most 17 significant
/// digits. Text such as `007` or `1e5` is a name and no number.
#[must_use]
pub fn is_lossless_number(text: &str) -> bool {
    match split_json_number(text) {
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
    /// The integer part, with its sign.
    whole: &'t str,
    fraction: Option<&'t str>,
    exponent: Option<&'t str>,
}

/// The parts of a JSON number. `None` if the text is not one.
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

/// Appends `text` as a JSON string.
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

/// Appends the name of a field, with the comma before it unless it is the first of its object.
pub fn push_json_key(out: &mut String, key: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    push_json_string(out, key);
    out.push(':');
}
