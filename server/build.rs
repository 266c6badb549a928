//! Tells the server which revision it was built from: what VAYLIX_GIT_SHA says, where there is no repository, or what git does.

use std::process::Command;

fn main() {
    let given = std::env::var("VAYLIX_GIT_SHA").ok().filter(|text| !text.is_empty());
    let revision = given.or_else(asked).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=VAYLIX_GIT_SHA={revision}");
    println!("cargo::rerun-if-changed=../.git/HEAD");
    println!("cargo::rerun-if-changed=../.git/refs");
    println!("cargo::rerun-if-env-changed=VAYLIX_GIT_SHA");
}

fn asked() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
    let text = output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten()?;
    Some(text.trim().to_owned())
}
