//! Sums of many numbers that do not lose digits on the way.

/// Numbers from this size on are summed in units of [`LARGE_UNIT`], so that no sum of them overflows.
const LARGE_FROM: f64 = f64::from_bits((1023 + 900) << 52);
/// 2^128. A sum of large numbers is counted in units of this.
const LARGE_UNIT: f64 = f64::from_bits((1023 + 128) << 52);

/// The sum, the smallest and the largest of some numbers.
///
/// The sum of integers is exact while the sum of their absolute values is at most 2^53. Any sum differs from the
/// true one by less than 10^-12 of the sum of the absolute values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sum {
    count: u64,
    small: Accumulator,
    /// In units of [`LARGE_UNIT`].
    large: Accumulator,
    minimum: f64,
    maximum: f64,
}

impl Default for Sum {
    fn default() -> Self {
        let (minimum, maximum) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { count: 0, small: Accumulator::default(), large: Accumulator::default(), minimum, maximum }
    }
}

impl Sum {
    /// Adds one number, which must be finite.
    pub fn add(&mut self, number: f64) {
        // Minus zero becomes zero.
        let number = number + 0.0;
        self.add_part(number);
        self.add_extremes(1, number, number);
    }

    /// Adds a part of the sum of numbers whose count and extremes are added by [`Self::add_extremes`].
    pub fn add_part(&mut self, part: f64) {
        if part.abs() < LARGE_FROM {
            self.small.add(part);
        } else {
            self.large.add(part / LARGE_UNIT);
        }
    }

    /// Adds the count of some numbers, the smallest and the largest of them, but not their sum.
    pub fn add_extremes(&mut self, count: u64, minimum: f64, maximum: f64) {
        self.count += count;
        self.minimum = self.minimum.min(minimum + 0.0);
        self.maximum = self.maximum.max(maximum + 0.0);
    }

    /// Adds all numbers of another sum.
    pub fn merge(&mut self, other: &Self) {
        for (to, from) in [(&mut self.small, other.small), (&mut self.large, other.large)] {
            to.add(from.high);
            to.add(from.low);
        }
        self.add_extremes(other.count, other.minimum, other.maximum);
    }

    /// How many numbers there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum. If it is beyond the range of `f64`, the largest finite number of its sign.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.divided_by(1.0)
    }

    /// The average; 0 of no numbers.
    #[must_use]
    pub fn average(&self) -> f64 {
        self.divided_by(self.count.max(1) as f64)
    }

    /// The smallest number.
    #[must_use]
    pub fn minimum(&self) -> f64 {
        self.minimum
    }

    /// The largest number.
    #[must_use]
    pub fn maximum(&self) -> f64 {
        self.maximum
    }

    fn divided_by(&self, divisor: f64) -> f64 {
        if self.large == Accumulator::default() {
            return self.small.value() / divisor + 0.0;
        }
        let mut all = self.large;
        all.add(self.small.high / LARGE_UNIT);
        all.add(self.small.low / LARGE_UNIT);
        let value = all.value() / divisor * LARGE_UNIT;
        value.clamp(f64::MIN, f64::MAX) + 0.0
    }
}

/// A sum whose rounding errors are summed as well (A. Neumaier, "Rundungsfehleranalyse einiger Verfahren zur
/// Summation endlicher Summen", ZAMM 54, 1974).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Accumulator {
    high: f64,
    low: f64,
}

impl Accumulator {
    fn add(&mut self, number: f64) {
        let sum = self.high + number;
        let part = sum - self.high;
        self.low += (self.high - (sum - part)) + (number - part);
        self.high = sum;
    }

    fn value(self) -> f64 {
        self.high + self.low
    }
}
