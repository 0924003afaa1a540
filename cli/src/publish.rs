//! `moonshine publish`: the main branch of an exported table goes on to what was exported to another one.

use indicatif::MultiProgress;
use moonshine_export::{AsOf, Publish, Published, TableHistory};
use serde::Serialize;

use crate::args::PublishArguments;
use crate::error::CliError;
use crate::export::{Place, find_table};
use crate::log;
use crate::query::{open_to_read, print};

#[derive(Debug, Serialize)]
struct PublishFacts<'a> {
    table: &'a str,
    branch: &'a str,
    snapshot_id: i64,
    commit_seq: Option<u64>,
    /// What the main branch showed before.
    main_before: Option<i64>,
    tag: Option<&'a str>,
}

/// Runs the command.
pub(crate) async fn run(arguments: PublishArguments) -> Result<(), CliError> {
    let place = Place::of(&arguments.table)?;
    log::start(place.log_level, &MultiProgress::new());
    let database = open_to_read(place.database).await?;
    let table = find_table(&database, &arguments.table.table)?;
    let history = TableHistory::open(&place.iceberg, &database, &table).await?;
    let as_of: Option<AsOf> = arguments.as_of.as_deref().map(str::parse).transpose()?;
    let snapshot_id = match as_of {
        Some(as_of) => Some(history.version_as_of(as_of).await?.snapshot_id),
        None => arguments.snapshot,
    };
    let published = history.publish(Publish {
        branch: arguments.branch.clone(),
        snapshot_id,
        tag: arguments.tag.clone(),
    });
    print(&text(&arguments, &published.await?)?)
}

fn text(arguments: &PublishArguments, published: &Published) -> Result<String, CliError> {
    let table = arguments.table.table.as_str();
    if arguments.json {
        let facts = PublishFacts {
            table,
            branch: &published.branch,
            snapshot_id: published.snapshot_id,
            commit_seq: published.commit_seq,
            main_before: published.main_before,
            tag: arguments.tag.as_deref(),
        };
        let json = serde_json::to_string_pretty(&facts);
        return Ok(json.map_err(|error| CliError::Output(error.to_string()))? + "\n");
    }
    let before = match published.main_before {
        Some(before) => format!("it was at snapshot {before}"),
        None => "it was empty".to_owned(),
    };
    let commit = published.commit_seq;
    let commit = commit.map_or(String::new(), |seq| format!(", commit {seq},"));
    Ok(format!(
        "{table}: the main branch has snapshot {}{commit} of branch '{}'; {before}\n",
        published.snapshot_id, published.branch
    ))
}
