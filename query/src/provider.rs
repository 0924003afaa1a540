//! A table as DataFusion sees it: engine and Iceberg files as the partitions of one scan.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt};
use moonshine_engine::{Changes, Error, KeyPredicate, Scan, Snapshot, Table, Value};
use moonshine_export::IcebergSnapshot;

use crate::scalar::{scalar_of, value_of};

/// Rows of a batch from the engine.
const BATCH_ROWS: usize = 8192;

/// A table at one snapshot of the engine.
#[derive(Debug)]
pub(crate) struct UnionTable {
    table: Table,
    snapshot: Snapshot,
    rows: Rows,
}

/// Where the rows come from.
#[derive(Debug)]
enum Rows {
    /// The engine holds them all.
    Engine,
    /// The files of the last export, and what changed since.
    Union {
        changes: Arc<Changes>,
        iceberg: IcebergSnapshot,
    },
}

impl UnionTable {
    /// A table that was never exported, or whose files can't be had.
    pub(crate) fn of_engine(table: Table, snapshot: Snapshot) -> Self {
        UnionTable {
            table,
            snapshot,
            rows: Rows::Engine,
        }
    }

    /// A table of which `iceberg` is the export that `changes` are the changes since.
    pub(crate) fn of_both(
        table: Table,
        snapshot: Snapshot,
        changes: Changes,
        iceberg: IcebergSnapshot,
    ) -> Self {
        UnionTable {
            table,
            snapshot,
            rows: Rows::Union {
                changes: Arc::new(changes),
                iceberg,
            },
        }
    }

    fn partitions(
        &self,
        schema: &SchemaRef,
        projection: Option<&[usize]>,
        filters: &[Expr],
    ) -> Vec<Arc<dyn PartitionStream>> {
        let projection = projection.map(<[usize]>::to_vec);
        let partition = |part| -> Arc<dyn PartitionStream> {
            Arc::new(Partition {
                schema: schema.clone(),
                projection: projection.clone(),
                part,
            })
        };
        match &self.rows {
            Rows::Engine => {
                vec![partition(Part::Engine {
                    table: self.table.clone(),
                    snapshot: self.snapshot.clone(),
                    predicates: self.predicates(filters),
                })]
            }
            Rows::Union { changes, iceberg } => {
                let removed = changes.removed().files();
                let mut excluded: HashMap<&str, Vec<u64>> = removed
                    .map(|(path, positions)| (&**path, positions.map(u64::from).collect()))
                    .collect();
                let files =
                    iceberg
                        .files()
                        .iter()
                        .enumerate()
                        .map(|(file, data_file)| Part::File {
                            iceberg: iceberg.clone(),
                            file,
                            excluded: excluded.remove(data_file.path()).unwrap_or_default(),
                        });
                let mut parts: Vec<_> = files.map(partition).collect();
                if changes.row_count() > 0 || parts.is_empty() {
                    parts.push(partition(Part::Changes {
                        changes: changes.clone(),
                    }));
                }
                parts
            }
        }
    }

    /// What the filters say of columns of the primary key, as far as the engine can tell by it what it need not read.
    fn predicates(&self, filters: &[Expr]) -> Vec<KeyPredicate> {
        let predicates = filters.iter().filter_map(|filter| self.predicate(filter));
        predicates.collect()
    }

    fn predicate(&self, filter: &Expr) -> Option<KeyPredicate> {
        match filter {
            // A list of few values comes as a chain of these.
            Expr::BinaryExpr(either) if either.op == Operator::Or => {
                match (
                    self.predicate(&either.left)?,
                    self.predicate(&either.right)?,
                ) {
                    (
                        KeyPredicate::In { column, mut values },
                        KeyPredicate::In {
                            column: same,
                            values: more,
                        },
                    ) if column == same => {
                        values.extend(more);
                        Some(KeyPredicate::In { column, values })
                    }
                    _ => None,
                }
            }
            Expr::BinaryExpr(_) => {
                let (name, op, literal) = comparison(filter)?;
                let (column, value) = self.key_value(name, literal)?;
                let range = match op {
                    Operator::Eq => {
                        let values = vec![value];
                        return Some(KeyPredicate::In { column, values });
                    }
                    Operator::Lt => (Bound::Unbounded, Bound::Excluded(value)),
                    Operator::LtEq => (Bound::Unbounded, Bound::Included(value)),
                    Operator::Gt => (Bound::Excluded(value), Bound::Unbounded),
                    Operator::GtEq => (Bound::Included(value), Bound::Unbounded),
                    _ => return None,
                };
                Some(KeyPredicate::Between { column, range })
            }
            Expr::Between(between) if !between.negated => {
                let Expr::Column(name) = &*between.expr else {
                    return None;
                };
                let (column, low) = self.key_value(&name.name, literal(&between.low)?)?;
                let (_, high) = self.key_value(&name.name, literal(&between.high)?)?;
                let range = (Bound::Included(low), Bound::Included(high));
                Some(KeyPredicate::Between { column, range })
            }
            Expr::InList(list) if !list.negated => {
                let Expr::Column(name) = &*list.expr else {
                    return None;
                };
                let values = list.list.iter();
                let values = values.map(|value| self.key_value(&name.name, literal(value)?));
                let values = values.collect::<Option<Vec<_>>>()?;
                Some(KeyPredicate::In {
                    column: values.first()?.0,
                    values: values.into_iter().map(|(_, value)| value).collect(),
                })
            }
            _ => None,
        }
    }

    /// The position of a column of the primary key, and a literal as its value.
    fn key_value(&self, name: &str, literal: &ScalarValue) -> Option<(usize, Value)> {
        let schema = self.table.schema();
        let position = schema.position(name)?;
        let column = schema.columns().get(position)?;
        let value = value_of(literal, column.column_type)?;
        schema.is_key(position).then_some((position, value))
    }

    /// The primary key that the filters pin down, if they name all of it.
    fn key(&self, filters: &[Expr]) -> Option<Vec<Value>> {
        let schema = self.table.schema();
        schema
            .key_columns()
            .map(|column| {
                let literal = filters
                    .iter()
                    .find_map(|filter| equality(filter).filter(|(name, _)| *name == column.name));
                value_of(literal?.1, column.column_type)
            })
            .collect()
    }

    fn lookup(
        &self,
        key: &[Value],
        projection: Option<&[usize]>,
        schema: &SchemaRef,
    ) -> Result<Part, DataFusionError> {
        let columns = key.iter().zip(self.table.schema().key_columns());
        let columns = columns.map(|(value, column)| {
            let scalar = scalar_of(value.clone(), column.column_type)
                .ok_or_else(|| DataFusionError::Internal("a value of another type".into()))?;
            Ok((column.name.clone(), scalar.to_array()?))
        });
        let keys =
            RecordBatch::try_from_iter(columns.collect::<Result<Vec<_>, DataFusionError>>()?)?;
        let found = match self
            .snapshot
            .multi_get_batch(&self.table, &keys, projection)
        {
            // The values are of the columns' types, so it is longer than a key may be: no row has it.
            Err(Error::Row(_)) => return Ok(Part::Row(None)),
            found => found.map_err(external)?.rows,
        };
        let batch = (found.num_rows() > 0).then(|| {
            let options = RecordBatchOptions::new().with_row_count(Some(found.num_rows()));
            let columns = found.columns().to_vec();
            RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        });
        Ok(Part::Row(batch.transpose()?))
    }
}

/// The column and literal of `column = literal`.
fn equality(filter: &Expr) -> Option<(&str, &ScalarValue)> {
    let (column, op, literal) = comparison(filter)?;
    (op == Operator::Eq).then_some((column, literal))
}

/// The column and literal of a comparison of the two, and how they compare in that order.
fn comparison(filter: &Expr) -> Option<(&str, Operator, &ScalarValue)> {
    let Expr::BinaryExpr(comparison) = filter else {
        return None;
    };
    match (&*comparison.left, &*comparison.right) {
        (Expr::Column(column), Expr::Literal(literal, _)) => {
            Some((&column.name, comparison.op, literal))
        }
        (Expr::Literal(literal, _), Expr::Column(column)) => {
            Some((&column.name, comparison.op.swap()?, literal))
        }
        _ => None,
    }
}

fn literal(expression: &Expr) -> Option<&ScalarValue> {
    match expression {
        Expr::Literal(literal, _) => Some(literal),
        _ => None,
    }
}

#[async_trait]
impl TableProvider for UnionTable {
    fn schema(&self) -> SchemaRef {
        self.table.schema().arrow_schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        // What a lookup or the engine returns satisfies its filters, but the rows of files don't, so they are checked again.
        let support = |filter: &&Expr| match self.predicate(filter) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let schema = match projection {
            Some(positions) => Arc::new(self.schema().project(positions)?),
            None => self.schema(),
        };
        let projection = projection.map(Vec::as_slice);
        let partitions = match self.key(filters) {
            Some(key) => {
                let part = self.lookup(&key, projection, &schema)?;
                vec![Arc::new(Partition {
                    schema: schema.clone(),
                    projection: None,
                    part,
                }) as Arc<dyn PartitionStream>]
            }
            None => self.partitions(&schema, projection, filters),
        };
        Ok(Arc::new(StreamingTableExec::try_new(
            schema,
            partitions,
            None,
            [],
            false,
            limit,
        )?))
    }
}

/// A part of a table's rows that is read by itself.
#[derive(Debug)]
struct Partition {
    schema: SchemaRef,
    projection: Option<Vec<usize>>,
    part: Part,
}

#[derive(Debug)]
enum Part {
    Engine {
        table: Table,
        snapshot: Snapshot,
        predicates: Vec<KeyPredicate>,
    },
    Changes {
        changes: Arc<Changes>,
    },
    File {
        iceberg: IcebergSnapshot,
        file: usize,
        excluded: Vec<u64>,
    },
    Row(Option<RecordBatch>),
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let projection = self.projection.as_deref();
        let of_engine = |batches: moonshine_engine::Result<moonshine_engine::Batches>| match batches
        {
            Ok(batches) => {
                futures::stream::iter(batches.map(|batch| batch.map_err(external))).boxed()
            }
            Err(error) => futures::stream::iter([Err(external(error))]).boxed(),
        };
        let batches = match &self.part {
            Part::Engine {
                table,
                snapshot,
                predicates,
            } => {
                let projection = self.projection.clone();
                of_engine(snapshot.scan(
                    table,
                    Scan {
                        projection,
                        predicates: predicates.clone(),
                        batch_rows: BATCH_ROWS,
                        ..Scan::default()
                    },
                ))
            }
            Part::Changes { changes } => of_engine(changes.batches(projection, BATCH_ROWS)),
            Part::File {
                iceberg,
                file,
                excluded,
            } => iceberg
                .scan_file(*file, projection, excluded)
                .map_err(external)
                .boxed(),
            Part::Row(batch) => futures::stream::iter(batch.clone().map(Ok)).boxed(),
        };
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
