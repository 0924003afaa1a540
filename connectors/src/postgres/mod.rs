//! PostgreSQL by logical replication.
