//! Keys with all that belongs to them, for the plane that has messages of its own.
//!
//! Each of these takes an admitted command of the data plane and answers its ticket: the rights are those of the command, and so
//! is the event in the audit log.

use std::ops::Bound;

use bytes::Bytes;
use vaylix_engine::glob::Pattern;
use vaylix_engine::state::{Entry, Root};
use vaylix_proto::{Command, ErrorReply, Reply, Text};

use crate::admission::Admitted;
use crate::counters::Metric;
use crate::door::Door;
use crate::grant::EVERYWHERE;
use crate::identity::Identity;
use crate::permission::Permission;
use crate::refusal;

/// Bytes of keys after which a page is full, however many were asked for.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// The key.
    pub key: Text,
    /// Its value.
    pub value: Bytes,
    /// 1 for a new key, one more with each new value.
    pub version: u64,
    /// When it ends, in unix milliseconds; none for never.
    pub expires_at_ms: Option<u64>,
}

/// A key without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySummary {
    /// The key.
    pub key: Text,
    /// Length of its value, in bytes.
    pub size_bytes: usize,
    /// 1 for a new key, one more with each new value.
    pub version: u64,
    /// When it ends, in unix milliseconds; none for never.
    pub expires_at_ms: Option<u64>,
}

/// Which keys are wanted, besides what the pattern of the SCAN says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyChoice {
    /// What they begin with, literally.
    pub prefix: Text,
    /// The pattern they match; none for every key.
    pub glob: Option<Text>,
    /// The key they come after; none for the first page.
    pub after: Option<Text>,
    /// Most keys of a page; at least one.
    pub count_max: usize,
}

impl KeyChoice {
    /// The SCAN whose right it takes to see these keys: of every key with the prefix, or else of the pattern.
    #[must_use]
    pub fn command(&self) -> Command {
        let pattern = match (self.prefix.is_empty(), &self.glob) {
            (false, _) => Some(format!("{}*", self.prefix).into()),
            (true, Some(glob)) => Some(glob.clone()),
            (true, None) => None,
        };
        Command::Scan { cursor: 0, pattern, count: None }
    }
}

/// A page of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// In their order.
    pub keys: Vec<KeySummary>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

impl Door {
    /// Answers an admitted GET; none when there is no such key.
    ///
    /// # Errors
    /// `SRV-016` for any other command, `SRV-036` or `SRV-037` when this node cannot vouch for what it has, `SRV-005` while it
    /// stops.
    pub async fn key(&self, admitted: Admitted) -> Result<Option<KeyView>, ErrorReply> {
        let Admitted { pass, ticket } = admitted;
        let found = match &pass.command {
            Command::Get { key } => self.find(key, pass.fresh).await,
            _ => Err(refusal::unsupported()),
        };
        let told = match &found {
            Ok(Some(_)) => Ok(Reply::Ok),
            Ok(None) => Ok(Reply::NotFound),
            Err(refusal) => Err(refusal.clone()),
        };
        ticket.answer(told).give()?;
        found
    }

    async fn find(&self, key: &Text, fresh: bool) -> Result<Option<KeyView>, ErrorReply> {
        let (view, metric) = match self.view_now(fresh) {
            Some(view) => (view, Metric::FastReads),
            None => (self.view(fresh).await?, Metric::SlowReads),
        };
        self.0.counters.increment(metric);
        let entry = view.reader.entry(key, view.now_ms);
        Ok(entry.map(|entry| KeyView {
            key: key.clone(),
            value: entry.value_shared(),
            version: entry.version(),
            expires_at_ms: entry.expires_at_ms(),
        }))
    }

    /// Answers the admitted SCAN of `choice` with a page that knows more of its keys, and goes on behind a key instead of at a
    /// cursor: so it finds its place at once, whatever has come and gone meanwhile.
    ///
    /// # Errors
    /// `SRV-016` for any other command, otherwise as [`Door::key`].
    pub async fn keys(&self, admitted: Admitted, choice: KeyChoice) -> Result<KeyPage, ErrorReply> {
        let Admitted { pass, ticket } = admitted;
        let found = match (&pass.who, pass.command == choice.command()) {
            (Some(who), true) => self.look_along(who.clone(), choice, pass.fresh).await,
            _ => Err(refusal::unsupported()),
        };
        let told = match &found {
            Ok(_) => Ok(Reply::Ok),
            Err(refusal) => Err(refusal.clone()),
        };
        ticket.answer(told).give()?;
        found
    }

    async fn look_along(&self, who: Identity, choice: KeyChoice, fresh: bool) -> Result<KeyPage, ErrorReply> {
        let view = self.view(fresh).await?;
        // How many keys are passed over is known only afterwards.
        self.0.long_reads.run(move || page(&view.reader.root(), &who, &choice, view.now_ms)).await
    }
}

fn page(root: &Root, who: &Identity, choice: &KeyChoice, now_ms: u64) -> KeyPage {
    let now_ms = root.now(now_ms);
    let glob = Pattern::new(choice.glob.as_deref().unwrap_or(EVERYWHERE));
    // What wanted keys begin with both ways is as long as the longer of the two.
    let begins = [&*choice.prefix, glob.literal_prefix()].into_iter().max_by_key(|text| text.len());
    let begins = begins.unwrap_or_default();
    let from = match choice.after.as_deref() {
        Some(after) if after >= begins => Bound::Excluded(after),
        _ => Bound::Included(begins),
    };
    let mut page = KeyPage::default();
    let mut bytes = 0;
    for entry in root.iter_from(from).take_while(|entry| entry.key().starts_with(begins)) {
        let key = entry.key();
        let is_wanted = entry.is_live(now_ms) && key.starts_with(&*choice.prefix) && glob.matches(key);
        // A grant covers the SCAN already, so this drops nothing unless that proof were wrong.
        if !is_wanted || !who.rights().allow_key(Permission::Read.into(), key) {
            continue;
        }
        if page.keys.len() >= choice.count_max.max(1) || bytes >= PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        bytes += key.len();
        page.keys.push(summary(entry));
    }
    page
}

fn summary(entry: &Entry) -> KeySummary {
    KeySummary {
        key: entry.key().into(),
        size_bytes: entry.value().len(),
        version: entry.version(),
        expires_at_ms: entry.expires_at_ms(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_that_is_needed_covers_what_can_be_seen() {
        let pattern = |prefix: &str, glob: Option<&str>| {
            let choice =
                KeyChoice { prefix: prefix.into(), glob: glob.map(Text::from), ..KeyChoice::default() };
            let Command::Scan { pattern, .. } = choice.command() else { panic!("it is a scan") };
            pattern.map(|pattern| pattern.to_string())
        };
        assert_eq!(pattern("", None), None);
        assert_eq!(pattern("app:", None).as_deref(), Some("app:*"));
        assert_eq!(pattern("app:", Some("*:1")).as_deref(), Some("app:*"));
        assert_eq!(pattern("", Some("*:1")).as_deref(), Some("*:1"));
        assert_eq!(pattern("a*", None).as_deref(), Some("a**"), "more than is shown, never less");
    }
}
