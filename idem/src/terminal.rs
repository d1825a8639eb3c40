//! What is printed to a terminal.

/// Makes text that others have written safe for a terminal: control characters, which could move the cursor or set
/// colours, become escapes.
pub(crate) fn escape_control_characters(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}
