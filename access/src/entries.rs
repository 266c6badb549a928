//! Named values as text: the form of every status answer.

use std::fmt::Display;

use bytes::Bytes;
use vaylix_proto::{NamedValue, Reply, Text};

/// What stands for a value that there is not.
const NONE: &str = "none";

/// Named values in the order they are added.
#[derive(Default)]
pub(crate) struct Entries(Vec<NamedValue>);

impl Entries {
    pub(crate) fn add(&mut self, name: impl Into<Text>, value: impl Display) -> &mut Self {
        self.0.push(NamedValue { name: name.into(), value: Bytes::from(value.to_string()) });
        self
    }

    /// Adds the value, or the word that says that there is none.
    pub(crate) fn add_or_none(&mut self, name: impl Into<Text>, value: Option<impl Display>) -> &mut Self {
        match value {
            Some(value) => self.add(name, value),
            None => self.add(name, NONE),
        }
    }

    pub(crate) fn extend(&mut self, entries: impl IntoIterator<Item = NamedValue>) -> &mut Self {
        self.0.extend(entries);
        self
    }

    /// Orders the values by name.
    pub(crate) fn sort(&mut self) -> &mut Self {
        self.0.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }

    /// The answer; nothing is left.
    pub(crate) fn reply(&mut self) -> Reply {
        Reply::Entries(std::mem::take(&mut self.0))
    }
}

/// Several values as one, separated by commas.
pub(crate) fn comma_list<T: Display>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}
