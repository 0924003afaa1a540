#![no_main]

use moonshine_engine::fuzzing::ROW_SET;

moonshine_fuzz::target!(ROW_SET.run, ROW_SET.seeds);
