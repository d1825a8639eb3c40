//! The clocks of all time zones: the calendar of statistics finds every change of them.
//!
//! `TESTS_FULL` checks all zones of the database, otherwise every twentieth.

use chrono_tz::TZ_VARIANTS;
use domain::stats::calendar::{Calendar, HOUR_MS};

/// The years 1900 to 2099, in epoch milliseconds.
const START: i64 = -2_208_988_800_000;
const END: i64 = 4_102_444_800_000;

#[test]
fn every_change_of_a_clock_is_found() {
    let step = if std::env::var_os("TESTS_FULL").is_some() { 1 } else { 20 };
    for zone in TZ_VARIANTS.iter().step_by(step) {
        let calendar = Calendar::new(*zone, 0);
        let mut found = Vec::new();
        let mut at = START;
        while let Some(change) = calendar.next_change(at, END) {
            assert_ne!(
                calendar.offset(change),
                calendar.offset(change - 1),
                "{zone}: {change} is the first instant"
            );
            found.push(change);
            at = change;
        }
        // The other way is slow, but misses only a clock that is set forth and back within an hour.
        let (mut hourly, mut offset) = (Vec::new(), calendar.offset(START));
        for hour in (START + HOUR_MS..END).step_by(3_600_000) {
            let next = calendar.offset(hour);
            if next != offset {
                hourly.push(hour);
                offset = next;
            }
        }
        assert_eq!(hourly.len(), found.len(), "{zone}");
        assert!(
            hourly.iter().zip(&found).all(|(hour, change)| (0..HOUR_MS).contains(&(hour - change))),
            "{zone}"
        );
    }
}
