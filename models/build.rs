//! Has the engine's files take their locks, atomics and threads from shuttle.

fn main() {
    println!("cargo::rustc-cfg=moonshine_models");
    println!("cargo::rerun-if-changed=build.rs");
}
