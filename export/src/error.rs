//! The export's error: variants say what the caller should do.

/// What every fallible call of this crate returns.
pub type Result<T, E = ExportError> = std::result::Result<T, E>;

/// Why an export or a read of an Iceberg table failed. The variants are grouped by remedy, the text names the place.
///
/// After any of them the engine keeps every row, and the Iceberg table is as it was or holds the whole commit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The configuration, or the name or schema of a table, does not do; mend it.
    #[error("iceberg: {0}")]
    Config(String),
    /// The catalog or the store did not answer, or refused; try again once the cause is gone.
    #[error("{place}: {reason}")]
    Unavailable {
        /// The catalog, table or file that was asked.
        place: String,
        /// What it answered.
        reason: String,
    },
    /// Each of our attempts met another change of the table or its lock; try again, which also finds out whether one of
    /// them took place all the same.
    #[error("table '{table}': {attempts} commits in a row conflicted with others")]
    Conflict {
        /// The Iceberg table.
        table: String,
        /// How often a commit was tried.
        attempts: u32,
    },
    /// A newer exporter of the same database took over; stop this one.
    #[error(
        "table '{table}': this exporter's epoch {own} is over, an exporter of epoch {current} has taken over"
    )]
    Fenced {
        /// The Iceberg table.
        table: String,
        /// This exporter's writer epoch.
        own: u64,
        /// The table's writer epoch.
        current: u64,
    },
    /// The Iceberg table is not, or no longer, what this database wrote; decide which of the two is right.
    #[error("table '{table}': {reason}")]
    Foreign {
        /// The Iceberg table.
        table: String,
        /// What was found.
        reason: String,
    },
    /// The database folder is older than the Iceberg table, as after a restored backup; find the newer folder.
    #[error(
        "table '{table}': the Iceberg table holds commits up to {table_seq}, the database exported up to {exported_seq} \
         only: the database folder is older than the table"
    )]
    Stale {
        /// The Iceberg table.
        table: String,
        /// The engine's commit sequence in the Iceberg table.
        table_seq: u64,
        /// The newest commit sequence that the database knows it exported.
        exported_seq: u64,
    },
    /// A file of the Iceberg table is missing or damaged; restore it.
    #[error("corrupt: {place}: {reason}; restore what is missing or damaged")]
    Corrupt {
        /// The file.
        place: String,
        /// What was found.
        reason: String,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] moonshine_engine::Error),
}

impl ExportError {
    pub(crate) fn foreign(table: impl ToString, reason: impl Into<String>) -> Self {
        ExportError::Foreign {
            table: table.to_string(),
            reason: reason.into(),
        }
    }

    pub(crate) fn corrupt(place: impl ToString, reason: impl ToString) -> Self {
        ExportError::Corrupt {
            place: place.to_string(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn unavailable(place: impl ToString, reason: impl ToString) -> Self {
        ExportError::Unavailable {
            place: place.to_string(),
            reason: reason.to_string(),
        }
    }
}

/// Turns a foreign error into one that names the place where it arose.
pub(crate) trait At<T> {
    /// The error arose at this file, table or catalog.
    fn at(self, place: impl ToString) -> Result<T>;
}

impl<T> At<T> for iceberg::Result<T> {
    fn at(self, place: impl ToString) -> Result<T> {
        self.map_err(|error| match error.kind() {
            iceberg::ErrorKind::DataInvalid => ExportError::corrupt(place, error),
            iceberg::ErrorKind::FeatureUnsupported => {
                ExportError::foreign(place, error.to_string())
            }
            _ => ExportError::unavailable(place, error),
        })
    }
}

impl<T> At<T> for parquet::errors::Result<T> {
    fn at(self, place: impl ToString) -> Result<T> {
        self.map_err(|error| match error {
            parquet::errors::ParquetError::External(_) => ExportError::unavailable(place, error),
            _ => ExportError::corrupt(place, error),
        })
    }
}

impl<T> At<T> for std::result::Result<T, sqlx::Error> {
    fn at(self, place: impl ToString) -> Result<T> {
        self.map_err(|error| ExportError::unavailable(place, error))
    }
}

impl<T> At<T> for std::result::Result<T, futures::channel::oneshot::Canceled> {
    fn at(self, place: impl ToString) -> Result<T> {
        self.map_err(|_| ExportError::unavailable(place, "a background task ended early"))
    }
}
