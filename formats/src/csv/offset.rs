//! Reads offsets from UTC in the notations of people and databases.

/// Returns the seconds of the UTC offset with which a text begins, and the text after it; `None` if it begins
/// with none. The notations are `Z`, `+01`, `+0100` and `+01:00`, and the same with seconds. The minus sign
/// may be U+2212.
pub(super) fn read_utc_offset(text: &str) -> Option<(i32, &str)> {
    if let Some(rest) = text.strip_prefix(['Z', 'z']) {
        let is_word = rest.starts_with(|c: char| c.is_ascii_alphanumeric());
        return if is_word { None } else { Some((0, rest)) };
    }
    let (sign, rest) = match text.chars().next()? {
        '+' => (1, &text[1..]),
        '-' => (-1, &text[1..]),
        '\u{2212}' => (-1, &text['\u{2212}'.len_utf8()..]),
        _ => return None,
    };
    let (hours, mut rest) = read_two_digits(rest)?;
    let mut seconds = hours * 3_600;
    for unit in [60, 1] {
        let Some((number, more)) = read_two_digits(rest.strip_prefix(':').unwrap_or(rest)) else { break };
        if number > 59 {
            return None;
        }
        seconds += number * unit;
        rest = more;
    }
    let is_whole = hours < 24 && !rest.starts_with(|c: char| c.is_ascii_digit());
    is_whole.then_some((sign * seconds, rest))
}

fn read_two_digits(text: &str) -> Option<(i32, &str)> {
    let digits = text.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some((digits.parse().ok()?, &text[2..]))
}
