//! Manifests that were read before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::io::FileIO;
use iceberg::spec::{
    DataFile, Datum, FormatVersion, ManifestContentType, ManifestFile, PrimitiveLiteral, Snapshot,
    TableMetadata,
};

use super::index::{Index, belongs_to};
use super::read::live_of;
use super::{Entry, LoadedManifest, Manifests, read_entries};
use crate::delete::FILES_IN_FLIGHT_MAX;
use crate::error::Result;

/// Entries that stay in memory, of each table, in bytes.
const ENTRIES_BYTES_MAX: usize = 32 << 20;
/// What an entry takes besides its texts and its columns' metrics, in bytes.
const ENTRY_BYTES: usize = 600;
/// What a number takes that is kept of a column: sizes and counts, in bytes.
const COUNT_BYTES: usize = 24;
/// What a bound takes that is kept of a column, in bytes.
const BOUND_BYTES: usize = 128;

/// The live manifests of a snapshot, with what finds their entries.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) manifests: Vec<ManifestFile>,
    /// One for each manifest.
    indexes: Vec<Arc<Index>>,
}

/// The entries that given data files have.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The manifests that hold one, by their place in the list.
    pub(crate) manifests: BTreeMap<usize, Arc<Vec<Entry>>>,
    /// The manifest and the number of each entry of a data file.
    places: HashMap<String, Vec<(usize, usize)>>,
}

/// A manifest's path, and the row id that its list gives to its first row: one from before format v3 gets that later.
type ManifestKey = (String, Option<u64>);

/// Manifests that were read before: indexes as long as a snapshot has them, entries while there is room, those that were asked for
/// least recently going first.
#[derive(Clone, Debug)]
pub(crate) struct ManifestCache {
    manifests: HashMap<ManifestKey, Cached>,
    /// The newest list that was read, with the snapshot that it is of, as what it was read.
    newest: Option<(i64, FormatVersion, Arc<Listing>)>,
    /// Of all entries that are here.
    entries_bytes: usize,
    entries_bytes_max: usize,
    /// How often entries were asked for.
    use_count: u64,
}

#[derive(Clone, Debug)]
struct Cached {
    index: Arc<Index>,
    /// The entries, if they are here, and how many bytes they take.
    entries: Option<(Arc<Vec<Entry>>, usize)>,
    /// When they were asked for, as a count of such questions.
    last_use: u64,
}

impl Default for ManifestCache {
    fn default() -> Self {
        ManifestCache {
            manifests: HashMap::new(),
            newest: None,
            entries_bytes: 0,
            entries_bytes_max: ENTRIES_BYTES_MAX,
            use_count: 0,
        }
    }
}

impl Found {
    /// The entries of a data file: the place of the manifest in the list, the number of the entry in it, and the entry.
    pub(crate) fn of(&self, data_file: &str) -> impl Iterator<Item = (usize, usize, &Entry)> {
        let places = self.places.get(data_file).map_or(&[][..], Vec::as_slice);
        places.iter().filter_map(|&(manifest, number)| {
            let entry = self.manifests.get(&manifest)?.get(number)?;
            Some((manifest, number, entry))
        })
    }
}

impl ManifestCache {
    /// The manifests of a snapshot. Forgets those that are not in it.
    pub(crate) async fn list(
        &mut self,
        file_io: &FileIO,
        metadata: &TableMetadata,
        snapshot: Option<&Snapshot>,
    ) -> Result<Arc<Listing>> {
        let Some(snapshot) = snapshot else {
            return Ok(Arc::default());
        };
        let (id, version) = (snapshot.snapshot_id(), metadata.format_version());
        if let Some((newest, as_version, listing)) = &self.newest
            && (*newest, *as_version) == (id, version)
        {
            return Ok(listing.clone());
        }
        let manifests = live_of(file_io, version, snapshot).await?;
        let keys: HashSet<ManifestKey> = manifests.iter().map(key).collect();
        self.manifests.retain(|key, _| keys.contains(key));
        self.count_bytes();
        let is_new = |manifest: &&ManifestFile| !self.manifests.contains_key(&key(manifest));
        let new: Vec<&ManifestFile> = manifests.iter().filter(is_new).collect();
        for some in new.chunks(FILES_IN_FLIGHT_MAX) {
            self.read(file_io, some).await?;
            self.evict();
        }
        let index = |manifest| self.manifests.get(&key(manifest));
        let indexes = manifests.iter().filter_map(index);
        let indexes = indexes.map(|cached| cached.index.clone()).collect();
        let listing = Arc::new(Listing { manifests, indexes });
        self.newest = Some((id, version, listing.clone()));
        Ok(listing)
    }

    /// Finds the entries of data files, or those that delete rows of them.
    pub(crate) async fn find<'p>(
        &mut self,
        file_io: &FileIO,
        listing: &Listing,
        content: ManifestContentType,
        data_files: impl IntoIterator<Item = &'p str>,
    ) -> Result<Found> {
        let of_kind = listing.manifests.iter().zip(&listing.indexes).enumerate();
        let of_kind = of_kind.filter(|(_, (manifest, _))| manifest.content == content);
        let of_kind: Vec<(usize, &Arc<Index>)> =
            of_kind.map(|(place, (_, index))| (place, index)).collect();
        for (_, index) in &of_kind {
            index.check_ours()?;
        }
        let mut hits: Vec<(&str, usize, usize)> = Vec::new();
        for data_file in data_files {
            for (place, index) in &of_kind {
                let entries = index.find(data_file);
                hits.extend(entries.map(|number| (data_file, *place, number)));
            }
        }
        let mut found = Found {
            manifests: self
                .entries(file_io, listing, hits.iter().map(|(_, place, _)| *place))
                .await?,
            ..Found::default()
        };
        for (data_file, place, number) in hits {
            let entries = found.manifests.get(&place);
            if entries
                .and_then(|entries| entries.get(number))
                .is_some_and(|entry| belongs_to(entry, data_file))
            {
                let places = found.places.entry(data_file.to_owned()).or_default();
                places.push((place, number));
            }
        }
        Ok(found)
    }

    /// The entries of manifests, by their place in the list.
    pub(crate) async fn entries(
        &mut self,
        file_io: &FileIO,
        listing: &Listing,
        places: impl IntoIterator<Item = usize>,
    ) -> Result<BTreeMap<usize, Arc<Vec<Entry>>>> {
        let manifest = |place| Some((place, listing.manifests.get(place)?));
        let wanted: BTreeMap<usize, &ManifestFile> =
            places.into_iter().filter_map(manifest).collect();
        let is_here = |manifest: &ManifestFile| {
            let cached = self.manifests.get(&key(manifest));
            cached.is_some_and(|cached| cached.entries.is_some())
        };
        let missing = wanted.values().filter(|manifest| !is_here(manifest));
        let missing: Vec<&ManifestFile> = missing.copied().collect();
        self.read(file_io, &missing).await?;
        let mut loaded = BTreeMap::new();
        for (place, manifest) in wanted {
            self.use_count += 1;
            if let Some(cached) = self.manifests.get_mut(&key(manifest)) {
                cached.last_use = self.use_count;
                let entries = cached.entries.iter().map(|(entries, _)| entries.clone());
                loaded.extend(entries.map(|entries| (place, entries)));
            }
        }
        self.evict();
        Ok(loaded)
    }

    /// All entries of a snapshot. Forgets the manifests that are not in it.
    pub(crate) async fn load(
        &mut self,
        file_io: &FileIO,
        metadata: &TableMetadata,
        snapshot: Option<&Snapshot>,
    ) -> Result<Manifests> {
        let listing = self.list(file_io, metadata, snapshot).await?;
        let all = 0..listing.manifests.len();
        let entries = self.entries(file_io, &listing, all).await?;
        let mut manifests = Manifests::default();
        for (place, entries) in entries {
            let Some(manifest) = listing.manifests.get(place).cloned() else {
                continue;
            };
            let kind = match manifest.content {
                ManifestContentType::Data => &mut manifests.data,
                ManifestContentType::Deletes => &mut manifests.deletes,
            };
            kind.push(LoadedManifest { manifest, entries });
        }
        Ok(manifests)
    }

    #[cfg(test)]
    pub(super) fn with_room(entries_bytes_max: usize) -> Self {
        ManifestCache {
            entries_bytes_max,
            ..ManifestCache::default()
        }
    }

    #[cfg(test)]
    pub(super) fn entries_bytes(&self) -> usize {
        self.entries_bytes
    }

    /// Reads manifests, some at a time.
    async fn read(&mut self, file_io: &FileIO, manifests: &[&ManifestFile]) -> Result<()> {
        let reads = manifests.iter().map(|manifest| {
            let read = read_entries(file_io, manifest);
            async move { Ok::<_, crate::ExportError>((key(manifest), read.await?)) }.boxed()
        });
        let reads: Vec<_> = reads.collect();
        let mut reads = futures::stream::iter(reads).buffer_unordered(FILES_IN_FLIGHT_MAX);
        while let Some((key, entries)) = reads.try_next().await? {
            let size_bytes = entries.iter().map(|entry| size_bytes(&entry.file)).sum();
            let index = Arc::new(Index::of(&entries));
            let cached = Cached {
                index,
                entries: Some((Arc::new(entries), size_bytes)),
                last_use: self.use_count,
            };
            self.manifests.insert(key, cached);
            self.entries_bytes += size_bytes;
        }
        Ok(())
    }

    /// Lets entries go until the others have room.
    fn evict(&mut self) {
        if self.entries_bytes <= self.entries_bytes_max {
            return;
        }
        let mut here: Vec<&mut Cached> = self.manifests.values_mut().collect();
        here.retain(|cached| cached.entries.is_some());
        here.sort_by_key(|cached| cached.last_use);
        for cached in here {
            if self.entries_bytes <= self.entries_bytes_max {
                break;
            }
            if let Some((_, size_bytes)) = cached.entries.take() {
                self.entries_bytes -= size_bytes;
            }
        }
    }

    fn count_bytes(&mut self) {
        let entries = self
            .manifests
            .values()
            .filter_map(|one| one.entries.as_ref());
        self.entries_bytes = entries.map(|(_, size_bytes)| size_bytes).sum();
    }
}

fn key(manifest: &ManifestFile) -> ManifestKey {
    (manifest.manifest_path.clone(), manifest.first_row_id)
}

/// About how much memory an entry takes, in bytes.
fn size_bytes(file: &DataFile) -> usize {
    let counts = [
        file.column_sizes(),
        file.value_counts(),
        file.null_value_counts(),
        file.nan_value_counts(),
    ];
    let counts: usize = counts.iter().map(|counts| counts.len()).sum();
    let text_bytes = |bound: &Datum| match bound.literal() {
        PrimitiveLiteral::String(text) => text.len(),
        PrimitiveLiteral::Binary(bytes) => bytes.len(),
        _ => 0,
    };
    let bounds = file.lower_bounds().values();
    let bounds = bounds.chain(file.upper_bounds().values());
    let bounds: usize = bounds.map(|bound| BOUND_BYTES + text_bytes(bound)).sum();
    let referenced = file.referenced_data_file().map_or(0, |path| path.len());
    ENTRY_BYTES + file.file_path().len() + referenced + counts * COUNT_BYTES + bounds
}
