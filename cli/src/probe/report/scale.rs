//! Logarithmic scales, and where their ticks lie.

/// Most labels on an axis, so that they don't touch.
const LABELS_MAX: usize = 8;

/// A logarithmic scale from values to places on the page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LogScale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl LogScale {
    /// A scale that puts `low` at `from` and `high` at `to`. Values that no logarithm has are taken for the least.
    pub(super) fn new((low, high): (f64, f64), (from, to): (f64, f64)) -> Self {
        let low = if low.is_finite() && low > 0.0 {
            low
        } else {
            1.0
        };
        let high = if high.is_finite() && high > low {
            high
        } else {
            low * 2.0
        };
        LogScale {
            low,
            high,
            from,
            to,
        }
    }

    /// Where a value lies; what is beyond the ends lies at the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if value.is_finite() { value } else { self.low };
        let value = value.clamp(self.low, self.high);
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }
}

/// The powers of two from one value to another, and whether each has a label.
pub(super) fn powers_of_two(low: f64, high: f64) -> Vec<(f64, bool)> {
    let first = low.max(1.0).log2().round() as i32;
    let last = high.max(1.0).log2().round() as i32;
    let count = usize::try_from(last - first).unwrap_or_default() + 1;
    let step = count.div_ceil(LABELS_MAX);
    (0..count)
        .map(|i| (2f64.powi(first + i as i32), i.is_multiple_of(step)))
        .collect()
}

/// A range of 1, 2 or 5 times a power of ten that holds all values.
pub(super) fn round_range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let positive = values.filter(|value| value.is_finite() && *value > 0.0);
    let range = positive.fold(None, |range: Option<(f64, f64)>, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    });
    let Some((low, high)) = range else {
        return (1.0, 10.0);
    };
    let below = steps(low / 10.0, low * 1.001).into_iter().next_back();
    let above = steps(high * 0.999, high * 10.0).into_iter().next();
    let (low, high) = (below.unwrap_or(low), above.unwrap_or(high));
    // A flat curve lies in the middle of something.
    if high / low < 4.0 {
        (low / 2.0, high * 2.0)
    } else {
        (low, high)
    }
}

/// Where ticks lie within a range: at 1, 2 and 5 times the powers of ten, or at these alone where that is too many.
pub(super) fn decimal_ticks(low: f64, high: f64) -> Vec<f64> {
    let all = steps(low * 0.999, high * 1.001);
    if all.len() <= LABELS_MAX {
        return all;
    }
    let is_decade = |value: &f64| (value.log10() - value.log10().round()).abs() < 1e-6;
    all.into_iter().filter(is_decade).collect()
}

/// 1, 2 and 5 times the powers of ten within a range.
fn steps(low: f64, high: f64) -> Vec<f64> {
    let first = low.max(1e-9).log10().floor() as i32;
    let last = high.max(1e-9).log10().ceil() as i32;
    (first..=last)
        .flat_map(|exponent| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(exponent)))
        .filter(|value| (low..=high).contains(value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ratios_are_equal_distances() {
        let scale = LogScale::new((1.0, 1000.0), (0.0, 300.0));
        assert!((scale.place(10.0) - 100.0).abs() < 1e-9);
        assert!((scale.place(100.0) - 200.0).abs() < 1e-9);
        assert_eq!((scale.place(0.0), scale.place(1e9)), (0.0, 300.0));
    }

    #[test]
    fn nothing_odd_leaves_the_page() {
        for (low, high) in [
            (0.0, 0.0),
            (f64::NAN, 1.0),
            (5.0, 5.0),
            (9.0, 1.0),
            (1.0, f64::INFINITY),
        ] {
            let scale = LogScale::new((low, high), (10.0, 20.0));
            for value in [f64::NAN, f64::INFINITY, -1.0, 0.0, 7.0] {
                let place = scale.place(value);
                assert!(
                    (10.0..=20.0).contains(&place),
                    "{low} {high} {value}: {place}"
                );
            }
        }
    }

    #[test]
    fn labels_stand_where_there_is_room() {
        let ticks = powers_of_two(4096.0, 4_194_304.0);
        assert_eq!(ticks.len(), 11);
        let labels: Vec<f64> = ticks
            .iter()
            .filter(|tick| tick.1)
            .map(|tick| tick.0)
            .collect();
        assert_eq!(labels.len(), 6);
        assert_eq!(labels.first(), Some(&4096.0));
        assert!(powers_of_two(1.0, 128.0).iter().all(|tick| tick.1));
    }

    #[test]
    fn ranges_are_round_and_hold_their_values() {
        assert_eq!(round_range([12.0, 830.0].into_iter()), (10.0, 1000.0));
        let (low, high) = round_range([100.0, 100.0].into_iter());
        assert!(low < 100.0 && high > 100.0);
        assert_eq!(round_range([f64::NAN, 0.0].into_iter()), (1.0, 10.0));
        assert_eq!(decimal_ticks(10.0, 100.0), [10.0, 20.0, 50.0, 100.0]);
        assert!(decimal_ticks(1.0, 1e6).len() <= LABELS_MAX);
    }
}
