#![no_main]

use moonshine_engine::fuzzing::EDITS;

moonshine_fuzz::target!(EDITS.run, EDITS.seeds);
