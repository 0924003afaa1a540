//! `moonshine bench`.

mod moonshine;
