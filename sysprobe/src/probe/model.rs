//! Two laws of how bandwidth grows with a setting, and how a curve of measurements is fitted to them.
//!
//! **Saturation**: bandwidth(x) = B · x / (x + h). For block sizes this is a fixed cost beside the transfer of each I/O,
//! where h is the size that reaches half of the greatest bandwidth (n½ of Hockney and Jesshope, *Parallel Computers 2*,
//! 1988, §1.3). For I/Os under way it is the throughput of a balanced closed queueing network, with h + 1 stations
//! (Zahorjan and others, *Balanced job bound analysis of queueing networks*, 1982).
//!
//! **Cap**: the same, but never more than C < B: what a provider's limit of bandwidth, or a queue that is full, looks like.
//!
//! Both are fitted by least absolute deviations of the logarithm, so one point that met another tenant bends nothing.
//! The share of the maximum that a point reaches is decided by the law's parameters alone, which all points together
//! determine; reading it off the one or two points around 95 % instead would let their noise decide.

/// Steps of the search for h, for each doubling.
const STEPS_PER_OCTAVE: i32 = 5;
/// h is looked for from this many octaves below the smallest setting to as many above the greatest.
const OCTAVES_BEYOND: i32 = 6;
/// Logarithms of B / C that are tried.
const CAPS: [f64; 15] = [
    0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0,
];
/// By how much the summed deviations of the cap must be smaller before it is believed: a law with one parameter more
/// always fits a little better. Measured curves of uncapped disks gain up to 0.3, a clean cap 0.75.
const CAP_GAIN: f64 = 0.45;
/// How gradual the change from one law to the other is, so that noise cannot make the knee jump.
const CAP_GAIN_SCALE: f64 = 0.05;
/// Fewer points than this fit any law.
const POINTS_MIN: usize = 3;

/// What the laws say of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fitted {
    /// Where the share of the maximum is reached that was asked for.
    pub(crate) setting: f64,
    /// The maximum: the value at the greatest setting.
    pub(crate) maximum: f64,
}

/// One law with its parameters.
#[derive(Clone, Copy, Debug)]
struct Law {
    half: f64,
    /// ln of B.
    height: f64,
    /// Greatest share of B.
    cap: f64,
    /// Summed absolute deviations of the logarithm.
    deviation: f64,
}

impl Law {
    /// ln of the share of B at a setting.
    fn ln_share(&self, setting: f64) -> f64 {
        (-(self.half / setting).ln_1p()).min(self.cap.ln())
    }

    /// Where `share` of the value at `greatest` is reached.
    fn reaches(&self, share: f64, greatest: f64) -> f64 {
        let limit = share * self.ln_share(greatest).exp();
        self.half * limit / (1.0 - limit)
    }
}

/// Where the curve reaches `share` of its value at the greatest setting, by the laws above; `None` where the points are too
/// few to tell. `points` are (setting, bandwidth) in ascending order of the setting, all positive.
pub(crate) fn fitted(points: &[(f64, f64)], share: f64) -> Option<Fitted> {
    let (least, greatest) = (points.first()?.0, points.last()?.0);
    if points.len() < POINTS_MIN {
        return None;
    }
    let saturation = fit(points, &[1.0])?;
    let capped = fit(points, &CAPS.map(|cap| (-cap).exp()))?;
    let gain = saturation.deviation - capped.deviation;
    let belief = 1.0 / (1.0 + (-(gain - CAP_GAIN) / CAP_GAIN_SCALE).exp());
    let between =
        |of: &dyn Fn(&Law) -> f64| ((1.0 - belief) * of(&saturation) + belief * of(&capped)).exp();
    Some(Fitted {
        setting: between(&|law| law.reaches(share, greatest).clamp(least, greatest).ln()),
        maximum: between(&|law| law.height + law.ln_share(greatest)),
    })
}

/// The law with one of these caps that deviates least.
fn fit(points: &[(f64, f64)], caps: &[f64]) -> Option<Law> {
    let (least, greatest) = (points.first()?.0, points.last()?.0);
    let beyond = 2.0_f64.powi(OCTAVES_BEYOND);
    let octaves = (greatest / least).log2().ceil() as i32 + 2 * OCTAVES_BEYOND;
    let mut best: Option<Law> = None;
    for step in 0..=octaves * STEPS_PER_OCTAVE {
        let half = least / beyond * (f64::from(step) / f64::from(STEPS_PER_OCTAVE)).exp2();
        for cap in caps {
            let law = at_best_height(points, half, *cap)?;
            if best.is_none_or(|best| law.deviation < best.deviation) {
                best = Some(law);
            }
        }
    }
    best
}

/// The law at the height where the summed absolute deviations are least: the median of the logarithms' differences.
fn at_best_height(points: &[(f64, f64)], half: f64, cap: f64) -> Option<Law> {
    let mut law = Law {
        half,
        height: 0.0,
        cap,
        deviation: 0.0,
    };
    let mut heights: Vec<f64> = points
        .iter()
        .map(|(setting, value)| value.ln() - law.ln_share(*setting))
        .collect();
    heights.sort_by(f64::total_cmp);
    law.height = *heights.get(heights.len() / 2)?;
    law.deviation = heights.iter().map(|one| (one - law.height).abs()).sum();
    Some(law)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(law: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..11)
            .map(|step| 4096.0 * f64::from(1 << step))
            .map(|x| (x, law(x)))
            .collect()
    }

    fn steps_apart(left: f64, right: f64) -> f64 {
        (left / right).log2().abs()
    }

    #[test]
    fn each_law_finds_itself() {
        let greatest = 4096.0 * 1024.0;
        for half in [2e3, 2e4, 2e5] {
            let points = curve(|x| 7.0 * x / (x + half));
            let limit = 0.95 * greatest / (greatest + half);
            let exact = half * limit / (1.0 - limit);
            let found = fitted(&points, 0.95).unwrap().setting;
            assert!(
                steps_apart(found, exact.max(4096.0)) < 0.2,
                "{found} for {exact}"
            );
        }
        for corner in [2e4, 1e5, 1e6] {
            let points = curve(|x| x.min(corner));
            let found = fitted(&points, 0.95).unwrap().setting;
            assert!(steps_apart(found, corner) < 0.5, "{found} for {corner}");
        }
    }

    #[test]
    fn a_flat_curve_is_there_at_once() {
        let found = fitted(&curve(|_| 5.0), 0.95).unwrap();
        assert!((found.setting - 4096.0).abs() < 1.0, "{found:?}");
        assert!((found.maximum - 5.0).abs() < 0.1, "{found:?}");
    }

    #[test]
    fn one_wild_point_bends_nothing() {
        let mut points = curve(|x| x / (x + 3e4));
        let clean = fitted(&points, 0.95).unwrap().setting;
        for index in 0..points.len() {
            let kept = points[index].1;
            points[index].1 *= 0.3;
            let found = fitted(&points, 0.95).unwrap().setting;
            assert!(
                steps_apart(found, clean) < 0.3,
                "{index}: {found} for {clean}"
            );
            points[index].1 = kept;
        }
    }

    #[test]
    fn too_few_points_tell_nothing() {
        assert_eq!(fitted(&[], 0.95), None);
        assert_eq!(fitted(&[(1.0, 1.0), (2.0, 2.0)], 0.95), None);
    }
}
