//! The settings file: the options of the command line under their long names, in TOML.
//!
//! It takes the place of the defaults. So the environment and the command line win over it, and every value goes through
//! the same checks wherever it comes from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::builder::OsStr;
use clap::{Arg, ArgAction, Command};
use toml::de::{DeTable, DeValue};

/// Options that make no sense in a file.
pub(crate) const NOT_IN_A_FILE: [&str; 4] = ["config", "print-config", "help", "version"];

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct SettingsFile {
    path: PathBuf,
    /// By the long names of options, the texts of their values.
    values: BTreeMap<String, Vec<String>>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("the settings file {} cannot be read: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}:{line}: {what}", path.display())]
    Content { path: PathBuf, line: usize, what: String },
}

impl SettingsFile {
    /// Reads the file at `path`, which may set any option of `command`.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, names what is no option, or gives one a value of no use.
    pub(crate) fn read(path: &Path, command: &Command) -> Result<Self, FileError> {
        let path = path.to_owned();
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(path, &text, command),
            Err(source) => Err(FileError::Io { path, source }),
        }
    }

    fn parse(path: PathBuf, text: &str, command: &Command) -> Result<Self, FileError> {
        let line_of = |at: usize| text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        let refuse =
            |at: usize, what: String| FileError::Content { path: path.clone(), line: line_of(at), what };
        let table = DeTable::parse(text)
            .map_err(|error| refuse(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
        let mut values = BTreeMap::new();
        for (key, value) in table.into_inner() {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            let option = command.get_arguments().find(|option| option.get_long() == Some(name));
            let Some(option) = option.filter(|_| !NOT_IN_A_FILE.contains(&name)) else {
                return Err(refuse(at, unknown(name, command)));
            };
            let texts = texts(value.into_inner(), takes_many(option))
                .map_err(|what| refuse(at, format!("{name}: {what}")))?;
            values.insert(name.to_owned(), texts);
        }
        Ok(Self { path, values })
    }

    /// Where it was read.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it sets this option.
    pub(crate) fn sets(&self, long: &str) -> bool {
        self.values.contains_key(long)
    }

    /// The same command, with what the file says as defaults.
    pub(crate) fn apply(&self, command: Command) -> Command {
        command.mut_args(|option| match option.get_long().and_then(|long| self.values.get(long)) {
            Some(values) => option.default_values(values.iter().map(OsStr::from)),
            None => option,
        })
    }
}

fn takes_many(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Append)
}

fn unknown(name: &str, command: &Command) -> String {
    let hyphened = name.replace('_', "-");
    let is_option = command.get_arguments().any(|option| option.get_long() == Some(&*hyphened));
    if is_option && hyphened != name {
        format!("there is no setting `{name}`; the one that is like it is `{hyphened}`")
    } else {
        format!(
            "there is no setting `{name}`: settings are named as the options of `vaylix --help`, without `--`"
        )
    }
}

/// The texts that stand for a value on a command line.
fn texts(value: DeValue<'_>, many: bool) -> Result<Vec<String>, String> {
    let scalar = |value: DeValue<'_>| match value {
        DeValue::String(text) => Ok(text.into_owned()),
        DeValue::Boolean(flag) => Ok(flag.to_string()),
        // In whatever base it is written.
        DeValue::Integer(number) => i128::from_str_radix(&number.as_str().replace('_', ""), number.radix())
            .map(|number| number.to_string())
            .map_err(|error| error.to_string()),
        other => {
            Err(format!("a text, a whole number or a truth value is needed, not a {}", other.type_str()))
        }
    };
    match value {
        DeValue::Array(values) if many => {
            values.into_iter().map(|value| scalar(value.into_inner())).collect()
        }
        DeValue::Array(_) => Err("one value is needed, not several".to_owned()),
        other => scalar(other).map(|text| vec![text]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command::new("test")
            .arg(Arg::new("port").long("port").default_value("9173").value_parser(clap::value_parser!(u16)))
            .arg(Arg::new("node_id").long("node-id"))
            .arg(Arg::new("peers").long("peers").action(ArgAction::Append).value_delimiter(','))
            .arg(Arg::new("ssl").long("ssl").action(ArgAction::SetTrue))
            .arg(Arg::new("config").long("config"))
    }

    fn read(text: &str) -> Result<SettingsFile, String> {
        SettingsFile::parse("/etc/x.toml".into(), text, &command()).map_err(|error| error.to_string())
    }

    #[test]
    fn values_of_every_kind_become_defaults() {
        let file = read("port = 0x10\nnode-id = 'n1'\npeers = ['a@b:1', 'c@d:2']\nssl = true\n").unwrap();
        assert!(file.sets("port") && !file.sets("config"));
        let with = |arguments: &[&str]| {
            file.apply(command()).get_matches_from(std::iter::once(&"test").chain(arguments).copied())
        };
        let matches = with(&[]);
        assert_eq!(matches.get_one::<u16>("port"), Some(&16));
        assert_eq!(matches.get_one::<String>("node_id").map(String::as_str), Some("n1"));
        assert_eq!(matches.get_many::<String>("peers").unwrap().collect::<Vec<_>>(), ["a@b:1", "c@d:2"]);
        assert!(matches.get_flag("ssl"));
        let matches = with(&["--port", "7", "--peers", "x"]);
        assert_eq!(matches.get_one::<u16>("port"), Some(&7));
        assert_eq!(matches.get_many::<String>("peers").unwrap().collect::<Vec<_>>(), ["x"]);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_file_and_line() {
        for (text, expected) in [
            ("\nprot = 1", "/etc/x.toml:2: there is no setting `prot`"),
            (
                "node_id = 'x'",
                "/etc/x.toml:1: there is no setting `node_id`; the one that is like it is `node-id`",
            ),
            ("config = 'x'", "/etc/x.toml:1: there is no setting `config`"),
            ("port = 1.5", "/etc/x.toml:1: port: a text, a whole number or a truth value is needed"),
            ("port = [1]", "/etc/x.toml:1: port: one value is needed, not several"),
            ("peers = [['a']]", "/etc/x.toml:1: peers: a text"),
            ("[server]\nport = 1", "/etc/x.toml:1: there is no setting `server`"),
            ("port = 1\nport = 2", "/etc/x.toml:2: duplicate key"),
            ("port", "/etc/x.toml:1: "),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.starts_with(expected), "{text}: {said}");
        }
        let missing = SettingsFile::read(Path::new("/nonexistent/x.toml"), &command()).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/x.toml cannot be read"), "{missing}");
    }
}
