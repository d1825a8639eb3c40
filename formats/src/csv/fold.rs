//! Decides which instant an ambiguous local time means. Local times are ambiguous in the hour over which
//! clocks are set back: each of them occurs twice.
//!
//! Only the order of the rows can decide. If rows are in the order of time, a row that goes back within that
//! hour is in its second pass.
//!
//! The decision depends on the earlier rows of the file alone. So a file is read alike however often reading
//! is interrupted.

use std::cmp::Ordering;

use chrono::{NaiveDateTime, TimeDelta};

/// Which of two instants an ambiguous local time means (the fold of Python's PEP 495).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    /// The instant before the clocks are set back.
    Earlier,
    /// The instant after the clocks are set back.
    Later,
}

/// What the local times of the rows so far show about their order. This decides which instant an ambiguous
/// local time means.
#[derive(Debug, Clone, Default)]
pub(super) struct FoldTracker {
    last: Option<NaiveDateTime>,
    /// The pass of the ambiguous hour in which the last row is; `None` outside of such an hour.
    pass: Option<Fold>,
    /// Whether times ascend or descend from row to row outside of ambiguous hours; `None` before two
    /// different times were seen.
    order: Option<Ordering>,
    /// Whether times ascend between some rows and descend between others. Then the order says nothing about
    /// an ambiguous time.
    is_mixed: bool,
    /// The steps between rows outside of ambiguous hours, as long as they are all equal.
    steps: Steps,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Steps {
    #[default]
    None,
    /// Equal steps, and their number.
    Even(TimeDelta, u32),
    Uneven,
}

/// If two rows have the same ambiguous time, the second row is in the second pass only if at least this many
/// equal steps between rows came before.
const EVEN_STEPS_MIN: u32 = 2;

impl FoldTracker {
    /// Notes the local time of the next row. Returns which instant it means, and `None` if it is not
    /// ambiguous.
    pub(super) fn note_local_time_and_fold(
        &mut self,
        local: NaiveDateTime,
        is_ambiguous: bool,
    ) -> Option<Fold> {
        if self.last.is_some_and(|last| last.date() != local.date()) {
            // The ambiguous hour is over on another day.
            self.pass = None;
        }
        let step = self.last.map(|last| local - last);
        // Steps within an ambiguous hour, and out of it, show no order.
        if let Some(step) = step.filter(|_| self.pass.is_none()) {
            self.note_time_step(step);
        }
        self.pass = is_ambiguous.then(|| self.decide_fold(step));
        self.last = Some(local);
        self.pass
    }

    fn note_time_step(&mut self, step: TimeDelta) {
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

    fn decide_fold(&self, step: Option<TimeDelta>) -> Fold {
        let Some(order) = self.order.filter(|_| !self.is_mixed) else {
            return Fold::Earlier;
        };
        let is_descending = order == Ordering::Less;
        let (first, second) =
            if is_descending { (Fold::Later, Fold::Earlier) } else { (Fold::Earlier, Fold::Later) };
        let Some(pass) = self.pass else { return first };
        let goes_back = match step.map(|step| step.cmp(&TimeDelta::zero())) {
            // With one row per hour, a repeated time is the next row an hour later.
            Some(Ordering::Equal) => matches!(self.steps, Steps::Even(even, count)
                if !even.is_zero() && count >= EVEN_STEPS_MIN),
            Some(step) => step != order,
            None => false,
        };
        if goes_back { second } else { pass }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows at these minutes, where the hour from minute 120 to 179 of each day is ambiguous.
    fn folds(minutes: &[u32]) -> String {
        let mut tracker = FoldTracker::default();
        let day = chrono::NaiveDate::from_ymd_opt(2024, 10, 27).expect("a date");
        let fold = |minutes: &u32| {
            let (day, minute) = (day + TimeDelta::days(i64::from(minutes / 1_440)), minutes % 1_440);
            let local = day.and_hms_opt(minute / 60, minute % 60, 0).expect("a time");
            let is_ambiguous = (120..180).contains(&minute);
            match tracker.note_local_time_and_fold(local, is_ambiguous) {
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
        assert_eq!(folds(&[100, 150, 121, 1_570, 1_580]), "-elee", "each ambiguous hour begins anew");
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
