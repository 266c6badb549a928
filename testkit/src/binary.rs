//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// The server.
pub const SERVER: Program = Program { package: "vaylix", name: "vaylix", built: &SERVER_BUILT };
/// The interactive client.
pub const CLIENT: Program = Program { package: "vaylix-cli", name: "vaylix-client", built: &CLIENT_BUILT };

static SERVER_BUILT: OnceLock<PathBuf> = OnceLock::new();
static CLIENT_BUILT: OnceLock<PathBuf> = OnceLock::new();

/// A binary of this workspace.
#[derive(Debug)]
pub struct Program {
    package: &'static str,
    name: &'static str,
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
        if !is_current(&path) {
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

/// Whether the binary is there and newer than everything it was made from, by the list that Cargo leaves beside
/// it.
fn is_current(path: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let (Ok(built), Ok(list)) = (modified(path), std::fs::read_to_string(path.with_extension("d"))) else {
        return false;
    };
    let Some((_, sources)) = list.split_once(": ") else { return false };
    // Spaces within a path are escaped.
    sources.trim_end().replace("\\ ", "\0").split(' ').all(|source| {
        let source = source.replace('\0', " ");
        modified(Path::new(&source)).is_ok_and(|changed| changed <= built)
    })
}
