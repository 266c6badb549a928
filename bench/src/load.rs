//! Which request comes next, and when to stop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use vaylix_proto::{Command, SetOptions, Text};

use crate::flags::{Flags, Mix, Workload};
use crate::random::Random;
use crate::template::Template;

/// Keys of values and keys of counters: a value that was written as text cannot be counted up.
const KEY_PREFIX: &str = "key:";
const COUNTER_PREFIX: &str = "counter:";

/// The requests of one phase, shared by all connections.
#[derive(Debug)]
pub(crate) struct Load {
    set: Template,
    other: Template,
    mix: Mix,
    order: Order,
    keys: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Random,
    /// Each key once.
    Ascending,
}

impl Load {
    /// The load that the options ask for.
    pub(crate) fn measured(flags: &Flags) -> Self {
        let set = set_template(flags.value_size);
        let (other, mix) = match flags.workload {
            Workload::Set => (set.clone(), Mix { set: 1, get: 0 }),
            Workload::Get => (Template::new(KEY_PREFIX, |key| Command::Get { key }), Mix { set: 0, get: 1 }),
            Workload::Mixed => (Template::new(KEY_PREFIX, |key| Command::Get { key }), flags.mix),
            Workload::Incr => {
                (Template::new(COUNTER_PREFIX, |key| Command::Incr { key }), Mix { set: 0, get: 1 })
            }
        };
        Self { set, other, mix, order: Order::Random, keys: flags.keys }
    }

    /// One write of each key to be preloaded.
    pub(crate) fn preload(flags: &Flags) -> Self {
        let set = set_template(flags.value_size);
        let mix = Mix { set: 1, get: 0 };
        Self { other: set.clone(), set, mix, order: Order::Ascending, keys: flags.preload }
    }

    /// Appends request number `number` of the phase to `out`.
    pub(crate) fn write(&self, number: u64, id: u64, random: &mut Random, out: &mut Vec<u8>) {
        let key = match self.order {
            Order::Random => random.below(self.keys),
            Order::Ascending => number,
        };
        let Mix { set, get } = self.mix;
        let is_set = get == 0 || set != 0 && random.below(u64::from(set) + u64::from(get)) < u64::from(set);
        let template = if is_set { &self.set } else { &self.other };
        template.write(id, key, out);
    }
}

fn set_template(value_size: u32) -> Template {
    let value = vec![b'x'; usize::try_from(value_size).expect("a u32 fits in usize on supported platforms")];
    Template::new(KEY_PREFIX, |key: Text| Command::Set {
        key,
        value: value.into(),
        options: SetOptions::default(),
    })
}

/// How much is left to do; shared by all connections.
#[derive(Debug)]
pub(crate) enum Budget {
    /// So many requests: number of the next one, and how many there are.
    Requests(AtomicU64, u64),
    /// As many as possible until then.
    Until(Instant),
}

impl Budget {
    /// `count` requests.
    pub(crate) fn requests(count: u64) -> Self {
        Self::Requests(AtomicU64::new(0), count)
    }

    /// Takes up to `count` requests: the number of the first one and how many. Nothing left is `None`.
    pub(crate) fn take(&self, count: u32, now: Instant) -> Option<(u64, u32)> {
        match self {
            Self::Until(end) => (now < *end).then_some((0, count)),
            Self::Requests(next, total) => {
                let first = next.fetch_add(u64::from(count), Ordering::Relaxed);
                let left = total.checked_sub(first).filter(|&left| left > 0)?;
                Some((first, u32::try_from(left).unwrap_or(u32::MAX).min(count)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_number_of_requests_is_met_exactly() {
        let budget = Budget::requests(10);
        let now = Instant::now();
        let taken: Vec<_> = std::iter::from_fn(|| budget.take(4, now)).collect();
        assert_eq!(taken, [(0, 4), (4, 4), (8, 2)]);
        assert_eq!(budget.take(4, now), None);
        assert_eq!(Budget::requests(0).take(1, now), None);
    }

    #[test]
    fn a_duration_ends() {
        let now = Instant::now();
        let budget = Budget::Until(now + Duration::from_secs(1));
        assert_eq!(budget.take(3, now), Some((0, 3)));
        assert_eq!(budget.take(3, now + Duration::from_secs(1)), None);
    }

    #[test]
    fn the_mix_is_kept() {
        let load = Load {
            set: set_template(100),
            other: Template::new(KEY_PREFIX, |key| Command::Get { key }),
            mix: Mix { set: 1, get: 3 },
            order: Order::Random,
            keys: 10,
        };
        let mut random = Random::new(7, 0);
        let sets = (0..10_000)
            .filter(|&number| {
                let mut out = Vec::new();
                load.write(number, 0, &mut random, &mut out);
                out.len() > 100
            })
            .count();
        assert!((2_300..2_700).contains(&sets), "{sets}");
    }
}
