#![no_main]

use moonshine_connectors::postgres::fuzzing::{pgoutput, pgoutput_seeds};

moonshine_fuzz::target!(pgoutput, pgoutput_seeds);
