//! An answer as text or bytes.

use std::io::Write;

use arrow_array::RecordBatch;
use futures::TryStreamExt;

use crate::error::{QueryError, Result};
use crate::session::{QueryResult, execution};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// A table for people.
    Table,
    /// Comma-separated values with a line of names.
    Csv,
    /// One JSON object a line.
    Json,
    /// A Parquet file.
    Parquet,
}

/// Writes an answer, batch by batch where the format allows it; returns how many rows it had.
///
/// # Errors
/// [`QueryError::Execution`] if running the query fails, [`QueryError::Output`] if writing does.
pub async fn write_batches(
    answer: QueryResult,
    format: OutputFormat,
    out: &mut (dyn Write + Send),
) -> Result<u64> {
    let mut writer = Writer::new(&answer, format, out)?;
    let mut batches = answer.batches;
    let mut row_count = 0;
    while let Some(batch) = batches.try_next().await.map_err(execution)? {
        row_count += batch.num_rows() as u64;
        writer.write(batch)?;
    }
    writer.finish()?;
    Ok(row_count)
}

enum Writer<'a> {
    /// Column widths depend on all rows, so they are gathered.
    Table {
        schema: arrow_schema::SchemaRef,
        batches: Vec<RecordBatch>,
        out: &'a mut (dyn Write + Send),
    },
    Csv(Box<arrow_csv::Writer<&'a mut (dyn Write + Send)>>),
    Json(Box<arrow_json::LineDelimitedWriter<&'a mut (dyn Write + Send)>>),
    Parquet(Box<parquet::arrow::ArrowWriter<&'a mut (dyn Write + Send)>>),
}

impl<'a> Writer<'a> {
    fn new(
        answer: &QueryResult,
        format: OutputFormat,
        out: &'a mut (dyn Write + Send),
    ) -> Result<Self> {
        Ok(match format {
            OutputFormat::Table => Writer::Table {
                schema: answer.schema.clone(),
                batches: Vec::new(),
                out,
            },
            OutputFormat::Csv => {
                let mut writer = arrow_csv::WriterBuilder::new().with_header(true).build(out);
                // An answer without rows still names its columns.
                writer
                    .write(&RecordBatch::new_empty(answer.schema.clone()))
                    .map_err(output)?;
                Writer::Csv(Box::new(writer))
            }
            OutputFormat::Json => Writer::Json(Box::new(
                arrow_json::WriterBuilder::new()
                    .with_explicit_nulls(true)
                    .build::<_, arrow_json::writer::LineDelimited>(out),
            )),
            OutputFormat::Parquet => {
                let writer = parquet::arrow::ArrowWriter::try_new(out, answer.schema.clone(), None);
                Writer::Parquet(Box::new(writer.map_err(output)?))
            }
        })
    }

    fn write(&mut self, batch: RecordBatch) -> Result<()> {
        match self {
            Writer::Table { batches, .. } => {
                batches.push(batch);
                Ok(())
            }
            Writer::Csv(writer) => writer.write(&batch).map_err(output),
            Writer::Json(writer) => writer.write(&batch).map_err(output),
            Writer::Parquet(writer) => writer.write(&batch).map_err(output),
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Writer::Table {
                schema,
                mut batches,
                out,
            } => {
                if batches.is_empty() {
                    batches.push(RecordBatch::new_empty(schema));
                }
                let options = arrow_cast::display::FormatOptions::default().with_null("NULL");
                let row_count: usize = batches.iter().map(RecordBatch::num_rows).sum();
                let table =
                    arrow_cast::pretty::pretty_format_batches_with_options(&batches, &options);
                let rows = if row_count == 1 { "row" } else { "rows" };
                writeln!(out, "{}\n{row_count} {rows}", table.map_err(output)?).map_err(output)
            }
            Writer::Csv(_) => Ok(()),
            Writer::Json(mut writer) => writer.finish().map_err(output),
            Writer::Parquet(writer) => writer.close().map(|_| ()).map_err(output),
        }
    }
}

fn output(error: impl std::fmt::Display) -> QueryError {
    QueryError::Output(error.to_string())
}
