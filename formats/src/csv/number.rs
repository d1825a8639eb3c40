//! Numbers as the cells of a CSV write them.

use std::borrow::Cow;

use domain::json_text;

/// How the numbers of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    /// With a decimal point.
    Point,
    /// With a decimal comma. Points group the digits by three; where only points are, as in `1.234`, it is no number,
    /// for nothing tells a group from a version or a date.
    Comma,
}

impl Numbers {
    /// A cell as a number of JSON, if it is one that is kept as it is written.
    pub(super) fn plain(self, cell: &str) -> Option<Cow<'_, str>> {
        self.json(cell).filter(|number| json_text::is_plain_number(number))
    }

    /// A cell as degrees.
    pub(super) fn degrees(self, cell: &str) -> Option<f64> {
        let cell = cell.trim_ascii();
        let number = self.json(cell.strip_prefix('+').unwrap_or(cell))?;
        if json_text::is_number(&number) { number.parse().ok() } else { None }
    }

    /// A cell with a decimal point. What it then is, is not asked.
    fn json(self, cell: &str) -> Option<Cow<'_, str>> {
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
        let is_right = (is_grouped || !digits.contains('.')) && !fraction.contains('.');
        is_right.then(|| Cow::Owned(format!("{}.{fraction}", whole.replace('.', ""))))
    }
}
