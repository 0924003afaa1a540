#![no_main]

use moonshine_engine::fuzzing::MANIFEST;

moonshine_fuzz::target!(MANIFEST.run, MANIFEST.seeds);
