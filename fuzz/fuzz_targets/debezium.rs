#![no_main]

use moonshine_connectors::file::fuzzing::{debezium, debezium_seeds};

moonshine_fuzz::target!(debezium, debezium_seeds);
