//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

/// The server.
pub const SERVER: Program =
    Program { package: "vaylix", folder: "server", name: "vaylix", made_of: LIBRARIES, built: &SERVER_BUILT };
/// The interactive client.
pub const CLIENT: Program = Program {
    package: "vaylix-cli",
    folder: "cli",
    name: "vaylix-client",
    made_of: LIBRARIES,
    built: &CLIENT_BUILT,
};
/// The command line of the control plane.
pub const CTL: Program = Program {
    package: "vaylix-ctl",
    folder: "ctl",
    name: "vaylixctl",
    made_of: &["proto/admin"],
    built: &CTL_BUILT,
};

static SERVER_BUILT: OnceLock<PathBuf> = OnceLock::new();
static CLIENT_BUILT: OnceLock<PathBuf> = OnceLock::new();
static CTL_BUILT: OnceLock<PathBuf> = OnceLock::new();

/// The crates that server and client are made of.
const LIBRARIES: &[&str] =
    &["proto", "engine", "consensus", "access", "tls", "dataplane", "proto/admin", "controlplane"];

/// Files that are part of what is made of a crate.
const EMBEDDED: (&str, &str) = ("controlplane", "web");

/// What code is generated from.
const DEFINITIONS: &[&str] = &["proto/vaylix", "proto/grpc"];

/// A binary of this workspace.
#[derive(Debug)]
pub struct Program {
    package: &'static str,
    folder: &'static str,
    name: &'static str,
    made_of: &'static [&'static str],
    built: &'static OnceLock<PathBuf>,
}

impl Program {
    /// The path of the binary in the profile the running test was built with.
    ///
    /// Cargo builds the binaries of a package only for that package's own tests, so a test that is run alone
    /// may find nothing or something old: then the first use in a process has Cargo build it.
    ///
    /// # Errors
    /// When Cargo cannot be run or the build fails.
    pub fn path(&self) -> Result<PathBuf> {
        if let Some(path) = self.built.get() {
            return Ok(path.clone());
        }
        let test = std::env::current_exe().context("the running test has no path")?;
        // <target>/<profile>/deps/<test>
        let profile_dir = test
            .ancestors()
            .find(|dir| dir.file_name().is_some_and(|name| name == "deps"))
            .and_then(|deps| deps.parent())
            .context("the running test is not below a Cargo target directory")?;
        let path = profile_dir.join(format!("{}{}", self.name, std::env::consts::EXE_SUFFIX));
        if !is_current(&path, self.made_of, self.folder) {
            let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            build.args(["build", "--quiet", "--package", self.package, "--bin", self.name]);
            build.current_dir(env!("CARGO_MANIFEST_DIR"));
            build.arg("--target-dir").arg(profile_dir.parent().context("no target directory")?);
            if profile_dir.file_name().is_some_and(|name| name == "release") {
                build.arg("--release");
            }
            let status = build.status().with_context(|| format!("cargo could not build {}", self.name))?;
            if !status.success() {
                bail!("building {} failed: {status}", self.name);
            }
        }
        if !path.exists() {
            bail!("{} was not built at {}", self.name, path.display());
        }
        Ok(self.built.get_or_init(|| path).clone())
    }
}

/// Whether the binary is there and newer than every source that can be in it.
///
/// Cargo's own list of sources is written by `cargo build` only; under `cargo test` the binary is fresh without one,
/// and building it again would resolve other features and compile half of the dependencies anew.
fn is_current(path: &Path, made_of: &[&str], folder: &str) -> bool {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let Ok(built) = path.metadata().and_then(|metadata| metadata.modified()) else { return false };
    let definitions = DEFINITIONS.iter().all(|folder| is_older(&workspace.join(folder), built));
    definitions
        && made_of.iter().chain([&folder]).all(|crate_folder| {
            let folder = workspace.join(crate_folder);
            is_older(&folder.join("Cargo.toml"), built)
                && is_older(&folder.join("src"), built)
                && (*crate_folder != EMBEDDED.0 || is_older(&workspace.join(EMBEDDED.1), built))
        })
}

/// Whether nothing at `path` was changed after `built`.
fn is_older(path: &Path, built: SystemTime) -> bool {
    let Ok(metadata) = path.metadata() else { return false };
    if metadata.is_dir() {
        let Ok(entries) = path.read_dir() else { return false };
        entries.into_iter().all(|entry| entry.is_ok_and(|entry| is_older(&entry.path(), built)))
    } else {
        metadata.modified().is_ok_and(|changed| changed <= built)
    }
}
