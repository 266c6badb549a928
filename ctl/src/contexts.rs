//! The contexts file: clusters by name, so that they need not be spelled out each time. It never holds a password,
//! only the name of a file with one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, unreadable};

/// Everything in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The context that is meant when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// A cluster, and how to log in there. What is missing is decided as if there were no context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) endpoints: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ssl: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_ca_cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_key: Option<PathBuf>,
}

impl Contexts {
    /// What is in the file; nothing when there is none.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::file(path, error)),
        };
        // Only the message: the excerpt that goes with it may hold what does not belong on a screen.
        toml::from_str(&text).map_err(|error| {
            Error::Usage(format!("{}: {}", path.display(), error.message().replace('\n', " ")))
        })
    }

    /// Replaces the file as a whole.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let text = toml::to_string_pretty(self).map_err(|error| Error::file(path, error))?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(unreadable(folder))?;
        }
        let draft = path.with_extension("toml.draft");
        std::fs::write(&draft, text).map_err(unreadable(&draft))?;
        std::fs::rename(&draft, path).map_err(unreadable(path))
    }

    /// The context of this name.
    pub(crate) fn named(&self, name: &str) -> Result<&Context, Error> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<_> = self.contexts.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none is known".to_owned() } else { known.join(", ") };
            Error::Usage(format!("there is no context called {name}: {known}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/ctl.toml");
        assert_eq!(Contexts::read(&path).unwrap(), Contexts::default());
        let mut contexts = Contexts { current: Some("west".to_owned()), ..Contexts::default() };
        let west = Context {
            endpoints: vec!["a:9174".to_owned(), "b:9174".to_owned()],
            password_file: Some(PathBuf::from("/run/secrets/vaylix")),
            ssl: true,
            ..Context::default()
        };
        contexts.contexts.insert("west".to_owned(), west);
        contexts.write(&path).unwrap();
        assert_eq!(Contexts::read(&path).unwrap(), contexts);
        assert!(contexts.named("east").unwrap_err().to_string().contains("west"));
    }

    #[test]
    fn a_password_in_the_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctl.toml");
        std::fs::write(&path, "[contexts.a]\npassword = \"secret\"\n").unwrap();
        let error = Contexts::read(&path).unwrap_err();
        assert_eq!(error.exit_status(), 2);
        assert!(error.to_string().contains("password"), "{error}");
    }
}
