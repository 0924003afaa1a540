//! What came to a generation after a commit sequence.

use super::table::TableGeneration;
use super::{Bodies, Found};

impl TableGeneration {
    /// What was written of a key after a commit sequence, visible or not; [`Found::Nothing`] if nothing was.
    pub(crate) fn written_since(
        &self,
        bodies: &Bodies,
        hash: u64,
        key: &[u8],
        after_seq: u64,
    ) -> Found {
        let gone_seq = self.gone_seq(key, u64::MAX);
        match self.newest(bodies, hash, key) {
            Some(version) if version.seq > after_seq && version.seq >= gone_seq => version.found(),
            _ if gone_seq > after_seq => Found::Deleted,
            _ => Found::Nothing,
        }
    }

    /// The first key that was written after a commit sequence, visible or not, and that is wanted.
    pub(crate) fn key_since<'b>(
        &self,
        bodies: &'b Bodies,
        after_seq: u64,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> Option<&'b [u8]> {
        let versions = self.versions();
        // They ascend in their sequence, since a table's versions are written in commit order.
        let (mut start, len) = (0, versions.len());
        let mut end = len;
        while start < end {
            let middle = start + (end - start) / 2;
            if versions.get(middle)?.seq > after_seq {
                end = middle;
            } else {
                start = middle + 1;
            }
        }
        (start..len)
            .filter_map(|number| Some(versions.get(number)?.key(bodies)))
            .find(|key| is_wanted(key))
    }
}
