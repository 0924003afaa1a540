//! Tells the program which commit it is built of, so that reports can name it.

use std::process::Command;

fn main() {
    // Where the commit changes, and where what was built may differ from it.
    println!("cargo::rerun-if-changed=../../engine/src");
    println!("cargo::rerun-if-changed=src");
    if let Some(path) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={path}");
    }
    // Without git, or without its folder, there is nothing to tell.
    if let Some(commit) = git(&[
        "describe",
        "--always",
        "--dirty",
        "--abbrev=10",
        "--exclude=*",
    ]) {
        println!("cargo::rustc-env=MOONSHINE_COMMIT={commit}");
    }
}

/// What git says, if it can.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
