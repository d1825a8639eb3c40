//! Reads numbers in the notations of the cells of a CSV.

use std::borrow::Cow;

use domain::json_text;

/// The decimal separator of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DecimalSeparator {
    /// A decimal point.
    Point,
    /// A decimal comma. Points separate groups of three digits. A cell with points alone, such as `1.234`, is
    /// not a number, because it may also be a version or a date.
    Comma,
}

impl DecimalSeparator {
    /// A cell as the text of a JSON number. `None` if it is not a number, or if a digit would be lost when it
    /// is stored.
    pub(super) fn to_json_number(self, cell: &str) -> Option<Cow<'_, str>> {
        self.with_decimal_point(cell).filter(|number| json_text::is_lossless_number(number))
    }

    /// A cell as a number of degrees; `None` if it is not a finite number. The range is not checked.
    pub(super) fn parse_degrees(self, cell: &str) -> Option<f64> {
        let cell = cell.trim_ascii();
        let number = self.with_decimal_point(cell.strip_prefix('+').unwrap_or(cell))?;
        if json_text::is_finite_number(&number) { number.parse().ok() } else { None }
    }

    /// A cell with a decimal point, and without separators of groups. `None` if its points and commas are not
    /// those of a number. The other characters are not checked.
    fn with_decimal_point(self, cell: &str) -> Option<Cow<'_, str>> {
        if self == Self::Point {
            return Some(Cow::Borrowed(cell));
        }
        let Some((whole, fraction)) = cell.split_once(',') else {
            return (!cell.contains('.')).then_some(Cow::Borrowed(cell));
        };
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        let mut groups = digits.split('.');
        let is_grouped = groups.next().is_some_and(|first| (1..=3).contains(&first.len()))
            && groups.all(|group| group.len() == 3);
        let is_number = (is_grouped || !digits.contains('.')) && !fraction.contains('.');
        is_number.then(|| Cow::Owned(format!("{}.{fraction}", whole.replace('.', ""))))
    }
}
