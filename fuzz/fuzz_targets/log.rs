#![no_main]

use moonshine_engine::fuzzing::LOG;

moonshine_fuzz::target!(LOG.run, LOG.seeds);
