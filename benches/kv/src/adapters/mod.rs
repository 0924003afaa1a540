//! One adapter an engine: the plainest code that its own documentation would lead a user to.
//!
//! Settings are in [`crate::settings`]; nothing here tunes. Each file says what is peculiar to its engine.

pub(crate) mod fjall;
pub(crate) mod lmdb;
pub(crate) mod moonshine;
pub(crate) mod redb;
pub(crate) mod rocksdb;
pub(crate) mod sled;

use crate::kv::Result;

/// Shows up to `limit` rows of an iterator; returns how many there were.
fn show_rows<K: AsRef<[u8]>, V: AsRef<[u8]>, E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    rows: impl Iterator<Item = std::result::Result<(K, V), E>>,
    limit: u64,
    mut each: impl FnMut(&[u8], &[u8]),
) -> Result<u64> {
    let mut count = 0;
    for row in rows.take(usize::try_from(limit).unwrap_or(usize::MAX)) {
        let (key, value) = row.map_err(Into::into)?;
        each(key.as_ref(), value.as_ref());
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::data::{key, value};
    use crate::kv::{Durability, Kv, Reader, Result};
    use crate::settings::Memory;

    const MEMORY: Memory = Memory {
        cache_bytes: 8 << 20,
        memtable_bytes: 4 << 20,
    };

    type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

    fn check<K: Kv>(kv: &K, expected: &Rows) -> Result<()> {
        let mut reader = kv.reader()?;
        let (mut ordered, mut scanned) = (Vec::new(), Rows::new());
        reader.range(&[], u64::MAX, |k, v| ordered.push((k.to_vec(), v.to_vec())))?;
        reader.scan(|k, v| assert!(scanned.insert(k.to_vec(), v.to_vec()).is_none()))?;
        assert_eq!(ordered, Vec::from_iter(expected.clone()));
        assert_eq!(&scanned, expected);
        assert_eq!(reader.len()?, expected.len() as u64);
        let mut found = Vec::new();
        reader.get_many(&[key(1), key(2), key(3)], |i, v| {
            found.push((i, v.to_vec()))
        })?;
        let wanted = [1, 2, 3].map(|id| expected.get(key(id).as_slice()).cloned());
        let wanted = wanted
            .into_iter()
            .enumerate()
            .filter_map(|(i, v)| Some((i, v?)));
        assert_eq!(found, wanted.collect::<Vec<_>>());
        let from = &ordered[ordered.len() / 2].0;
        let mut part = Vec::new();
        assert_eq!(
            reader.range(from, 3, |k, v| part.push((k.to_vec(), v.to_vec())))?,
            3
        );
        assert_eq!(part, ordered[ordered.len() / 2..][..3]);
        assert!(!reader.get(&key(1000), |_| ())?);
        Ok(())
    }

    /// Writes in every way, and compares with a map, also after a reopen.
    fn behaves<K: Kv>(name: &str) {
        let folder = std::env::temp_dir().join(format!("kv-adapter-{name}-{}", std::process::id()));
        let run = || -> Result<()> {
            let mut expected = Rows::new();
            let kv = K::open(&folder, MEMORY)?;
            for durability in [Durability::Synced, Durability::Buffered] {
                let version = u64::from(durability == Durability::Buffered);
                kv.write(durability, |sink| {
                    (0..50).try_for_each(|id| sink.put(&key(id), &value(id, version)))
                })?;
                kv.put(&key(60 + version), &value(60, version), durability)?;
                kv.write(durability, |sink| sink.delete(&key(2 + version)))?;
                kv.sync()?;
                expected.extend((0..50).map(|id| (key(id).into(), value(id, version).into())));
                expected.insert(key(60 + version).into(), value(60, version).into());
                expected.remove(key(2 + version).as_slice());
                check(&kv, &expected)?;
            }
            kv.settle()?;
            check(&kv, &expected)?;
            drop(kv);
            check(&K::open(&folder, MEMORY)?, &expected)
        };
        let result = run();
        let _ = std::fs::remove_dir_all(&folder);
        result.unwrap();
    }

    #[test]
    fn every_adapter_behaves_like_a_map() {
        behaves::<super::moonshine::ByHash>("moonshine");
        behaves::<super::moonshine::ByRange>("moonshine-range");
        behaves::<super::rocksdb::RocksDb>("rocksdb");
        behaves::<super::fjall::Fjall>("fjall");
        behaves::<super::redb::Redb>("redb");
        behaves::<super::lmdb::Lmdb>("lmdb");
        behaves::<super::sled::Sled>("sled");
    }
}
