//! What others did to a table, a catalog, a store or a disk: an error that says what to do, rows that are taken all the same,
//! and exports that go on by themselves once the cause is gone. Defends *once*, *same* and *honest*.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use iceberg::TableIdent;
use iceberg::io::FileIO;
use iceberg::spec::{
    ManifestList, NestedField, PrimitiveType, Schema, SortOrder, Type, UnboundPartitionSpec,
};
use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{Database, Error, Options, Table};
use moonshine_export::catalog::{CatalogTable, Guard, NewTable, TableCatalog};
use moonshine_export::environment::{Clock, Environment};
use moonshine_export::{ExportError, Exporter, FormatVersion};
use uuid::Uuid;

use crate::ownership::{foreign_snapshot, roll_back};
use crate::simulation::GUARDS;
use crate::support::{World, ident, notes, settings, tick_due, write_notes};
use moonshine_sim::lake::{Fault, SimulatedCatalog, Weather};

/// Something that keeps a table from being exported.
#[async_trait]
trait Trouble: Sync {
    /// Whether it is there before the table is exported for the first time.
    fn comes_first(&self) -> bool {
        false
    }

    async fn begin(&mut self, catalog: &SimulatedCatalog);

    async fn mend(&mut self, catalog: &SimulatedCatalog);

    /// Whether that is the error, and it says what to do.
    fn is(&self, error: &ExportError) -> bool;
}

fn name() -> TableIdent {
    ident("shop", "notes")
}

fn is_foreign(error: &ExportError, words: &[&str]) -> bool {
    matches!(error, ExportError::Foreign { .. }) && says(error, words)
}

fn is_unavailable(error: &ExportError, words: &[&str]) -> bool {
    matches!(error, ExportError::Unavailable { .. }) && says(error, words)
}

fn says(error: &ExportError, words: &[&str]) -> bool {
    let text = error.to_string();
    words.iter().all(|word| text.contains(word))
}

/// A table of the same name that somebody else made.
struct AnothersTable;

#[async_trait]
impl Trouble for AnothersTable {
    fn comes_first(&self) -> bool {
        true
    }

    async fn begin(&mut self, catalog: &SimulatedCatalog) {
        let column = NestedField::required(1, "price", Type::Primitive(PrimitiveType::Double));
        let schema = Schema::builder().with_fields([Arc::new(column)]).build();
        let table = NewTable {
            schema: schema.unwrap(),
            partition_spec: UnboundPartitionSpec::builder().build(),
            sort_order: SortOrder::unsorted_order(),
            format_version: iceberg::spec::FormatVersion::V2,
            properties: HashMap::new(),
            location: Some("memory://warehouse/elsewhere".to_owned()),
        };
        catalog.create(&name(), table, Uuid::nil()).await.unwrap();
    }

    async fn mend(&mut self, catalog: &SimulatedCatalog) {
        catalog.drop_table(&name()).await.unwrap();
    }

    fn is(&self, error: &ExportError) -> bool {
        is_foreign(error, &["no Moonshine database made it", "drop it or"])
    }
}

/// Files that another writer added.
struct ForeignFiles;

#[async_trait]
impl Trouble for ForeignFiles {
    async fn begin(&mut self, catalog: &SimulatedCatalog) {
        foreign_snapshot(catalog).await;
    }

    async fn mend(&mut self, catalog: &SimulatedCatalog) {
        roll_back(catalog).await;
    }

    fn is(&self, error: &ExportError) -> bool {
        is_foreign(error, &["4711", "roll", "foreign_appends"])
    }
}

/// The table, or the namespace with it, is dropped.
#[derive(Default)]
struct Dropped(Option<CatalogTable>);

#[async_trait]
impl Trouble for Dropped {
    async fn begin(&mut self, catalog: &SimulatedCatalog) {
        self.0 = catalog.load(&name()).await.unwrap();
        catalog.drop_table(&name()).await.unwrap();
    }

    async fn mend(&mut self, catalog: &SimulatedCatalog) {
        catalog.put_back(self.0.take().unwrap());
    }

    fn is(&self, error: &ExportError) -> bool {
        is_foreign(error, &["gone from the catalog", "put it back"])
    }
}

/// Nothing more can be written to the store, or its credentials are over.
struct Store(Weather, &'static str);

#[async_trait]
impl Trouble for Store {
    async fn begin(&mut self, catalog: &SimulatedCatalog) {
        catalog.store().set(self.0);
    }

    async fn mend(&mut self, catalog: &SimulatedCatalog) {
        catalog.store().set(Weather::Calm);
    }

    fn is(&self, error: &ExportError) -> bool {
        is_unavailable(error, &[self.1, "memory://warehouse/"])
    }
}

/// The catalog takes no commit: its credentials are over.
struct Refused;

#[async_trait]
impl Trouble for Refused {
    async fn begin(&mut self, catalog: &SimulatedCatalog) {
        catalog.plan(&[Fault::Refused; 100], &[]);
    }

    async fn mend(&mut self, catalog: &SimulatedCatalog) {
        catalog.forget_plans();
    }

    fn is(&self, error: &ExportError) -> bool {
        is_unavailable(error, &["status 403"])
    }
}

/// A file of the table's metadata is gone.
struct Missing {
    is_list: bool,
    file: Option<(String, bytes::Bytes)>,
}

impl Missing {
    fn new(is_list: bool) -> Self {
        let file = None;
        Missing { is_list, file }
    }
}

#[async_trait]
impl Trouble for Missing {
    async fn begin(&mut self, catalog: &SimulatedCatalog) {
        let table = catalog.load(&name()).await.unwrap().unwrap();
        let (head, file_io) = (
            table.metadata.current_snapshot().unwrap(),
            catalog.file_io(),
        );
        let read = |path: String| read(file_io.clone(), path);
        let mut path = head.manifest_list().to_owned();
        if !self.is_list {
            let bytes = read(path).await;
            let version = table.metadata.format_version();
            let list = ManifestList::parse_with_version(&bytes, version).unwrap();
            path = list.entries()[0].manifest_path.clone();
        }
        let bytes = read(path.clone()).await;
        file_io.delete(&path).await.unwrap();
        self.file = Some((path, bytes));
    }

    async fn mend(&mut self, catalog: &SimulatedCatalog) {
        let (path, bytes) = self.file.clone().unwrap();
        let output = catalog.file_io().new_output(path).unwrap();
        output.write(bytes).await.unwrap();
    }

    fn is(&self, error: &ExportError) -> bool {
        let path = self.file.as_ref().map_or("", |(path, _)| path);
        matches!(error, ExportError::Corrupt { .. }) && says(error, &[path, "restore"])
    }
}

async fn read(file_io: FileIO, path: String) -> bytes::Bytes {
    file_io.new_input(path).unwrap().read().await.unwrap()
}

/// A clock that is a second later at each look.
#[derive(Debug, Default)]
struct HastyClock(AtomicI64);

#[async_trait]
impl Clock for HastyClock {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000 + self.0.fetch_add(1_000, Ordering::SeqCst)
    }

    async fn pause(&self, _: u64) {
        tokio::task::yield_now().await;
    }
}

/// An exporter whose pauses are soon over.
fn connect(database: &Database, catalog: &Arc<SimulatedCatalog>) -> Exporter {
    let environment = Environment {
        clock: Arc::<HastyClock>::default(),
        ..Environment::default()
    };
    let settings = settings(FormatVersion::V3);
    Exporter::with_catalog(database.clone(), catalog.clone(), settings, environment)
}

/// What a sync does, until everything is exported.
async fn export_at_last(exporter: &mut Exporter, database: &Database) {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !exporter.is_exported_up_to(database.durable_seq()) {
        assert!(
            tokio::time::Instant::now() < end,
            "{:?}",
            exporter.standings()
        );
        tick_due(exporter).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Writes beside the trouble; says which error the export has, and that it ends neither writing nor the other exports.
async fn fail(exporter: &mut Exporter, database: &Database, table: &Table) -> ExportError {
    write_notes(database, table, [(1, "in trouble".to_owned())], &[2]);
    tick_due(exporter).await;
    let standing = &exporter.standings()["shop.notes"];
    assert!(standing.failures > 0 && standing.reason.is_some());
    let error = exporter.tick(&database.snapshot()).await.unwrap_err();
    write_notes(database, table, [(3, "in trouble".to_owned())], &[]);
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trouble_is_named_holds_up_no_write_and_passes() {
    for guard in GUARDS {
        let troubles: Vec<(&str, Box<dyn Trouble + Send>)> = vec![
            ("another's table", Box::new(AnothersTable)),
            ("foreign files", Box::new(ForeignFiles)),
            ("dropped", Box::new(Dropped::default())),
            ("full", Box::new(Store(Weather::Full, "No space left"))),
            ("expired", Box::new(Store(Weather::Expired, "ExpiredToken"))),
            ("refused", Box::new(Refused)),
            ("no manifest", Box::new(Missing::new(false))),
            ("no manifest list", Box::new(Missing::new(true))),
        ];
        for (what, mut trouble) in troubles {
            let world = World::new(FormatVersion::V3);
            let database = world.database();
            let table = notes(&database);
            let catalog = SimulatedCatalog::new(guard, 7);
            catalog.calm();
            write_notes(
                &database,
                &table,
                (0..10).map(|id| (id, "before".to_owned())),
                &[],
            );
            if !trouble.comes_first() {
                let mut exporter = connect(&database, &catalog);
                exporter.tick(&database.snapshot()).await.unwrap();
            }
            // One that was there before, and one that knows nothing of the table yet.
            let mut exporter = connect(&database, &catalog);
            if !trouble.comes_first() {
                exporter.tick(&database.snapshot()).await.unwrap();
            }
            trouble.begin(&catalog).await;
            let mut later = connect(&database, &catalog);
            if !matches!(what, "no manifest" | "no manifest list") {
                let error = fail(&mut exporter, &database, &table).await;
                assert!(trouble.is(&error), "{guard:?}, {what}: {error}");
            }
            let error = fail(&mut later, &database, &table).await;
            assert!(trouble.is(&error), "{guard:?}, {what}: {error}");
            trouble.mend(&catalog).await;
            export_at_last(&mut later, &database).await;
            assert_eq!(later.standings()["shop.notes"].failures, 0);
            assert!(database.pending_exports().is_empty(), "{guard:?}, {what}");
            world.check_same_in(&database, catalog.clone()).await;
        }
    }
}

/// The database's own disk is full: exports and writes go on by themselves once there is space.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_database_ends_nothing() {
    let world = World::new(FormatVersion::V3);
    let io = SimulatedIo::new(1);
    let options = Options {
        io: Arc::new(io.clone()),
        ..Options::unmeasured()
    };
    let database = Database::open("/db", options).unwrap();
    let table = notes(&database);
    let catalog = SimulatedCatalog::new(Guard::Requirements, 7);
    catalog.calm();
    let mut exporter = connect(&database, &catalog);
    write_notes(&database, &table, [(1, "before".to_owned())], &[]);
    exporter.tick(&database.snapshot()).await.unwrap();
    write_notes(&database, &table, [(1, "after".to_owned())], &[]);
    io.fill_after(Some(0));
    while exporter.standings()["shop.notes"].failures == 0 {
        tick_due(&mut exporter).await;
    }
    let error = exporter.tick(&database.snapshot()).await.unwrap_err();
    assert!(
        matches!(&error, ExportError::Engine(Error::NoSpace { .. })),
        "{error}"
    );
    io.fill_after(None);
    write_notes(&database, &table, [(2, "after".to_owned())], &[]);
    export_at_last(&mut exporter, &database).await;
    world.check_same_in(&database, catalog.clone()).await;
}
