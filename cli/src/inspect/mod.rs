//! `moonshine inspect`: what a database was laid out from, and what lies in it.
//!
//! The database is opened to read, so a running `sync` is not disturbed; what is found becomes an [`Inspection`], which
//! is printed as JSON, or by [`text`] for people.

mod space;
mod text;

use std::path::{Path, PathBuf};

use indicatif::MultiProgress;
use moonshine_engine::{Database, LayoutNumber, Options, PendingExport, Snapshot, Table, Unit};
use serde::Serialize;
use space::{SpaceFacts, TreeFacts};

use crate::args::InspectArguments;
use crate::config::LogLevel;
use crate::error::CliError;
use crate::log;
use crate::query::print;

/// What there is to say of a database.
#[derive(Debug, Serialize)]
struct Inspection {
    database: PathBuf,
    id: String,
    profile: ProfileFacts,
    layout: Vec<LayoutFact>,
    log: LogFacts,
    space: SpaceFacts,
    tables: Vec<TableFacts>,
    sources: Vec<SourceFacts>,
    pending_exports: Vec<PendingFacts>,
}

/// The numbers that were kept at the database's creation.
#[derive(Debug, Serialize)]
struct ProfileFacts {
    s_size_bytes: u64,
    s_paral: u32,
    commit_batch_bytes: Option<u64>,
    from: String,
    measured_at: Option<String>,
    machine: Option<String>,
    method: String,
}

/// A number that follows from them.
#[derive(Debug, Serialize)]
struct LayoutFact {
    name: &'static str,
    value: u64,
    unit: &'static str,
    from: String,
    formula: &'static str,
}

#[derive(Debug, Serialize)]
struct LogFacts {
    commit_seq: u64,
    size_bytes: u64,
    segments: Vec<SegmentFacts>,
}

#[derive(Debug, Serialize)]
struct SegmentFacts {
    file: String,
    size_bytes: u64,
}

#[derive(Debug, Serialize)]
struct TableFacts {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    rows: u64,
    /// Its rows below level 0.
    tree: TreeFacts,
    key: Vec<String>,
    columns: Vec<ColumnFacts>,
    /// The last export; none was committed yet where it is missing.
    exported: Option<ExportedFacts>,
    /// What the next export would write and remove.
    unexported: UnexportedFacts,
}

#[derive(Debug, Serialize)]
struct ColumnFacts {
    name: String,
    #[serde(rename = "type")]
    column_type: String,
    nullable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

#[derive(Debug, Serialize)]
struct ExportedFacts {
    commit_seq: u64,
    token: String,
}

#[derive(Debug, Serialize)]
struct UnexportedFacts {
    rows_written: u64,
    rows_removed: u64,
}

#[derive(Debug, Serialize)]
struct SourceFacts {
    name: String,
    position: String,
}

/// An export whose outcome in the catalog is not known here yet.
#[derive(Debug, Serialize)]
struct PendingFacts {
    table: String,
    commit_id: String,
    from_seq: u64,
    to_seq: u64,
    files: usize,
}

/// Runs the command.
pub(crate) fn run(arguments: &InspectArguments) -> Result<(), CliError> {
    log::start(LogLevel::Warn, &MultiProgress::new());
    let database = Database::open_read_only(&arguments.database, Options::default())?;
    let inspection = Inspection::of(&database, &arguments.database)?;
    if arguments.json {
        let json = serde_json::to_string_pretty(&inspection);
        return print(&(json.map_err(|error| CliError::Output(error.to_string()))? + "\n"));
    }
    print(&text::text(&inspection))
}

impl Inspection {
    fn of(database: &Database, folder: &Path) -> Result<Self, CliError> {
        let snapshot = database.snapshot();
        let statistics = database.statistics();
        let tables = database.tables();
        let tables = tables.iter().map(|table| {
            let tree = TreeFacts::of(&statistics, table.name());
            table_facts(database, &snapshot, table, tree)
        });
        let sources = snapshot.origins().into_iter().map(|origin| SourceFacts {
            name: origin.source,
            position: origin.position,
        });
        Ok(Inspection {
            database: folder.to_owned(),
            id: database.id().to_string(),
            profile: profile_facts(database),
            layout: database.layout().numbers().map(layout_fact).into(),
            log: log_facts(database)?,
            space: SpaceFacts::of(&statistics),
            tables: tables.collect::<Result<_, _>>()?,
            sources: sources.collect(),
            pending_exports: database
                .pending_exports()
                .iter()
                .map(pending_facts)
                .collect(),
        })
    }
}

fn profile_facts(database: &Database) -> ProfileFacts {
    let profile = database.profile();
    ProfileFacts {
        s_size_bytes: profile.s_size_bytes(),
        s_paral: profile.s_paral(),
        commit_batch_bytes: profile.commit_batch_bytes(),
        from: profile.provenance().to_string(),
        measured_at: profile.measured_at().map(str::to_owned),
        machine: profile.machine().map(str::to_owned),
        method: profile.method().to_owned(),
    }
}

fn layout_fact(number: &LayoutNumber) -> LayoutFact {
    LayoutFact {
        name: number.name,
        value: number.value,
        unit: match number.unit {
            Unit::Bytes => "bytes",
            Unit::Count => "count",
        },
        from: number.provenance.to_string(),
        formula: number.formula,
    }
}

fn log_facts(database: &Database) -> Result<LogFacts, CliError> {
    let segments = database.log_segments()?;
    Ok(LogFacts {
        commit_seq: database.durable_seq(),
        size_bytes: segments.iter().map(|segment| segment.size_bytes).sum(),
        segments: segments
            .iter()
            .map(|segment| SegmentFacts {
                file: segment.path.display().to_string(),
                size_bytes: segment.size_bytes,
            })
            .collect(),
    })
}

fn table_facts(
    database: &Database,
    snapshot: &Snapshot,
    table: &Table,
    tree: TreeFacts,
) -> Result<TableFacts, CliError> {
    let schema = table.schema();
    let columns = schema.columns().iter().map(|column| ColumnFacts {
        name: column.name.clone(),
        column_type: column.column_type.to_string(),
        nullable: column.nullable,
        comment: column.comment.clone(),
    });
    let changes = database.changes(table, snapshot)?;
    Ok(TableFacts {
        name: table.name().to_owned(),
        comment: schema.comment().map(str::to_owned),
        rows: snapshot.row_count(table)?,
        tree,
        key: schema
            .key_columns()
            .map(|column| column.name.clone())
            .collect(),
        columns: columns.collect(),
        exported: database.exported(table).map(|exported| ExportedFacts {
            commit_seq: exported.seq,
            token: exported.token,
        }),
        unexported: UnexportedFacts {
            rows_written: changes.row_count(),
            rows_removed: changes.removed().row_count(),
        },
    })
}

fn pending_facts(pending: &PendingExport) -> PendingFacts {
    PendingFacts {
        table: pending.table().name().to_owned(),
        commit_id: pending.commit_id().to_string(),
        from_seq: pending.from_seq(),
        to_seq: pending.to_seq(),
        files: pending.files().len(),
    }
}
