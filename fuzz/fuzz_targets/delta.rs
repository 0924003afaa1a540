#![no_main]

use moonshine_engine::fuzzing::DELTA;

moonshine_fuzz::target!(DELTA.run, DELTA.seeds);
