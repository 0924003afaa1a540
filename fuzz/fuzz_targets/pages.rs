#![no_main]

use moonshine_engine::fuzzing::PAGES;

moonshine_fuzz::target!(PAGES.run, PAGES.seeds);
