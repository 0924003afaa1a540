//! `moonshine query`.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use indicatif::MultiProgress;
use moonshine_engine::{Database, Options};
use moonshine_export::{IcebergConfig, IcebergReader};
use moonshine_query::{QuerySession, write_batches};

use crate::args::{Format, QueryArguments};
use crate::config::{Config, LogLevel};
use crate::error::CliError;
use crate::log;
use crate::sync::iceberg_config;

/// Where the tables are, and the question.
struct Question {
    database: PathBuf,
    iceberg: Option<IcebergConfig>,
    log_level: LogLevel,
    sql: String,
}

/// Answers one statement.
pub(crate) async fn run(arguments: QueryArguments) -> Result<(), CliError> {
    let question = question(&arguments)?;
    let to_terminal = arguments.output.is_none() && io::stdout().is_terminal();
    if arguments.format == Format::Parquet && to_terminal {
        return Err(CliError::Arguments(
            "Parquet is no text; add --output FILE or redirect it".into(),
        ));
    }
    log::start(question.log_level, &MultiProgress::new());
    let database = open_to_read(question.database).await?;
    let reader = reader(question.iceberg.as_ref()).await;
    let session = QuerySession::open(&database, reader.as_ref()).await?;
    let answer = session.query(&question.sql).await?;
    let mut out = output(arguments.output.as_deref())?;
    write_batches(answer, arguments.format.into(), &mut out).await?;
    out.flush()
        .map_err(|error| CliError::Output(format!("writing the answer: {error}")))
}

fn question(arguments: &QueryArguments) -> Result<Question, CliError> {
    match (arguments.inputs.as_slice(), &arguments.database) {
        ([sql], Some(database)) => Ok(Question {
            database: database.clone(),
            iceberg: arguments
                .warehouse
                .as_deref()
                .map(iceberg_config)
                .transpose()?,
            log_level: LogLevel::Warn,
            sql: sql.clone(),
        }),
        ([config, sql], None) => {
            let config = Config::load(Path::new(config))?;
            Ok(Question {
                database: config.database,
                iceberg: config.iceberg,
                // An answer is not the place for news: only what goes wrong.
                log_level: config.monitoring.log_level.min(LogLevel::Warn),
                sql: sql.clone(),
            })
        }
        ([_], None) => Err(CliError::Arguments(
            "query takes a configuration file and the SQL: moonshine query CONFIG.yaml \"SQL\""
                .into(),
        )),
        _ => Err(CliError::Arguments(
            "query takes a configuration file or --database, not both".into(),
        )),
    }
}

/// Opens a database beside whoever writes it.
pub(crate) async fn open_to_read(folder: PathBuf) -> Result<Database, CliError> {
    let open = move || Database::open_read_only(folder, Options::default());
    let database = tokio::task::spawn_blocking(open).await;
    Ok(database.map_err(|error| CliError::Output(error.to_string()))??)
}

/// The exported tables; without them the engine answers alone, since it holds every row.
async fn reader(iceberg: Option<&IcebergConfig>) -> Option<IcebergReader> {
    match IcebergReader::open_if_exists(iceberg?).await {
        Ok(reader) => reader,
        Err(error) => {
            tracing::warn!(%error, "the exported tables can't be read; the engine answers alone");
            None
        }
    }
}

/// Prints text to standard output.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut out = StandardOutput(io::stdout());
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| CliError::Output(format!("writing the answer: {error}")))
}

fn output(path: Option<&Path>) -> Result<Box<dyn Write + Send>, CliError> {
    match path {
        None => Ok(Box::new(BufWriter::new(StandardOutput(io::stdout())))),
        Some(path) => match File::create(path) {
            Ok(file) => Ok(Box::new(BufWriter::new(file))),
            Err(error) => Err(CliError::Output(format!("{}: {error}", path.display()))),
        },
    }
}

/// Standard output. Once nobody reads it any more, as behind `| head`, the program ends in silence.
struct StandardOutput(io::Stdout);

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        end_if_unread(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        end_if_unread(self.0.flush())
    }
}

fn end_if_unread<T>(written: io::Result<T>) -> io::Result<T> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written,
    }
}
