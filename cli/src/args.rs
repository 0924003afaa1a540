//! Commands and flags.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use moonshine_query::OutputFormat;

use crate::config::ProfileSetting;

/// Live change streams as Apache Iceberg tables.
#[derive(Debug, Parser)]
#[command(name = "moonshine", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mirror sources into Iceberg tables: until SIGINT or SIGTERM, or to the end with --once
    Sync(SyncArguments),
    /// Answer SQL from the engine and the exported tables together
    Query(QueryArguments),
    /// Export one table into its Iceberg table and end; or name a point of the table's history
    Export(ExportArguments),
    /// Have the main branch of an exported table show what was exported to another one
    Publish(PublishArguments),
    /// Measure a folder's device and the cores: S-Size, S-Paral, and the curves they come from
    Probe(ProbeArguments),
    /// Measure I/O with jobs in fio's syntax, from job files and flags
    #[command(disable_help_flag = true)]
    Bench(BenchArguments),
    /// Say what a database was laid out from, which number came from where, and what lies in it
    Inspect(InspectArguments),
    /// Read a whole database and name all that is damaged; exit status 1 if anything is
    Check(CheckArguments),
    /// Write a database's newest rows below its log and do every compaction that is due
    Compact(CompactArguments),
    /// Look after the exported tables: expire old snapshots, merge small manifests; a running sync does so by itself
    Maintain(MaintainArguments),
    /// Copy a database, also beside a running sync, into a folder of its own; by hard links where that is possible
    Backup(BackupArguments),
    /// Copy a backup into a new folder and check every file of the copy
    Restore(RestoreArguments),
    /// Print the JSON Schema of the configuration file
    ConfigSchema,
}

#[derive(Debug, Args)]
pub(crate) struct SyncArguments {
    /// The configuration file; or use --from and the flags below it for one table
    pub(crate) config: Option<PathBuf>,
    /// Stop when the source's end, or what was its end at the start, is exported; print what there is
    #[arg(long)]
    pub(crate) once: bool,
    /// Check the configuration, the sources and the catalog, change nothing, and exit
    #[arg(long, conflicts_with = "once")]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) one_table: OneTableArguments,
}

/// What stands in for a configuration file.
#[derive(Debug, Args)]
#[command(next_help_heading = "One table, without a configuration file")]
pub(crate) struct OneTableArguments {
    /// The source: a file or folder of Debezium JSON lines, - for standard input, or a postgres:// URL
    #[arg(long, value_name = "PATH|URL")]
    pub(crate) from: Option<String>,
    /// The table, schema.table
    #[arg(long, requires = "from")]
    pub(crate) table: Option<String>,
    /// Its primary key's columns; PostgreSQL knows them
    #[arg(long, value_delimiter = ',', requires = "from")]
    pub(crate) key: Vec<String>,
    /// Its columns as name:type, for events without a schema: order_id:int64,total:decimal(12,2)
    #[arg(long, requires = "from")]
    pub(crate) columns: Option<String>,
    /// The engine's folder
    #[arg(long, requires = "from", default_value = "./data")]
    pub(crate) database: PathBuf,
    /// What a new database is laid out from: measure, safe-defaults, or the path of a profile; by default PROFILE.toml in
    /// its folder if it is there, else measure, which takes up to 10 s
    #[arg(long, requires = "from", value_name = "measure|safe-defaults|FILE")]
    pub(crate) profile: Option<ProfileSetting>,
    /// The folder of the Iceberg tables
    #[arg(long, requires = "from")]
    pub(crate) warehouse: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct QueryArguments {
    /// The configuration file and the SQL; with --database the SQL alone
    #[arg(num_args = 1..=2, required = true, value_names = ["CONFIG", "SQL"])]
    pub(crate) inputs: Vec<String>,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Where to write the answer instead of standard output
    #[arg(long, short)]
    pub(crate) output: Option<PathBuf>,
    /// The engine's folder, instead of a configuration file
    #[arg(long)]
    pub(crate) database: Option<PathBuf>,
    /// The folder of the Iceberg tables
    #[arg(long, requires = "database")]
    pub(crate) warehouse: Option<PathBuf>,
}

/// One table of a database, and where it is exported to.
#[derive(Debug, Args)]
pub(crate) struct ExportedTableArguments {
    /// The configuration file; with --warehouse the database's folder
    #[arg(value_name = "CONFIG|DATABASE")]
    pub(crate) place: PathBuf,
    /// The table, schema.table
    #[arg(long)]
    pub(crate) table: String,
    /// The folder of the Iceberg tables, in place of a configuration file
    #[arg(long)]
    pub(crate) warehouse: Option<PathBuf>,
}

/// No sync may run on the database meanwhile, except with --as-of.
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    #[command(flatten)]
    pub(crate) table: ExportedTableArguments,
    /// Export nothing; find the newest state up to a commit (1042), an LSN (0/16B3748, or source@0/16B3748) or a time
    /// (2026-11-21T12:00:00Z)
    #[arg(long, value_name = "COMMIT|LSN|TIME")]
    pub(crate) as_of: Option<String>,
    /// Give the state this tag
    #[arg(long, value_name = "NAME")]
    pub(crate) tag: Option<String>,
    /// Begin this branch with the state
    #[arg(long, value_name = "NAME")]
    pub(crate) branch: Option<String>,
    /// Print the state as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PublishArguments {
    #[command(flatten)]
    pub(crate) table: ExportedTableArguments,
    /// The branch to publish; by default the one that the table is exported to
    #[arg(long, value_name = "NAME")]
    pub(crate) branch: Option<String>,
    /// Publish this snapshot of the branch instead of its newest
    #[arg(long, value_name = "ID", conflicts_with = "as_of")]
    pub(crate) snapshot: Option<i64>,
    /// Publish the newest state up to a commit, an LSN or a time, as `export` takes them
    #[arg(long, value_name = "COMMIT|LSN|TIME")]
    pub(crate) as_of: Option<String>,
    /// Give what is published this tag
    #[arg(long, value_name = "NAME")]
    pub(crate) tag: Option<String>,
    /// Print what was published as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeArguments {
    /// The folder whose device is measured
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) folder: PathBuf,
    /// Only what a profile needs: at most 10 s and 256 MiB instead of 60 s and 1 GiB
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write nothing, read alone: FILE, a block device, or without it the largest file in DIR
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub(crate) read_only: Option<Option<PathBuf>>,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Say in words what was measured and what it is for
    #[arg(long, conflicts_with = "json")]
    pub(crate) explain: bool,
    /// Write the curves there, as one page: .html with tables and explanation, or .svg
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Write the profile there; a new database takes it from PROFILE.toml in its folder
    #[arg(long, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,
}

/// Taken apart by the harness itself, which reads its options by one table for flags and job files.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// fio's flags and job files; --help lists them
    #[arg(
        value_name = "FLAG|JOBFILE",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) flags: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// The database's folder. Nothing in it is changed, and a running sync is not disturbed
    pub(crate) database: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The database's folder. Nothing in it is changed, and a running sync is not disturbed
    pub(crate) database: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompactArguments {
    /// The database's folder. No sync may run on it meanwhile
    pub(crate) database: PathBuf,
    /// Print what was saved as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MaintainArguments {
    /// The configuration file; or use --database and --warehouse
    pub(crate) config: Option<PathBuf>,
    /// Say what would be done, change nothing, and leave a running sync undisturbed; without it no sync may run meanwhile
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// One table, schema.table; by default all
    #[arg(long)]
    pub(crate) table: Option<String>,
    /// The engine's folder, instead of a configuration file
    #[arg(long, requires = "warehouse")]
    pub(crate) database: Option<PathBuf>,
    /// The folder of the Iceberg tables
    #[arg(long, requires = "database")]
    pub(crate) warehouse: Option<PathBuf>,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArguments {
    /// The database's folder. Nothing in it is changed, and a running sync is not disturbed
    pub(crate) database: PathBuf,
    /// The folder of the backup: empty, or not there yet
    pub(crate) target: PathBuf,
    /// Print what was done as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    /// The folder of the backup; it stays as it is
    pub(crate) backup: PathBuf,
    /// The folder of the database: empty, or not there yet
    pub(crate) database: PathBuf,
    /// Print what was done as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table for people
    Table,
    /// Comma-separated values with a line of names
    Csv,
    /// One JSON object a line
    Json,
    /// A Parquet file
    Parquet,
}

impl From<Format> for OutputFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Table => OutputFormat::Table,
            Format::Csv => OutputFormat::Csv,
            Format::Json => OutputFormat::Json,
            Format::Parquet => OutputFormat::Parquet,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_fit_together() {
        Arguments::command().debug_assert();
        assert!(
            Arguments::try_parse_from(["moonshine", "sync", "a.yaml", "--once", "--check"])
                .is_err()
        );
        assert!(Arguments::try_parse_from(["moonshine", "sync", "--table", "a.b"]).is_err());
        assert!(Arguments::try_parse_from(["moonshine", "query"]).is_err());
        assert!(Arguments::try_parse_from(["moonshine", "probe", "--json", "--explain"]).is_err());
        Arguments::try_parse_from(["moonshine", "probe", "--quick"]).unwrap();
        let bench = [
            "moonshine",
            "bench",
            "--name=a",
            "-rw=read",
            "--help",
            "a.fio",
        ];
        let Command::Bench(bench) = Arguments::try_parse_from(bench).unwrap().command else {
            panic!("another command");
        };
        assert_eq!(bench.flags, ["--name=a", "-rw=read", "--help", "a.fio"]);
        Arguments::try_parse_from([
            "moonshine",
            "query",
            "a.yaml",
            "select 1",
            "--format",
            "json",
        ])
        .unwrap();
    }
}
