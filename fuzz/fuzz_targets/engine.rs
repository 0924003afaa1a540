#![no_main]

use moonshine_engine::fuzzing::ENGINE;

moonshine_fuzz::target!(ENGINE.run, ENGINE.seeds);
