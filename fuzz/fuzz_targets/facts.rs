#![no_main]

use moonshine_engine::fuzzing::FACTS;

moonshine_fuzz::target!(FACTS.run, FACTS.seeds);
