#![no_main]

use moonshine_engine::fuzzing::ROWS;

moonshine_fuzz::target!(ROWS.run, ROWS.seeds);
