//! The exporter, to an SQL catalog and a warehouse of local files, and what the Iceberg tables must hold.

use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt;
use moonshine_engine::{Database, Snapshot, Table};
use moonshine_export::{Exporter, IcebergConfig, IcebergReader};
use tokio::runtime::Runtime;

use crate::content::Digest;
use crate::run::{Done, Run, Work};
use crate::tables::{KEY_SPAN, add_progress, each_row};

const PAUSE: Duration = Duration::from_secs(1);

/// The exporter, and the threads that it runs on.
pub(crate) struct Lake {
    runtime: Runtime,
    exporter: Exporter,
    config: IcebergConfig,
}

fn said<T>(result: moonshine_export::Result<T>, what: &str) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

impl Lake {
    /// With a warehouse in that folder.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn open(database: &Database, folder: &Path) -> Result<Self, String> {
        let json = serde_json::json!({
            "warehouse_path": folder,
            "target_file_size_mb": 16,
            "tables": {"*": {"maintenance": {
                "snapshots_min": 2,
                "snapshots_max": 10,
                "file_grace_minutes": 0,
            }}},
        });
        let config: IcebergConfig =
            serde_json::from_value(json).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(8)
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let opened = runtime.block_on(Exporter::open(database.clone(), &config));
        Ok(Lake {
            exporter: said(opened, "the exporter")?,
            runtime,
            config,
        })
    }

    /// Exports that snapshot, and holds the Iceberg tables of the writers against what they say there.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn check(&mut self, run: &Run, snapshot: &Snapshot) -> Result<(), String> {
        let ticked = self.runtime.block_on(self.exporter.tick(snapshot));
        said(ticked, "the last export")?;
        let mut found = vec![Digest::default(); run.writers];
        for table in &run.tables.rows {
            self.each_batch(run, table, |batch| {
                each_row(batch, |id, hash| found[(id / KEY_SPAN) as usize].add(hash));
            })?;
        }
        let mut expected = vec![Digest::default(); run.writers];
        self.each_batch(run, &run.tables.progress, |batch| {
            add_progress(batch, &mut expected);
        })?;
        match found == expected && found.iter().all(|digest| digest.count > 0) {
            true => Ok(()),
            false => Err(format!(
                "the Iceberg tables hold {found:?}, and should hold {expected:?}"
            )),
        }
    }

    fn each_batch(
        &self,
        run: &Run,
        table: &Table,
        mut act: impl FnMut(&arrow_array::RecordBatch),
    ) -> Result<(), String> {
        let name = table.name();
        let exported = run.database.exported(table);
        let token = exported.ok_or(format!("{name} was not exported"))?.token;
        let read = async {
            let reader = IcebergReader::open(&self.config).await?;
            let loaded = reader.load(table, &token).await?;
            for file in 0..loaded.files().len() {
                let mut batches = loaded.scan_file(file, None, &[]);
                while let Some(batch) = batches.try_next().await? {
                    act(&batch);
                }
            }
            Ok(())
        };
        said(self.runtime.block_on(read), name)
    }
}

impl Work for Lake {
    fn name(&self) -> &'static str {
        "exports"
    }

    fn pause(&self) -> Duration {
        PAUSE
    }

    fn step(&mut self, run: &Run) -> Done {
        let snapshot = run.database.snapshot();
        let ticked = self.runtime.block_on(self.exporter.tick(&snapshot));
        drop(snapshot);
        match ticked {
            Ok(exports) => {
                run.count("exports", exports.len() as u64);
                run.count(
                    "rows exported",
                    exports.iter().map(|export| export.rows_written).sum(),
                );
            }
            // The warehouse may be full as well; the next export has to find its way.
            Err(_) if run.phase().may_lack_space() => {
                run.count("exports that failed for want of space", 1)
            }
            Err(error) => return Err(error.to_string().into()),
        }
        let done = self.runtime.block_on(self.exporter.maintainer().run_due());
        run.count("maintenance tasks", done.len() as u64);
        Ok(())
    }
}
