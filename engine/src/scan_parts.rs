//! A scan in parts that are read side by side.

use crate::error::Result;
use crate::read::key_filter::KeyFilter;
use crate::snapshot::{Batches, Scan, Snapshot};
use crate::table::Table;

impl Snapshot {
    /// The rows of a table as Arrow batches, in parts for so many threads. Each row comes in one part: whoever is ready
    /// takes the next rows, so that parts that are read side by side end together, and a part that is not read leaves its
    /// rows to the others.
    ///
    /// The order of the scan is not looked at: parts have none.
    ///
    /// ```
    /// use moonshine_engine::{Database, Options, Scan};
    /// # let folder = tempfile::tempdir()?;
    /// let database = Database::open(folder.path(), Options::unmeasured())?;
    /// let pairs = database.keyspace("pairs")?;
    /// pairs.insert("ant", "6 legs")?;
    /// pairs.insert("bee", "6 legs, 4 wings")?;
    ///
    /// let parts = database.snapshot().scan_parts(pairs.table(), &Scan::default(), 4)?;
    /// let counts = parts.into_iter().map(|part| {
    ///     std::thread::spawn(|| part.map(|batch| Ok(batch?.num_rows())).sum())
    /// });
    /// let counts: Vec<_> = counts.collect();
    /// let mut rows = 0;
    /// for count in counts {
    ///     let count: Result<usize, moonshine_engine::Error> = count.join().map_err(|_| "panicked")?;
    ///     rows += count?;
    /// }
    /// assert_eq!(rows, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn scan_parts(
        &self,
        table: &Table,
        scan: &Scan,
        part_count: usize,
    ) -> Result<Vec<Batches>> {
        self.check_table(table)?;
        let keys = KeyFilter::of_keys(table, &scan.range, &scan.predicates)?;
        let parts = self.view(table).scan_unordered(&keys, part_count)?;
        let projection = scan.projection.as_deref();
        let batches = parts
            .into_iter()
            .map(|rows| Batches::new(table, self, rows, projection, scan.batch_rows));
        batches.collect()
    }
}
