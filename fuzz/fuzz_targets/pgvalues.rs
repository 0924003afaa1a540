#![no_main]

use moonshine_connectors::postgres::fuzzing::{value_seeds, values};

moonshine_fuzz::target!(values, value_seeds);
