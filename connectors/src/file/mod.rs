//! Debezium change events from JSON lines.
