//! What shells and `man` want to know.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::error::{Error, unreadable};
use crate::flags::Flags;
use crate::output::draw;

pub(super) fn completions(shell: Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Flags::command(), "vaylixctl", &mut script);
    draw(&String::from_utf8_lossy(&script))
}

pub(super) fn man(dir: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(unreadable(dir))?;
    clap_mangen::generate_to(Flags::command(), dir).map_err(unreadable(dir))
}
