//! The settings of the server, as whoever puts it together tells them.

/// Where the value of a setting comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingSource {
    /// Nobody chose it.
    Default,
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// The settings file.
    File,
}

/// A setting. Never the value of a secret one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As on the command line.
    pub name: String,
    /// Its value; empty when it is not set.
    pub value: String,
    /// Where that comes from.
    pub source: SettingSource,
    /// The variable or the file that it comes from; empty for the others.
    pub origin: String,
    /// What it is for.
    pub description: String,
    /// Under which heading the help has it.
    pub group: String,
}
