//! The state against a model that is as plain as the rules, over random histories with time.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use vaylix_proto::{NamedValue, ScanPage};

use super::*;
use crate::glob::Pattern;

#[derive(Clone, Debug)]
struct Held {
    value: Bytes,
    version: u64,
    until: Option<u64>,
}

/// A map from which everything expired is thrown out whenever time moves.
#[derive(Clone, Debug, Default)]
struct Model {
    now: u64,
    keys: BTreeMap<String, Held>,
}

impl Model {
    fn move_to(&mut self, time: u64) {
        self.now = self.now.max(time);
        let now = self.now;
        self.keys.retain(|_, held| held.until.is_none_or(|until| now < until));
    }

    fn overwrite(&mut self, key: &str, value: Bytes, until: Option<u64>) {
        let version = self.keys.get(key).map_or(1, |held| held.version + 1);
        self.keys.insert(key.to_owned(), Held { value, version, until });
    }

    fn set_until(&mut self, key: &str, millis: u64) -> bool {
        if millis == 0 {
            return self.keys.remove(key).is_some();
        }
        let until = self.now.saturating_add(millis);
        self.keys.get_mut(key).map(|held| held.until = Some(until)).is_some()
    }

    fn value(&self, key: &str) -> Reply {
        self.keys.get(key).map_or(Reply::NotFound, |held| Reply::Value(held.value.clone()))
    }

    fn count(&mut self, key: &str, by: i128) -> Result<Reply, &'static str> {
        let (number, until) = match self.keys.get(key) {
            None => (0, None),
            Some(held) => {
                let text = String::from_utf8(held.value.to_vec()).map_err(|_| "ENG-015")?;
                (i128::from(text.parse::<i64>().map_err(|_| "ENG-015")?), held.until)
            }
        };
        let next = i64::try_from(number + by).map_err(|_| "ENG-016")?;
        self.overwrite(key, Bytes::from(next.to_string()), until);
        Ok(Reply::Integer(next))
    }

    fn run(&mut self, command: &Command) -> Result<Reply, &'static str> {
        Ok(match command {
            Command::Get { key } => self.value(key),
            Command::Set { key, value, options } => {
                let before = self.value(key);
                let held = self.keys.get(&**key).cloned();
                let nx_xx = match options.condition {
                    Condition::Always => true,
                    Condition::IfMissing => held.is_none(),
                    Condition::IfPresent => held.is_some(),
                };
                let cas = match options.if_version {
                    None => true,
                    Some(wanted) => held.as_ref().map(|held| held.version) == Some(wanted),
                };
                if nx_xx && cas {
                    match options.expiration.map(Expiration::as_millis) {
                        Some(0) => drop(self.keys.remove(&**key)),
                        Some(millis) => {
                            let until = self.now.saturating_add(millis);
                            self.overwrite(key, value.clone(), Some(until));
                        }
                        None => {
                            let until =
                                if options.keep_ttl { held.and_then(|held| held.until) } else { None };
                            self.overwrite(key, value.clone(), until);
                        }
                    }
                }
                if options.return_previous {
                    before
                } else if options.condition == Condition::Always && options.if_version.is_none() {
                    Reply::Ok
                } else {
                    Reply::Bool(nx_xx && cas)
                }
            }
            Command::SetNx { key, value } => {
                let free = !self.keys.contains_key(&**key);
                if free {
                    self.overwrite(key, value.clone(), None);
                }
                Reply::Bool(free)
            }
            Command::GetDel { key } => {
                let before = self.value(key);
                self.keys.remove(&**key);
                before
            }
            Command::GetEx { key, expiration, persist } => {
                let before = self.value(key);
                match (expiration, self.keys.get_mut(&**key)) {
                    (Some(expiration), _) => drop(self.set_until(key, expiration.as_millis())),
                    (None, Some(held)) if *persist => held.until = None,
                    _ => {}
                }
                before
            }
            Command::Del { keys } => {
                Reply::Count(keys.iter().filter(|key| self.keys.remove(&***key).is_some()).count() as u64)
            }
            Command::MSet { pairs } => {
                pairs.iter().for_each(|(key, value)| self.overwrite(key, value.clone(), None));
                Reply::Ok
            }
            Command::Incr { key } => self.count(key, 1)?,
            Command::Decr { key } => self.count(key, -1)?,
            Command::Expire { key, seconds } => {
                Reply::Bool(self.set_until(key, seconds.saturating_mul(1000)))
            }
            Command::Persist { key } => {
                Reply::Bool(self.keys.get_mut(&**key).is_some_and(|held| held.until.take().is_some()))
            }
            Command::Rename { source, destination } => Reply::Bool(self.rename(source, destination)),
            Command::RenameNx { source, destination } => {
                Reply::Bool(!self.keys.contains_key(&**destination) && self.rename(source, destination))
            }
            Command::Clear => {
                self.keys.clear();
                Reply::Ok
            }
            Command::MGet { keys } => Reply::Strings(
                keys.iter().map(|key| self.keys.get(&**key).map(|held| held.value.clone())).collect(),
            ),
            Command::Exists { key } => Reply::Bool(self.keys.contains_key(&**key)),
            Command::Ttl { key } => Reply::Integer(match self.keys.get(&**key).map(|held| held.until) {
                None => -2,
                Some(None) => -1,
                Some(Some(until)) => i64::try_from((until - self.now).div_ceil(1000)).unwrap(),
            }),
            Command::Scan { cursor, pattern, count } => {
                let pattern = pattern.as_deref().unwrap_or("*");
                let all: Vec<_> = self.keys.keys().filter(|key| Pattern::new(pattern).matches(key)).collect();
                let start = usize::try_from(*cursor).unwrap().min(all.len());
                let end = (start + usize::from(count.unwrap_or(10).max(1))).min(all.len());
                let next_cursor = if end < all.len() { end as u64 } else { 0 };
                Reply::Scan(ScanPage {
                    next_cursor,
                    keys: all[start..end].iter().map(|key| text(key)).collect(),
                })
            }
            Command::Count => Reply::Count(self.keys.len() as u64),
            Command::List => Reply::Entries(
                self.keys
                    .iter()
                    .map(|(key, held)| NamedValue { name: text(key), value: held.value.clone() })
                    .collect(),
            ),
            other => unreachable!("{other:?} is not generated"),
        })
    }

    fn rename(&mut self, source: &str, destination: &str) -> bool {
        let Some(held) = self.keys.get(source).cloned() else { return false };
        if source != destination {
            self.keys.remove(source);
            self.overwrite(destination, held.value, held.until);
        }
        true
    }

    fn exec(&mut self, commands: &[Command]) -> Result<Reply, &'static str> {
        let mut copy = self.clone();
        let replies = commands.iter().map(|command| copy.run(command)).collect::<Result<_, _>>()?;
        *self = copy;
        Ok(Reply::Exec(replies))
    }
}

/// What one history consists of.
#[derive(Clone, Debug)]
pub(super) enum Event {
    One(Command),
    Transaction(Vec<Command>),
    Sweep(u32),
}

pub(super) fn key() -> impl Strategy<Value = Text> {
    prop::sample::select(vec!["", "a", "ab", "b", "key:1", "key:2", "é"]).prop_map(Text::from_static)
}

pub(super) fn stored() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec![&b"1"[..], b"-7", b"9223372036854775807", b"text", b"\xff", b""])
        .prop_map(Bytes::from_static)
}

fn expiration() -> impl Strategy<Value = Expiration> {
    prop_oneof![
        (0..30_u64).prop_map(Expiration::Millis),
        prop::sample::select(vec![0, 1, u64::MAX]).prop_map(Expiration::Seconds),
    ]
}

fn options() -> impl Strategy<Value = SetOptions> {
    let condition = prop::sample::select(vec![
        Condition::Always,
        Condition::Always,
        Condition::IfMissing,
        Condition::IfPresent,
    ]);
    let version = prop::option::weighted(0.2, 0..4_u64);
    (condition, prop::option::of(expiration()), any::<bool>(), any::<bool>(), version).prop_map(
        |(condition, expiration, keep_ttl, return_previous, if_version)| SetOptions {
            condition,
            expiration,
            keep_ttl,
            return_previous,
            if_version,
        },
    )
}

fn command() -> impl Strategy<Value = Command> {
    let pattern =
        prop::sample::select(vec!["*", "key:*", "?", "*1", "a*", "ab", ""]).prop_map(Text::from_static);
    prop_oneof![
        6 => (key(), stored(), options()).prop_map(|(key, value, options)| Command::Set { key, value, options }),
        1 => (key(), stored()).prop_map(|(key, value)| Command::SetNx { key, value }),
        1 => key().prop_map(|key| Command::GetDel { key }),
        2 => (key(), prop::option::of(expiration()), any::<bool>())
            .prop_map(|(key, expiration, persist)| Command::GetEx { key, expiration, persist }),
        1 => vec(key(), 0..4).prop_map(|keys| Command::Del { keys }),
        1 => vec((key(), stored()), 0..4).prop_map(|pairs| Command::MSet { pairs }),
        2 => key().prop_map(|key| Command::Incr { key }),
        1 => key().prop_map(|key| Command::Decr { key }),
        1 => (key(), 0..2_u64).prop_map(|(key, seconds)| Command::Expire { key, seconds }),
        1 => key().prop_map(|key| Command::Persist { key }),
        2 => (key(), key()).prop_map(|(source, destination)| Command::Rename { source, destination }),
        1 => (key(), key()).prop_map(|(source, destination)| Command::RenameNx { source, destination }),
        1 => Just(Command::Clear),
        2 => key().prop_map(|key| Command::Get { key }),
        1 => vec(key(), 0..4).prop_map(|keys| Command::MGet { keys }),
        1 => key().prop_map(|key| Command::Exists { key }),
        1 => key().prop_map(|key| Command::Ttl { key }),
        1 => (0..5_u64, prop::option::of(pattern), prop::option::of(0..4_u16))
            .prop_map(|(cursor, pattern, count)| Command::Scan { cursor, pattern, count }),
        1 => Just(Command::Count),
        1 => Just(Command::List),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => command().prop_map(Event::One),
        2 => vec(command(), 0..5).prop_map(Event::Transaction),
        1 => (0..3_u32).prop_map(Event::Sweep),
    ]
}

/// Batches with the milliseconds that passed before each; time can also be told wrong by a later leader.
pub(super) fn history() -> impl Strategy<Value = Vec<(i64, Vec<Event>)>> {
    vec((-5..15_i64, vec(event(), 0..6)), 1..25)
}

pub(super) fn op(event: &Event) -> Op<'_> {
    let step = |command| Op::from_command(command).expect("only such are generated");
    match event {
        Event::One(command) => step(command),
        Event::Transaction(commands) => Op::Exec(commands.iter().map(step).collect()),
        Event::Sweep(limit) => Op::Sweep { limit: *limit },
    }
}

fn encoded(root: &Root) -> Vec<u8> {
    let mut bytes = Vec::new();
    root.encode(&mut bytes).unwrap();
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_state_agrees_with_the_model(history in history()) {
        let mut bench = Bench::new();
        let mut model = Model::default();
        for (passed, events) in &history {
            bench.now_ms = bench.now_ms.saturating_add_signed(*passed);
            let outcomes = bench.apply(events.iter().map(op).collect());
            model.move_to(bench.now_ms);
            prop_assert_eq!(outcomes.len(), events.len());
            for (event, outcome) in events.iter().zip(outcomes) {
                let expected = match event {
                    Event::One(command) => model.run(command),
                    Event::Transaction(commands) => model.exec(commands),
                    Event::Sweep(limit) => {
                        let Outcome::Reply(Reply::Count(swept)) = outcome else { panic!("{outcome:?}") };
                        prop_assert!(swept <= u64::from(*limit));
                        continue;
                    }
                };
                match outcome {
                    Outcome::Reply(reply) => prop_assert_eq!(Ok(reply), expected),
                    Outcome::Failed(error) => prop_assert_eq!(Err(error.code().code()), expected),
                    Outcome::Stale => prop_assert!(false, "nothing changed the access revision"),
                }
            }
            // The same through the eyes of a reader, now and a little later.
            let (reader, root) = (bench.state.reader(), bench.state.root());
            for later in [0, 7] {
                let now = model.now + later;
                let mut model = model.clone();
                model.move_to(now);
                prop_assert_eq!(root.live_count(now), model.keys.len());
                prop_assert_eq!(root.len() - root.expired_count(now), model.keys.len());
                for key in ["", "a", "ab", "b", "key:1", "key:2", "é"] {
                    let held = root.get(key, now).map(|entry| (entry.version(), entry.expires_at_ms()));
                    prop_assert_eq!(held, model.keys.get(key).map(|held| (held.version, held.until)));
                    for read in [get(key), ttl(key), exists(key)] {
                        prop_assert_eq!(reader.query(&read, now, &mut ample()), Ok(model.run(&read).ok()));
                        prop_assert_eq!(root.query(&read, now, &mut ample()), Ok(model.run(&read).ok()));
                    }
                }
                for read in [Command::List, Command::Count, scan(1, Some("*1"), Some(1))] {
                    prop_assert_eq!(reader.query(&read, now, &mut ample()), Ok(model.run(&read).ok()));
                }
            }
        }
    }

    #[test]
    fn the_same_log_gives_the_same_bytes(history in history(), stop in 0..25_usize) {
        let mut straight = Bench::new();
        let mut again = Bench::new();
        let mut interrupted = Bench::new();
        for (at, (passed, events)) in history.iter().enumerate() {
            if at == stop {
                let image = encoded(&interrupted.state.root());
                let now_ms = interrupted.now_ms;
                interrupted = Bench::from_root(Root::decode(&image[..]).unwrap());
                interrupted.now_ms = now_ms;
            }
            let mut outcomes = Vec::new();
            for bench in [&mut straight, &mut again, &mut interrupted] {
                bench.now_ms = bench.now_ms.saturating_add_signed(*passed);
                outcomes.push(bench.apply(events.iter().map(op).collect()));
            }
            prop_assert_eq!(&outcomes[0], &outcomes[1]);
            prop_assert_eq!(&outcomes[0], &outcomes[2]);
        }
        let bytes = encoded(&straight.state.root());
        prop_assert_eq!(&encoded(&again.state.root()), &bytes);
        prop_assert_eq!(&encoded(&interrupted.state.root()), &bytes);
    }
}
