//! The doubled hour of autumn. Clocks show each of its times twice, and only the order of the rows tells which is meant:
//! where rows run on in order of time, one that seems to go back is in the second pass.

use std::cmp::Ordering;

use chrono::NaiveDateTime;

/// Which of the two instants is meant by a time that clocks show twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    /// The one before the clocks are set back.
    Earlier,
    /// The one after it.
    Later,
}

/// What the rows so far tell of their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock {
    last: Option<NaiveDateTime>,
    /// The last row is in a doubled hour, and in this pass of it.
    pass: Option<Fold>,
    /// How rows follow each other outside of doubled hours: `None` before two were seen.
    order: Option<Ordering>,
    /// Some rows contradict that order.
    is_mixed: bool,
    /// Some rows have the time of the row before.
    has_equals: bool,
}

impl Clock {
    /// The next row has this time. Returns which instant is meant if clocks show it twice.
    pub(super) fn follow(&mut self, local: NaiveDateTime, is_shown_twice: bool) -> Option<Fold> {
        let step = self.last.map(|last| local.cmp(&last));
        // Within a doubled hour, and on the way out of it, clocks tell no order.
        if let Some(step) = step.filter(|_| self.pass.is_none()) {
            if step == Ordering::Equal {
                self.has_equals = true;
            } else {
                self.is_mixed |= self.order.is_some_and(|order| order != step);
                self.order.get_or_insert(step);
            }
        }
        self.pass = is_shown_twice.then(|| self.fold(step));
        self.last = Some(local);
        self.pass
    }

    fn fold(&self, step: Option<Ordering>) -> Fold {
        if self.is_mixed {
            return Fold::Earlier;
        }
        let is_descending = self.order == Some(Ordering::Less);
        let (first, second) =
            if is_descending { (Fold::Later, Fold::Earlier) } else { (Fold::Earlier, Fold::Later) };
        let Some(pass) = self.pass else { return first };
        let turns_back = match step {
            Some(Ordering::Equal) => self.order.is_some() && !self.has_equals,
            Some(step) => step == if is_descending { Ordering::Greater } else { Ordering::Less },
            None => false,
        };
        if turns_back { second } else { pass }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows at minutes of a day whose hour from 120 to 179 is doubled.
    fn folds(minutes: &[u32]) -> String {
        let mut clock = Clock::default();
        let day = chrono::NaiveDate::from_ymd_opt(2024, 10, 27).expect("a date");
        let fold = |minute: &u32| {
            let local = day.and_hms_opt(minute / 60, minute % 60, 0).expect("a time");
            let is_shown_twice = (120..180).contains(minute);
            match clock.follow(local, is_shown_twice) {
                None => '-',
                Some(Fold::Earlier) => 'e',
                Some(Fold::Later) => 'l',
            }
        };
        minutes.iter().map(fold).collect()
    }

    #[test]
    fn rows_that_run_on_in_order_are_in_the_earlier_pass_and_then_in_the_later_one() {
        assert_eq!(folds(&[60, 90, 120, 150, 120, 150, 180]), "--eell-");
        assert_eq!(folds(&[0, 60, 120, 120, 180]), "--el-");
        assert_eq!(folds(&[120, 150, 120, 150, 180]), "eell-", "nothing is known before them");
        assert_eq!(folds(&[60, 90, 150, 200]), "--e-", "one pass only");
    }

    #[test]
    fn rows_may_run_backwards() {
        assert_eq!(folds(&[240, 200, 150, 120, 150, 120, 60]), "--llee-");
        assert_eq!(folds(&[240, 180, 120, 120, 60]), "--le-");
    }

    #[test]
    fn rows_without_an_order_are_all_in_the_earlier_pass() {
        assert_eq!(folds(&[60, 90, 30, 150, 120, 150]), "---eee");
        assert_eq!(folds(&[60, 60, 90, 120, 120, 150]), "---eee", "several rows have one time");
    }
}
