//! Reading at a commit sequence.

use std::ops::Bound;
use std::sync::{Arc, Weak};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use crate::cache::readers::{LetGo, Parked};
use crate::codec::key::encode_key;
use crate::codec::key::hash_key;
use crate::codec::row::join_row;
use crate::error::Result;
use crate::key_range::KeyBounds;
use crate::origins::Origin;
use crate::predicate::KeyPredicate;
use crate::queue::conditions::Hold;
use crate::queue::reads::ReadRange;
use crate::read::batch::BatchBuilder;
use crate::read::key_filter::KeyFilter;
use crate::read::lookup::Lookup;
use crate::read::ordered::OrderedRows;
use crate::read::rows::Rows;
use crate::read::view::View;
use crate::shared::Shared;
use crate::table::Table;
use crate::value::{Row, Value};

/// The database as it was at one commit sequence, for as long as this is held.
///
/// Readers never wait for writers. A clone holds the same sequence.
///
/// ```
/// use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// # let schema = TableSchema::builder("users")
/// #     .column("id", ColumnType::Int64, false)
/// #     .column("name", ColumnType::Utf8, true)
/// #     .primary_key(["id"]);
/// # let users = database.create_table(schema.build()?)?;
/// # let mut transaction = database.begin();
/// # transaction.upsert(&users, vec![Value::Int64(1), Value::Utf8("ada".into())])?;
/// # transaction.commit()?;
/// let snapshot = database.snapshot();
/// let mut transaction = database.begin();
/// transaction.truncate(&users)?;
/// transaction.commit()?;
/// assert_eq!(snapshot.row_count(&users)?, 1);
/// assert_eq!(database.snapshot().row_count(&users)?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Shared by clones: they count among themselves, and not where all threads do.
    pin: Arc<Pin>,
}

/// The hold of a commit sequence.
#[derive(Debug)]
struct Pin {
    shared: Arc<Shared>,
    seq: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.shared.pins.unpin(self.seq);
    }
}

impl Hold for Snapshot {
    fn seq(&self) -> u64 {
        Snapshot::seq(self)
    }
}

/// In which order a scan returns rows.
///
/// ```
/// use moonshine_engine::{ColumnType, Database, Options, Scan, ScanOrder, TableSchema, Value};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// # let schema = TableSchema::builder("users")
/// #     .column("id", ColumnType::Int64, false)
/// #     .column("name", ColumnType::Utf8, true)
/// #     .primary_key(["id"]);
/// # let users = database.create_table(schema.build()?)?;
/// # let mut transaction = database.begin();
/// # transaction.upsert(&users, vec![Value::Int64(1), Value::Utf8("ada".into())])?;
/// # transaction.commit()?;
/// # let mut transaction = database.begin();
/// # transaction.upsert(&users, vec![Value::Int64(2), Value::Null])?;
/// # transaction.commit()?;
/// let newest_first = Scan { order: ScanOrder::Descending, batch_rows: 1, ..Scan::default() };
/// let mut batches = database.snapshot().scan(&users, newest_first)?;
/// let first = batches.next().ok_or("no rows")??;
/// assert_eq!(first.column(0).as_ref(), &arrow_array::Int64Array::from(vec![2]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanOrder {
    /// In any order: the fastest.
    #[default]
    Unordered,
    /// By primary key, smallest first.
    Ascending,
    /// By primary key, greatest first.
    Descending,
}

/// What a scan returns.
///
/// ```
/// use moonshine_engine::{ColumnType, Database, Options, Scan, TableSchema, Value};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// # let schema = TableSchema::builder("users")
/// #     .column("id", ColumnType::Int64, false)
/// #     .column("name", ColumnType::Utf8, true)
/// #     .primary_key(["id"]);
/// # let users = database.create_table(schema.build()?)?;
/// # let mut transaction = database.begin();
/// # transaction.upsert(&users, vec![Value::Int64(1), Value::Utf8("ada".into())])?;
/// # transaction.commit()?;
/// use std::ops::Bound;
///
/// let scan = Scan {
///     projection: Some(vec![1]),
///     range: (Bound::Included(vec![Value::Int64(1)]), Bound::Unbounded),
///     ..Scan::default()
/// };
/// let batches = database.snapshot().scan(&users, scan)?;
/// assert_eq!(batches.schema().fields().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scan {
    /// Positions of the columns, in the order the batches have them; `None` for all.
    pub projection: Option<Vec<usize>>,
    /// The order of the rows.
    pub order: ScanOrder,
    /// Between which keys.
    pub range: KeyBounds,
    /// Conditions on the primary key that all have to hold. What they rule out is not read: fragments where they name what the
    /// table is divided by, RowSets and pages by the least and the greatest key that these hold.
    pub predicates: Vec<KeyPredicate>,
    /// Most rows of a batch.
    pub batch_rows: usize,
}

impl Default for Scan {
    fn default() -> Self {
        Scan {
            projection: None,
            order: ScanOrder::Unordered,
            range: (Bound::Unbounded, Bound::Unbounded),
            predicates: Vec::new(),
            batch_rows: 8192,
        }
    }
}

impl Snapshot {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let seq = shared.pins.pin_visible();
        Snapshot {
            pin: Arc::new(Pin { shared, seq }),
        }
    }

    /// The commit sequence.
    pub fn seq(&self) -> u64 {
        self.pin.seq
    }

    /// How far each source was, sorted by source.
    pub fn origins(&self) -> Vec<Origin> {
        self.pin.shared.origins.at(self.pin.seq)
    }

    /// The row with that key, given in primary-key order.
    ///
    /// # Errors
    /// [`Error::Row`](crate::Error::Row) if the key does not fit the table, [`Error::Corrupt`](crate::Error::Corrupt) or
    /// [`Error::Io`](crate::Error::Io) if it can't be read.
    pub fn get(&self, table: &Table, key: &[Value]) -> Result<Option<Row>> {
        self.check_table(table)?;
        Lookup::at(
            &self.pin.shared,
            &table.state,
            Some(self.pin.seq),
            |lookup| get_row(lookup, table, key),
        )
    }

    /// The table as of this snapshot.
    pub(crate) fn view(&self, table: &Table) -> View {
        View::at(&self.pin.shared, &table.state, self.pin.seq)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.pin.shared
    }

    /// How many rows the table holds. Rows whose fragment has patches are counted without being read.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) if the table belongs to another database,
    /// [`Error::Corrupt`](crate::Error::Corrupt) or [`Error::Io`](crate::Error::Io) if it can't be read.
    pub fn row_count(&self, table: &Table) -> Result<u64> {
        self.check_table(table)?;
        self.view(table).row_count()
    }

    /// The rows of a table as Arrow batches.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) for a column that does not exist, or that a predicate names and the key does not
    /// have, or a table of another database, [`Error::Row`](crate::Error::Row) for a bound or a value that does not fit the key.
    pub fn scan(&self, table: &Table, scan: Scan) -> Result<Batches> {
        self.check_table(table)?;
        let keys = KeyFilter::of_keys(table, &scan.range, &scan.predicates)?;
        let rows = rows_of(self.view(table), keys, scan.order)?;
        let projection = scan.projection.as_deref();
        Batches::new(table, self, rows, projection, scan.batch_rows)
    }

    /// Checks that the snapshot is of the table's database, and can be read with its schema.
    pub(crate) fn check_table(&self, table: &Table) -> Result<()> {
        self.pin.shared.check_table(table)?;
        table.check_reads(self.pin.seq)
    }
}

/// The rows of a table that are wanted, in some order.
pub(crate) fn rows_of(view: View, keys: KeyFilter, order: ScanOrder) -> Result<Rows> {
    match order {
        ScanOrder::Unordered => view.scan_whole(&keys),
        ScanOrder::Ascending => Ok(Rows::ordered(OrderedRows::new(view, keys, false))),
        ScanOrder::Descending => Ok(Rows::ordered(OrderedRows::new(view, keys, true))),
    }
}

/// The row of a key.
pub(crate) fn get_row(lookup: Lookup<'_>, table: &Table, key: &[Value]) -> Result<Option<Row>> {
    let mut key_bytes = Vec::new();
    encode_key(table.schema(), key.iter(), &mut key_bytes)?;
    let hash = hash_key(&key_bytes);
    let Some(value) = lookup.get(hash, &key_bytes)? else {
        return Ok(None);
    };
    join_row(table.schema(), key.to_vec(), value.bytes())
        .map(Some)
        .map_err(|malformed| match table.is_outdated() {
            true => table.changed(),
            false => lookup.corrupt(hash, &key_bytes, malformed),
        })
}

/// Batches of a table's rows, made as they are asked for.
///
/// Between two batches, one that goes in key order keeps no memory of the database for long, so any number of them may be put
/// aside.
///
/// ```
/// use moonshine_engine::{ColumnType, Database, Options, Scan, TableSchema, Value};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// # let schema = TableSchema::builder("users")
/// #     .column("id", ColumnType::Int64, false)
/// #     .column("name", ColumnType::Utf8, true)
/// #     .primary_key(["id"]);
/// # let users = database.create_table(schema.build()?)?;
/// # let mut transaction = database.begin();
/// # transaction.upsert(&users, vec![Value::Int64(1), Value::Utf8("ada".into())])?;
/// # transaction.commit()?;
/// let mut rows = 0;
/// for batch in database.snapshot().scan(&users, Scan::default())? {
///     rows += batch?.num_rows();
/// }
/// assert_eq!(rows, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Batches {
    held: Arc<Parked<HeldRows>>,
    builder: BatchBuilder,
    batch_rows: usize,
    failed: bool,
    /// Who wants to know how far they were read, and whether they come from the back.
    reads: Option<(Arc<ReadRange>, bool)>,
}

/// Rows that go along with flushes.
#[derive(Debug)]
struct HeldRows {
    rows: Rows,
    /// Held, so that its rows stay.
    snapshot: Snapshot,
    table: Table,
}

impl LetGo for HeldRows {
    fn let_go(&mut self) {
        self.rows.go_over_to(self.snapshot.view(&self.table));
    }
}

impl Batches {
    pub(crate) fn new(
        table: &Table,
        snapshot: &Snapshot,
        rows: Rows,
        projection: Option<&[usize]>,
        batch_rows: usize,
    ) -> Result<Self> {
        let held = Arc::new(Parked::new(HeldRows {
            rows,
            snapshot: snapshot.clone(),
            table: table.clone(),
        }));
        let reader: Weak<Parked<HeldRows>> = Arc::downgrade(&held);
        snapshot.shared().readers.add(reader);
        Ok(Batches {
            held,
            builder: BatchBuilder::new(table.schema().clone(), projection)?,
            batch_rows: batch_rows.max(1),
            failed: false,
            reads: None,
        })
    }

    /// Has a transaction know how far they are read.
    pub(crate) fn note_reads(&mut self, reads: Arc<ReadRange>, descending: bool) {
        self.reads = Some((reads, descending));
    }

    /// The schema of every batch.
    pub fn schema(&self) -> SchemaRef {
        self.builder.schema().clone()
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        self.held.use_held(|HeldRows { rows, .. }| {
            while self.builder.row_count() < self.batch_rows && !self.builder.is_full() {
                let most = self.batch_rows - self.builder.row_count();
                if rows.give(most, &mut self.builder)? == 0 {
                    break;
                }
            }
            if let Some((reads, descending)) = &self.reads {
                match rows.row() {
                    Some(row) => reads.reach(row.key, *descending),
                    None => reads.finish(),
                }
            }
            Ok(())
        })?;
        if self.builder.row_count() == 0 {
            Ok(None)
        } else {
            self.builder.finish().map(Some)
        }
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.next_batch();
        self.failed = batch.is_err();
        batch.transpose()
    }
}
