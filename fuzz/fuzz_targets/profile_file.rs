#![no_main]

use moonshine_sysprobe::fuzzing::{profile_file, profile_file_seeds};

moonshine_fuzz::target!(profile_file, profile_file_seeds);
