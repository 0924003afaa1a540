//! The loop of a `file` source: step, apply, submit; and what happens at the end, on a stop and on an error.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::apply::{Applier, Refusal};
use super::config::{FileConfig, InputPath};
use super::files::Files;
use super::input::{Input, Step, StreamLines};
use super::position::Position;
use crate::{Phase, RunMode, SourceContext, SourceError};

/// Runs to the end, until stopped, or until an error. Blocks; `runtime` is for timed waits, `stdin` is what `-` reads.
pub(super) fn run(
    source_name: &str,
    config: &FileConfig,
    context: &SourceContext,
    runtime: &tokio::runtime::Handle,
    stdin: impl Read + Send + 'static,
) -> Result<(), SourceError> {
    context.progress.set_phase(Phase::Starting);
    let mut input = open_input(source_name, config, context, stdin)?;
    let mut applier = Applier::open(
        &context.database,
        source_name,
        config,
        input.position(),
        Arc::clone(&context.progress),
    )?;
    context.progress.set_phase(Phase::Streaming);
    report(context, &input);
    let transaction_idle = Duration::from_millis(config.transaction_idle_ms);
    let outcome = follow(&mut input, &mut applier, context, transaction_idle, runtime);
    // All that was submitted is to be durable even where the loop ended with an error.
    applier.wait_durable()?;
    report(context, &input);
    outcome?;
    context.progress.set_phase(Phase::Finished);
    Ok(())
}

fn open_input(
    source_name: &str,
    config: &FileConfig,
    context: &SourceContext,
    stdin: impl Read + Send + 'static,
) -> Result<Input, SourceError> {
    let origin = context.database.origin(source_name);
    let stored = origin
        .map(|origin| Position::from_text(&origin.position))
        .transpose();
    let stored = stored
        .map_err(|reason| SourceError::Config(format!("source '{source_name}': {reason}")))?;
    match config.input() {
        InputPath::Stdin => {
            let run = stored.map_or(0, |position| position.run) + 1;
            let start = Position {
                run,
                ..Position::start_of("-".into())
            };
            let stream = StreamLines::spawn(stdin, start);
            Ok(Input::Stream(stream.map_err(|error| {
                SourceError::Unavailable(format!("cannot start a thread: {error}"))
            })?))
        }
        InputPath::Path(path) => {
            let follow = context.mode == RunMode::Continuous;
            Ok(Input::Files(Box::new(Files::open(&path, stored, follow)?)))
        }
    }
}

fn follow(
    input: &mut Input,
    applier: &mut Applier,
    context: &SourceContext,
    transaction_idle: Duration,
    runtime: &tokio::runtime::Handle,
) -> Result<(), SourceError> {
    let mut idle_since: Option<Instant> = None;
    loop {
        if context.stop.is_cancelled() {
            // A source transaction whose end was not seen is read again by the next run.
            if !applier.is_in_source_transaction() {
                applier.close()?;
            }
            return Ok(());
        }
        match input.step() {
            Ok(Step::Line) => {
                idle_since = None;
                if let Err(refusal) = applier.apply(input.line(), input.position()) {
                    return Err(refuse(input, applier, refusal));
                }
                if input.position().line.is_multiple_of(1024) {
                    report(context, input);
                }
            }
            Ok(Step::Idle) => {
                let since = *idle_since.get_or_insert_with(Instant::now);
                if !applier.is_in_source_transaction() || since.elapsed() >= transaction_idle {
                    applier.close()?;
                }
                report(context, input);
                input.wait(&context.stop, runtime);
            }
            Ok(Step::End) => {
                applier.close()?;
                return Ok(());
            }
            Err(error) => {
                if !applier.is_in_source_transaction() {
                    applier.close()?;
                }
                return Err(error);
            }
        }
    }
}

/// Keeps what came whole before a line that can't be applied, and names that line.
fn refuse(input: &mut Input, applier: &mut Applier, refusal: Refusal) -> SourceError {
    let place = input.place();
    let is_cut_off = !input.line().ends_with(b"\n");
    let (mut reason, is_whole) = match refusal {
        Refusal::Engine(error) => return SourceError::Engine(error),
        // The line is in the open transaction itself, so that one lacks a part.
        Refusal::Misfit(reason) => (reason, !applier.is_in_source_transaction()),
        // It is in the open transaction if the line after it is.
        Refusal::Unreadable(reason) => {
            let goes_on =
                matches!(input.step(), Ok(Step::Line)) && applier.goes_on_with(input.line());
            (reason, !goes_on)
        }
    };
    if is_whole {
        if let Err(error) = applier.close() {
            return SourceError::Engine(error);
        }
    } else {
        applier.drop_open();
    }
    if is_cut_off {
        reason.push_str(" (the input ends within this line)");
    }
    SourceError::Record { place, reason }
}

fn report(context: &SourceContext, input: &Input) {
    let known_bytes = input.known_bytes();
    context.progress.set_total_bytes(known_bytes);
    context
        .progress
        .set_lag_bytes(known_bytes.saturating_sub(input.taken_bytes()));
}

#[cfg(test)]
mod tests {
    use moonshine_engine::{Database, Options, Value};
    use tokio_util::sync::CancellationToken;

    use super::super::config::FileTable;
    use super::*;
    use crate::Progress;

    #[tokio::test(flavor = "multi_thread")]
    async fn standard_input_is_applied_from_its_start_each_time() {
        let folder = tempfile::TempDir::new().unwrap();
        let columns =
            [("id", "int64"), ("n", "int32")].map(|(name, text)| (name.into(), text.into()));
        let table = FileTable {
            columns: Some(columns.into_iter().collect()),
            ..FileTable::new("a.b", ["id"])
        };
        let config = FileConfig::new("-", vec![table]);
        let mut lines = String::new();
        for (op, id) in [("c", 1), ("c", 2), ("c", 3), ("d", 2)] {
            let row = format!(r#"{{"id":{id},"n":{id}}}"#);
            lines += &format!(r#"{{"op":"{op}","before":{row},"after":{row}}}"#);
            lines.push('\n');
        }
        let database = Database::open(folder.path(), Options::unmeasured()).unwrap();
        // The second run's stream has grown, the third one's is cut off within its last line.
        let grown = lines.clone() + &lines.replace("1,", "4,");
        let cut = lines.trim_end().trim_end_matches('}').to_owned();
        for (run, text, row_count) in [(1, lines.clone(), 2), (2, grown, 3), (3, cut.clone(), 4)] {
            let context = SourceContext {
                database: database.clone(),
                mode: RunMode::Continuous,
                stop: CancellationToken::new(),
                progress: Arc::new(Progress::default()),
            };
            let (config, runtime) = (config.clone(), tokio::runtime::Handle::current());
            let is_cut = text == cut;
            let stdin = std::io::Cursor::new(text);
            let task = move || super::run("s", &config, &context, &runtime, stdin);
            let outcome = tokio::task::spawn_blocking(task).await.unwrap();
            match outcome {
                Err(error) => assert!(
                    is_cut && error.to_string().starts_with("stdin:4: "),
                    "{error}"
                ),
                Ok(()) => assert!(!is_cut),
            }
            let position = Position::from_text(&database.origin("s").unwrap().position).unwrap();
            assert_eq!((position.file.as_ref(), position.run), ("-", run));
            let table = database.table("a.b").unwrap();
            let snapshot = database.snapshot();
            assert_eq!(snapshot.row_count(&table).unwrap(), row_count, "run {run}");
            assert!(snapshot.get(&table, &[Value::Int64(3)]).unwrap().is_some());
        }
    }
}
