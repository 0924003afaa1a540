//! Places that are drawn more often than others, as fio draws them.

use super::random::Random;
use super::values::Distribution;

/// Terms of the zeta sum that are added one by one; the rest is an integral with corrections.
const ZETA_EXACT_TERMS: u64 = 10_000;
/// Draws whose mean is a bell curve.
const BELL_DRAWS: u64 = 12;
/// The golden ratio of 64 bits: multiplying by it scatters neighbours.
const SCATTER: u64 = 0x61c8_8646_80b5_83eb;

/// Draws block numbers below `blocks` by a law.
#[derive(Clone, Debug)]
pub(super) struct SkewedBlocks {
    blocks: u64,
    law: Law,
    shift: u64,
    random: Random,
}

#[derive(Clone, Copy, Debug)]
enum Law {
    /// Constants of Gray et al.: Quickly generating billion-record synthetic databases, 1994.
    Zipf {
        theta: f64,
        zeta: f64,
        alpha: f64,
        eta: f64,
    },
    Pareto {
        power: f64,
    },
    Normal {
        /// Width of the even draw that is added, in blocks.
        width: u64,
    },
}

impl SkewedBlocks {
    /// `None` where the distribution is the even one or there is no block.
    pub(super) fn new(distribution: Distribution, blocks: u64, seed: u64) -> Option<Self> {
        if blocks == 0 {
            return None;
        }
        let mut random = Random::new(seed);
        let at = |share: f64| (blocks as f64 * share) as u64;
        let (law, shift) = match distribution {
            Distribution::Random => return None,
            Distribution::Zipf { theta, center } => (
                zipf(theta, blocks),
                center.map_or_else(|| random.next(), at),
            ),
            Distribution::Pareto { h, center } => {
                let power = h.ln() / (1.0 - h).ln();
                (
                    Law::Pareto { power },
                    center.map_or_else(|| random.next(), at),
                )
            }
            Distribution::Normal {
                deviation_percent,
                center,
            } => {
                let width = (blocks as f64 * deviation_percent / 100.0).ceil() as u64;
                let law = Law::Normal {
                    width: width.min(blocks / 2),
                };
                let shift = center.map_or(0, |center| at((center + 0.5).rem_euclid(1.0)));
                (law, shift)
            }
        };
        Some(SkewedBlocks {
            blocks,
            law,
            shift,
            random,
        })
    }

    /// The next block: the rank, scattered over the file.
    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        let rank = self.next_rank();
        rank.wrapping_mul(SCATTER).wrapping_add(self.shift) % self.blocks
    }

    /// The next rank: 0 is the most frequent of Zipf and Pareto; of the bell curve it is in the middle.
    fn next_rank(&mut self) -> u64 {
        let blocks = self.blocks;
        match self.law {
            Law::Zipf {
                theta,
                zeta,
                alpha,
                eta,
            } => {
                let share = self.random.share();
                let scaled = share * zeta;
                if scaled < 1.0 {
                    return 0;
                }
                if scaled < 1.0 + 0.5_f64.powf(theta) {
                    return 1.min(blocks - 1);
                }
                let rank = blocks as f64 * (eta * share - eta + 1.0).powf(alpha);
                (rank as u64).min(blocks - 1)
            }
            Law::Pareto { power } => ((blocks - 1) as f64 * self.random.share().powf(power)) as u64,
            Law::Normal { width } => self.next_of_bell(width),
        }
    }

    fn next_of_bell(&mut self, width: u64) -> u64 {
        let sum: u64 = (0..BELL_DRAWS)
            .map(|_| self.random.below(self.blocks + 1))
            .sum();
        let mean = sum.div_ceil(BELL_DRAWS) as i64;
        let mut aside = self.random.below(width.max(1)) as i64 - (width / 2) as i64;
        while !(0..self.blocks as i64).contains(&(mean + aside)) && aside != 0 {
            aside /= 2;
        }
        ((mean + aside) as u64).min(self.blocks - 1)
    }
}

fn zipf(theta: f64, blocks: u64) -> Law {
    let zeta = zeta(blocks, theta);
    let zeta_of_two = 1.0 + 0.5_f64.powf(theta);
    let alpha = 1.0 / (1.0 - theta);
    let eta = (1.0 - (2.0 / blocks as f64).powf(1.0 - theta)) / (1.0 - zeta_of_two / zeta);
    Law::Zipf {
        theta,
        zeta,
        alpha,
        eta,
    }
}

/// The sum of `1 / k^theta` for `k` from 1 to `count`; far terms by the formula of Euler and Maclaurin, which is as exact
/// as a float and needs no second for a great file.
fn zeta(count: u64, theta: f64) -> f64 {
    let exact = count.min(ZETA_EXACT_TERMS);
    let head: f64 = (1..=exact).map(|k| (k as f64).powf(-theta)).sum();
    if count == exact {
        return head;
    }
    let (from, to) = (exact as f64, count as f64);
    let integral = (to.powf(1.0 - theta) - from.powf(1.0 - theta)) / (1.0 - theta);
    let ends = (to.powf(-theta) - from.powf(-theta)) / 2.0;
    let slopes = theta / 12.0 * (from.powf(-theta - 1.0) - to.powf(-theta - 1.0));
    head + integral + ends + slopes
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u64 = 400_000;

    fn ranks(distribution: Distribution, blocks: u64) -> Vec<u64> {
        let mut counts = vec![0; blocks as usize];
        let mut skewed = SkewedBlocks::new(distribution, blocks, 7).unwrap();
        for _ in 0..DRAWS {
            counts[skewed.next_rank() as usize] += 1;
        }
        counts
    }

    #[test]
    fn zeta_is_the_sum() {
        for theta in [0.5, 0.99, 1.2, 2.0] {
            let sum: f64 = (1..=200_000_u64).map(|k| (k as f64).powf(-theta)).sum();
            assert!((zeta(200_000, theta) / sum - 1.0).abs() < 1e-9, "{theta}");
        }
    }

    #[test]
    fn zipf_has_the_frequencies_of_its_law() {
        for theta in [0.8, 1.2] {
            let blocks = 10_000;
            let counts = ranks(
                Distribution::Zipf {
                    theta,
                    center: None,
                },
                blocks,
            );
            let zeta = zeta(blocks, theta);
            for rank in [0, 1] {
                let expected = DRAWS as f64 * ((rank + 1) as f64).powf(-theta) / zeta;
                let share = counts[rank as usize] as f64 / expected;
                assert!(
                    (share - 1.0).abs() < 0.03,
                    "theta {theta} rank {rank}: {share}"
                );
            }
            // The rest is approximated by a curve: its sums come close.
            for top in [10, 100, 1000] {
                let expected: f64 = (1..=top).map(|k| (k as f64).powf(-theta)).sum::<f64>() / zeta;
                let found = counts[..top].iter().sum::<u64>() as f64 / DRAWS as f64;
                assert!(
                    (found / expected - 1.0).abs() < 0.1,
                    "theta {theta} top {top}"
                );
            }
        }
    }

    #[test]
    fn pareto_gives_one_share_of_the_accesses_to_the_other_share_of_the_blocks() {
        let blocks = 10_000;
        let counts = ranks(
            Distribution::Pareto {
                h: 0.2,
                center: None,
            },
            blocks,
        );
        let first = counts[..(blocks / 5) as usize].iter().sum::<u64>() as f64;
        assert!((first / DRAWS as f64 - 0.8).abs() < 0.01);
    }

    #[test]
    fn normal_has_its_mean_in_the_middle_and_widens_with_the_deviation() {
        let blocks = 10_000_u64;
        let spread = |deviation_percent| {
            let law = Distribution::Normal {
                deviation_percent,
                center: None,
            };
            let counts = ranks(law, blocks);
            let mean = counts
                .iter()
                .zip(0_u64..)
                .map(|(count, rank)| count * rank)
                .sum::<u64>() as f64
                / DRAWS as f64;
            assert!((mean / blocks as f64 - 0.5).abs() < 0.01, "{mean}");
            let distance = |rank: u64| (rank as f64 - mean).powi(2);
            let squares: f64 = counts
                .iter()
                .zip(0_u64..)
                .map(|(count, rank)| *count as f64 * distance(rank))
                .sum();
            (squares / DRAWS as f64).sqrt()
        };
        assert!((spread(0.0) / (blocks as f64 / 12.0) - 1.0).abs() < 0.02);
        assert!(spread(0.0) < spread(20.0) && spread(20.0) < spread(50.0));
    }

    #[test]
    fn blocks_stay_within_the_file_and_are_scattered() {
        for law in [
            Distribution::Zipf {
                theta: 1.1,
                center: Some(0.5),
            },
            Distribution::Pareto {
                h: 0.3,
                center: None,
            },
            Distribution::Normal {
                deviation_percent: 30.0,
                center: Some(0.1),
            },
        ] {
            for blocks in [1, 2, 3, 1000] {
                let mut skewed = SkewedBlocks::new(law, blocks, 3).unwrap();
                let drawn: std::collections::HashSet<u64> =
                    (0..1000).map(|_| skewed.next()).collect();
                assert!(drawn.iter().all(|block| *block < blocks));
                assert!(blocks < 1000 || drawn.iter().any(|block| *block > 900));
            }
        }
        assert!(SkewedBlocks::new(Distribution::Random, 10, 0).is_none());
    }
}
