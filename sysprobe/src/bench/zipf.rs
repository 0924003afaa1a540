//! Zipf's distribution over any number of ranks, without a sum over all of them.

use super::ycsb::Random;

/// Draws rank k with a probability in proportion to 1 / (k + 1)^theta, exactly, in constant time and space.
///
/// Rejection-inversion (Hörmann and Derflinger, Rejection-inversion to generate variates from monotone discrete
/// distributions, 1996): the continuous curve above the steps is inverted, and what falls between the two drawn again.
#[derive(Clone, Debug)]
pub struct Zipf {
    theta: f64,
    /// The number of ranks that `area_end` was computed for.
    ranks: u64,
    area_start: f64,
    area_end: f64,
    /// A value at most this much below its rounding is accepted without looking closer.
    accepted_distance: f64,
}

impl Zipf {
    /// A distribution of that skew: 0 is uniform, 1 is Zipf's law.
    pub fn new(theta: f64) -> Self {
        let mut zipf = Zipf {
            theta,
            ranks: 0,
            area_start: 0.0,
            area_end: 0.0,
            accepted_distance: 0.0,
        };
        zipf.area_start = zipf.area(1.5) - 1.0;
        zipf.accepted_distance = 2.0 - zipf.area_inverse(zipf.area(2.5) - zipf.height(2.0));
        zipf
    }

    /// A rank of 0, the most frequent, to `ranks` - 1; 0 if there are none.
    ///
    /// The number of ranks may differ from call to call.
    pub fn rank(&mut self, ranks: u64, random: &mut Random) -> u64 {
        if ranks < 2 {
            return 0;
        }
        if ranks != self.ranks {
            self.ranks = ranks;
            self.area_end = self.area(ranks as f64 + 0.5);
        }
        loop {
            let area = self.area_end + random.draw_share() * (self.area_start - self.area_end);
            let value = self.area_inverse(area);
            let rounded = value.round().clamp(1.0, ranks as f64);
            if rounded - value <= self.accepted_distance
                || area >= self.area(rounded + 0.5) - self.height(rounded)
            {
                return rounded as u64 - 1;
            }
        }
    }

    fn height(&self, x: f64) -> f64 {
        (-self.theta * x.ln()).exp()
    }

    /// The area below the curve from 1 to x: (x^(1 - theta) - 1) / (1 - theta), in a form that holds for theta = 1 too.
    fn area(&self, x: f64) -> f64 {
        let log = x.ln();
        let exponent = (1.0 - self.theta) * log;
        log * ratio(exponent, exponent.exp_m1())
    }

    fn area_inverse(&self, area: f64) -> f64 {
        let scaled = (area * (1.0 - self.theta)).max(-1.0);
        (area * ratio(scaled, scaled.ln_1p())).exp()
    }
}

/// `function` / `x`, where `function` is expm1 or ln1p of x, whose ratios go to 1 as x goes to 0.
fn ratio(x: f64, function: f64) -> f64 {
    if x.abs() < 1e-12 { 1.0 } else { function / x }
}
