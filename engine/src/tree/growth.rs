//! Expect-Capacity: how large a table will be, from how it grew.
//!
//! The edits keep, for each time that a table doubled, its bytes and the time. A leaf that must divide does it for the
//! capacity that it has after the time that the last doubling took, at the pace at which doublings become faster or
//! slower: a steady stream doubles a table half as fast each time, a growing one as fast as before, and a table that is
//! being filled faster and faster is divided into grandchildren at once, which saves writing its rows another time.

use std::time::Duration;

use super::fragment::FragmentId;

/// What the fragment tree grows by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TreeSizes {
    /// P-Size: a larger leaf divides.
    pub(crate) fragment_size_bytes_max: u64,
    /// A flush goes no further down than to fragments that get so much.
    pub(crate) flush_size_bytes_min: u64,
    /// Bits of the number of a child: S-Paral children.
    pub(crate) child_bits: u32,
    /// Compactions side by side.
    pub(crate) compaction_threads: usize,
}

/// A table had so many bytes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GrowthPoint {
    pub(crate) size_bytes: u64,
    /// Since 1970.
    pub(crate) at: Duration,
}

/// The points that are kept: two doublings tell how their time changes.
pub(crate) const POINTS_MAX: usize = 3;
/// A table is not worth a point before it has such a part of P-Size.
const FIRST_POINT_SHARE: u64 = 16;
/// A doubling may be expected to become so many times faster at most.
const SPEED_UP_MAX: u32 = 8;

/// The point to keep now, if the table doubled since the last one.
pub(crate) fn next_point(
    points: &[GrowthPoint],
    size_bytes: u64,
    at: Duration,
    sizes: &TreeSizes,
) -> Option<GrowthPoint> {
    let enough = match points.last() {
        Some(last) => last.size_bytes.saturating_mul(2),
        None => sizes.fragment_size_bytes_max / FIRST_POINT_SHARE,
    };
    (size_bytes >= enough).then_some(GrowthPoint { size_bytes, at })
}

/// How many times faster the last doubling was than the one before; 1 where that is not known.
fn speed_up(points: &[GrowthPoint]) -> u32 {
    let [.., first, second, third] = points else {
        return 1;
    };
    // A clock may have gone back.
    let before = second.at.saturating_sub(first.at);
    let last = third.at.saturating_sub(second.at);
    if before.is_zero() {
        return 1;
    }
    let times = before.as_nanos() / last.as_nanos().max(1);
    u32::try_from(times)
        .unwrap_or(SPEED_UP_MAX)
        .clamp(1, SPEED_UP_MAX)
}

/// The bits that tell the children of a leaf apart which divides with so many bytes: for one level, or for more where the
/// children would soon be too large. Each gets what a flush writes at least.
pub(crate) fn division_bits(
    points: &[GrowthPoint],
    size_bytes: u64,
    leaf: FragmentId,
    sizes: &TreeSizes,
) -> u32 {
    let expected_bytes = u128::from(size_bytes) << speed_up(points);
    let bits_max = leaf.child_bits_max();
    let mut bits = sizes.child_bits;
    let is_enough =
        |bits: u32| bits <= bits_max && size_bytes >> bits >= sizes.flush_size_bytes_min;
    while expected_bytes >> bits > u128::from(sizes.fragment_size_bytes_max)
        && is_enough(bits + sizes.child_bits)
    {
        bits += sizes.child_bits;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn sizes() -> TreeSizes {
        TreeSizes {
            fragment_size_bytes_max: 64 * MIB,
            flush_size_bytes_min: MIB / 4,
            child_bits: 2,
            compaction_threads: 1,
        }
    }

    fn points(seconds: &[u64]) -> Vec<GrowthPoint> {
        let point = |(i, &at)| GrowthPoint {
            size_bytes: MIB << i,
            at: Duration::from_secs(at),
        };
        seconds.iter().enumerate().map(point).collect()
    }

    #[test]
    fn a_point_is_kept_at_each_doubling() {
        let at = Duration::from_secs(5);
        let next = |points: &[GrowthPoint], size| next_point(points, size, at, &sizes());
        assert_eq!(next(&[], 4 * MIB - 1), None);
        assert_eq!(next(&[], 4 * MIB).unwrap().size_bytes, 4 * MIB);
        let known = points(&[1, 2]);
        assert_eq!(next(&known, 4 * MIB - 1), None);
        assert_eq!(next(&known, 4 * MIB).unwrap().at, at);
    }

    #[test]
    fn a_leaf_divides_for_the_capacity_expected() {
        let divide = |seconds: &[u64], size_bytes, id| {
            division_bits(&points(seconds), size_bytes, FragmentId(id), &sizes())
        };
        let bits = |seconds: &[u64]| divide(seconds, 64 * MIB, 1);
        assert_eq!(bits(&[]), 2, "nothing is known");
        assert_eq!(bits(&[0, 10, 30]), 2, "steadily");
        assert_eq!(bits(&[0, 10, 20]), 2, "as fast as before");
        assert_eq!(bits(&[0, 30, 40]), 4, "three times as fast");
        assert_eq!(bits(&[0, 80, 90]), 8, "so fast that each gets a flush");
        assert_eq!(bits(&[80, 90, 10]), 8, "a clock that went back");
        assert_eq!(divide(&[0, 80, 90], 8 * MIB, 1), 4);
        assert_eq!(divide(&[0, 80, 90], 64 * MIB, 1 << 60), 2, "an id is full");
    }
}
