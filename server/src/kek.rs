//! Where the key-encryption key comes from: a file that an option names, or the environment. Never the command line,
//! which every user of the machine can read.

use std::path::Path;

use vaylix_engine::Kek;
use vaylix_engine::kek::{KekFileError, NoKek};
use zeroize::Zeroizing;

use crate::error::ServerError;

/// One place to give a key-encryption key in.
pub(crate) struct Source<'a> {
    /// The option that names the file.
    pub(crate) option: &'static str,
    pub(crate) file: Option<&'a Path>,
    /// The environment variable that holds the key itself, as text.
    pub(crate) variable: &'static str,
}

impl<'a> Source<'a> {
    /// The key that the keyring is wrapped under.
    pub(crate) fn current(file: Option<&'a Path>) -> Self {
        Self { option: "--kek-file", file, variable: "VAYLIX_KEK" }
    }

    /// The key that it is to be wrapped under.
    pub(crate) fn new_one(file: Option<&'a Path>) -> Self {
        Self { option: "--new-kek-file", file, variable: "VAYLIX_NEW_KEK" }
    }

    /// Reads the key; `None` when none is given.
    ///
    /// # Errors
    /// [`ServerError::Arguments`] when it is given twice or is no key, also for a variable that is set and empty: it is
    /// more likely a mistake than the wish to have no key. [`ServerError::Storage`] when the file cannot be read.
    pub(crate) fn read(&self) -> Result<Option<Kek>, ServerError> {
        let Self { option, file, variable } = self;
        let no_kek = |place: String, error: NoKek| {
            ServerError::Arguments(format!("{place} holds no key-encryption key: {error}"))
        };
        let text = std::env::var_os(variable);
        match (file, text) {
            (Some(_), Some(_)) => {
                Err(ServerError::Arguments(format!("give {option} or {variable}, not both")))
            }
            (Some(file), None) => match Kek::from_file(file) {
                Ok(kek) => Ok(Some(kek)),
                Err(KekFileError::NoKek(error)) => Err(no_kek(file.display().to_string(), error)),
                Err(KekFileError::Io(error)) => Err(ServerError::Storage(error)),
            },
            (None, Some(text)) => {
                let text = text.into_string().map(Zeroizing::new).map_err(|_| NoKek::Form);
                let kek = text.and_then(|text| Kek::from_text(&text));
                kek.map(Some).map_err(|error| no_kek((*variable).to_owned(), error))
            }
            (None, None) => Ok(None),
        }
    }
}
