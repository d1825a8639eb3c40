//! The doubled hour of autumn. Clocks show each of its times twice, and only the order of the rows tells which is meant:
//! where rows run on in order of time, one that steps back within that hour is in the second pass of it.
//!
//! What rows were read so far decides, and nothing else, so that a file is read alike however often it is begun.

use std::cmp::Ordering;

use chrono::{NaiveDateTime, TimeDelta};

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
    /// The steps between rows outside of doubled hours, as long as they are all the same.
    steps: Steps,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Steps {
    #[default]
    None,
    /// So many of the same length.
    Even(TimeDelta, u32),
    Uneven,
}

/// A repeated time is the second pass only behind so many even steps.
const EVEN_STEPS_MIN: u32 = 2;

impl Clock {
    /// The next row has this time. Returns which instant is meant if clocks show it twice.
    pub(super) fn follow(&mut self, local: NaiveDateTime, is_shown_twice: bool) -> Option<Fold> {
        if self.last.is_some_and(|last| last.date() != local.date()) {
            // Not the same doubled hour.
            self.pass = None;
        }
        let step = self.last.map(|last| local - last);
        // Within a doubled hour, and on the way out of it, clocks tell no order.
        if let Some(step) = step.filter(|_| self.pass.is_none()) {
            self.learn(step);
        }
        self.pass = is_shown_twice.then(|| self.fold(step));
        self.last = Some(local);
        self.pass
    }

    fn learn(&mut self, step: TimeDelta) {
        let order = step.cmp(&TimeDelta::zero());
        if order != Ordering::Equal {
            self.is_mixed |= self.order.is_some_and(|known| known != order);
            self.order.get_or_insert(order);
        }
        self.steps = match self.steps {
            Steps::None => Steps::Even(step, 1),
            Steps::Even(even, count) if even == step => Steps::Even(even, count.saturating_add(1)),
            _ => Steps::Uneven,
        };
    }

    fn fold(&self, step: Option<TimeDelta>) -> Fold {
        let Some(order) = self.order.filter(|_| !self.is_mixed) else {
            return Fold::Earlier;
        };
        let is_descending = order == Ordering::Less;
        let (first, second) =
            if is_descending { (Fold::Later, Fold::Earlier) } else { (Fold::Earlier, Fold::Later) };
        let Some(pass) = self.pass else { return first };
        let turns_back = match step.map(|step| step.cmp(&TimeDelta::zero())) {
            // Every hour there was one row, and now there is one at the same time again.
            Some(Ordering::Equal) => matches!(self.steps, Steps::Even(even, count)
                if !even.is_zero() && count >= EVEN_STEPS_MIN),
            Some(step) => step != order,
            None => false,
        };
        if turns_back { second } else { pass }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows at minutes of days whose hour from 120 to 179 is doubled.
    fn folds(minutes: &[u32]) -> String {
        let mut clock = Clock::default();
        let day = chrono::NaiveDate::from_ymd_opt(2024, 10, 27).expect("a date");
        let fold = |minutes: &u32| {
            let (day, minute) = (day + TimeDelta::days(i64::from(minutes / 1_440)), minutes % 1_440);
            let local = day.and_hms_opt(minute / 60, minute % 60, 0).expect("a time");
            let is_shown_twice = (120..180).contains(&minute);
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
        assert_eq!(folds(&[60, 90, 150, 200]), "--e-", "one pass only");
        assert_eq!(folds(&[1_500, 1_570, 1_580, 1_561, 1_700]), "-eel-", "of another day");
        assert_eq!(folds(&[100, 150, 121, 1_570, 1_580]), "-elee", "each doubled hour begins anew");
    }

    #[test]
    fn rows_may_run_backwards() {
        assert_eq!(folds(&[240, 200, 150, 120, 150, 120, 60]), "--llee-");
        assert_eq!(folds(&[180, 150, 120, 150, 120, 60]), "-llee-");
    }

    #[test]
    fn a_time_that_is_repeated_is_the_later_one_only_where_steps_are_even() {
        assert_eq!(folds(&[0, 60, 120, 120, 180]), "--el-");
        assert_eq!(folds(&[300, 240, 180, 120, 120, 60]), "---le-");
        assert_eq!(folds(&[60, 150, 150, 165, 190]), "-eee-", "they may as well be two rows of one moment");
    }

    #[test]
    fn rows_without_an_order_are_all_in_the_earlier_pass() {
        assert_eq!(folds(&[60, 90, 30, 150, 120, 150]), "---eee");
        assert_eq!(folds(&[60, 60, 90, 120, 120, 150]), "---eee", "several rows have one time");
        assert_eq!(folds(&[150, 120, 150, 180]), "eee-", "nothing is known before them");
    }
}
