//! The ordered map behind the keyspace: a B+ tree whose nodes are shared between copies until they change.
//!
//! Finding a key among millions costs as much as the places of memory it visits. Comparing with an entry means
//! visiting it, so a leaf keeps, beside its entries, a *hint* for each: the four bytes of the key that follow
//! what all keys of the leaf begin with. Nearly always the hints alone tell which entry it is, and the only
//! entry visited is the one sought. They are hints: what they point at is compared in full, and where they do
//! not decide, the keys do.
//!
//! Branches hold the bounds between their children by value, each as short as can be.

use std::cmp::Ordering;
use std::ops::Bound;
use std::slice;

use arrayvec::ArrayVec;
use smallvec::SmallVec;
use triomphe::Arc;

use super::entry::Entry;

/// Most entries of a leaf, and most children of a branch.
const NODE_MAX: usize = 64;

/// A node with less than this is joined with a neighbour when the two fill no more than `JOINED_MAX`, which leaves room
/// before the next split.
const NODE_MIN: usize = NODE_MAX / 4;
const JOINED_MAX: usize = NODE_MAX / 4 * 3;

/// Where one child ends and the next begins: at or after every key of the former's, at or before every key of the
/// latter's. Short ones live in the branch itself.
type Fence = SmallVec<[u8; 16]>;

/// Entries in the order of their keys. A clone costs nothing and never changes.
#[derive(Clone, Default)]
pub(super) struct Tree {
    root: Option<Node>,
    len: usize,
}

#[derive(Clone)]
enum Node {
    Leaf(Arc<Leaf>),
    Branch(Arc<Branch>),
}

/// Invariants:
/// - never empty, except for the moment in which its last entry is taken out;
/// - keys ascend;
/// - all keys agree in their first `shared` bytes;
/// - `hints[at]` is the hint of what follows those in `entries[at]`, so hints ascend too, though not strictly.
#[derive(Clone, Default)]
struct Leaf {
    shared: usize,
    hints: ArrayVec<u32, NODE_MAX>,
    entries: ArrayVec<Entry, NODE_MAX>,
}

/// Invariants:
/// - `fences` is one shorter than `children`;
/// - keys below `children[at]` are before `fences[at]`, and those below `children[at + 1]` are not.
#[derive(Clone)]
struct Branch {
    fences: ArrayVec<Fence, NODE_MAX>,
    children: ArrayVec<Node, NODE_MAX>,
}

/// What became of an entry that was put in.
enum Put {
    Added,
    Replaced(Entry),
    /// It was added, and the node had to be divided: the fence and what is behind it.
    Divided(Fence, Node),
}

impl Tree {
    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The entry of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        let mut node = self.root.as_ref()?;
        loop {
            match node {
                Node::Branch(branch) => node = &branch.children[branch.child_of(key)],
                Node::Leaf(leaf) => return leaf.find(key).ok().map(|at| &leaf.entries[at]),
            }
        }
    }

    /// Puts an entry in, and hands back the one its key had.
    pub(super) fn insert(&mut self, entry: Entry) -> Option<Entry> {
        let Some(root) = &mut self.root else {
            self.root = Some(Node::Leaf(Arc::new(Leaf::of([entry].into_iter().collect()))));
            self.len = 1;
            return None;
        };
        match root.put(entry) {
            Put::Replaced(replaced) => return Some(replaced),
            Put::Added => {}
            Put::Divided(fence, right) => {
                let left = root.clone();
                *root = Node::Branch(Arc::new(Branch {
                    fences: [fence].into_iter().collect(),
                    children: [left, right].into_iter().collect(),
                }));
            }
        }
        self.len += 1;
        None
    }

    /// Takes the entry of a key out.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        // Looked up first: taking the way down for changes would copy shared nodes for nothing.
        self.get(key)?;
        let root = self.root.as_mut()?;
        let removed = root.remove(key)?;
        self.len -= 1;
        // Without its root's last entry the tree is empty, and a root with one child is one level too many.
        while let Some(Node::Branch(branch)) = &self.root
            && let [only] = branch.children.as_slice()
        {
            self.root = Some(only.clone());
        }
        if self.len == 0 {
            self.root = None;
        }
        Some(removed)
    }

    /// All entries, ascending.
    pub(super) fn iter(&self) -> Iter<'_> {
        self.iter_from(Bound::Unbounded)
    }

    /// The entries from a key on, ascending.
    pub(super) fn iter_from(&self, from: Bound<&[u8]>) -> Iter<'_> {
        let mut iter = Iter { branches: Vec::new(), leaf: [].iter() };
        let mut node = self.root.as_ref();
        while let Some(Node::Branch(branch)) = node {
            let child = match from {
                Bound::Included(key) | Bound::Excluded(key) => branch.child_of(key),
                Bound::Unbounded => 0,
            };
            iter.branches.push(branch.children[child + 1..].iter());
            node = branch.children.get(child);
        }
        if let Some(Node::Leaf(leaf)) = node {
            let first = match from {
                Bound::Included(key) => leaf.find(key).unwrap_or_else(|at| at),
                Bound::Excluded(key) => leaf.find(key).map_or_else(|at| at, |at| at + 1),
                Bound::Unbounded => 0,
            };
            iter.leaf = leaf.entries[first..].iter();
        }
        iter
    }
}

/// Makes a tree of entries that come in ascending order, with full nodes.
#[derive(Default)]
pub(super) struct Builder {
    leaves: Vec<(Fence, Node)>,
    /// The fence before the leaf that is being filled, and its entries.
    fence: Fence,
    entries: ArrayVec<Entry, NODE_MAX>,
    len: usize,
}

impl Builder {
    /// Adds an entry behind all others.
    pub(super) fn push(&mut self, entry: Entry) {
        if self.entries.is_full() {
            let next = fence(&self.entries[NODE_MAX - 1], &entry);
            self.close_leaf(next);
        }
        self.entries.push(entry);
        self.len += 1;
    }

    pub(super) fn finish(mut self) -> Tree {
        if !self.entries.is_empty() {
            self.close_leaf(Fence::new());
        }
        let mut level = self.leaves;
        while level.len() > 1 {
            let mut nodes = level.into_iter();
            level = Vec::new();
            while let Some((before, first)) = nodes.next() {
                let mut branch = Branch { fences: ArrayVec::new(), children: [first].into_iter().collect() };
                for (fence, node) in nodes.by_ref().take(NODE_MAX - 1) {
                    branch.fences.push(fence);
                    branch.children.push(node);
                }
                level.push((before, Node::Branch(Arc::new(branch))));
            }
        }
        Tree { root: level.pop().map(|(_, root)| root), len: self.len }
    }

    /// Finishes the leaf at hand; the next one is behind this fence.
    fn close_leaf(&mut self, next: Fence) {
        let leaf = Leaf::of(std::mem::take(&mut self.entries));
        self.leaves.push((std::mem::replace(&mut self.fence, next), Node::Leaf(Arc::new(leaf))));
    }
}

/// Entries in ascending order.
pub(super) struct Iter<'t> {
    /// What is left of each branch on the way down, the root's first.
    branches: Vec<slice::Iter<'t, Node>>,
    leaf: slice::Iter<'t, Entry>,
}

impl<'t> Iterator for Iter<'t> {
    type Item = &'t Entry;

    fn next(&mut self) -> Option<&'t Entry> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some(entry);
            }
            match self.branches.last_mut()?.next() {
                None => _ = self.branches.pop(),
                Some(Node::Branch(branch)) => self.branches.push(branch.children.iter()),
                Some(Node::Leaf(leaf)) => self.leaf = leaf.entries.iter(),
            }
        }
    }
}

impl Node {
    fn put(&mut self, entry: Entry) -> Put {
        match self {
            Self::Leaf(leaf) => Arc::make_mut(leaf).put(entry),
            Self::Branch(branch) => Arc::make_mut(branch).put(entry),
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        match self {
            Self::Leaf(leaf) => Arc::make_mut(leaf).remove(key),
            Self::Branch(branch) => Arc::make_mut(branch).remove(key),
        }
    }

    /// The number of entries of a leaf or children of a branch.
    fn fill(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.entries.len(),
            Self::Branch(branch) => branch.children.len(),
        }
    }

    /// Adds everything of the neighbour behind the fence.
    fn join(&mut self, fence: Fence, right: &Self) {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => Arc::make_mut(left).join(right),
            (Self::Branch(left), Self::Branch(right)) => Arc::make_mut(left).join(fence, right),
            _ => unreachable!("all leaves are equally deep"),
        }
    }
}

impl Leaf {
    fn of(entries: ArrayVec<Entry, NODE_MAX>) -> Self {
        let mut leaf = Self { shared: 0, hints: ArrayVec::new(), entries };
        leaf.renew_hints();
        leaf
    }

    /// Where the entry of a key is, or else where it would be.
    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        if let Some((start, rest)) = key.split_at_checked(self.shared) {
            let hint = hint(rest);
            let first = self.hints.partition_point(|held| *held < hint);
            let alike = self.hints[first..].iter().take_while(|held| **held == hint).count();
            match search(&self.entries[first..first + alike], key) {
                Ok(at) => return Ok(first + at),
                // The place follows from the hints only for keys that begin like the others.
                Err(at) if self.starts_with(start) => return Err(first + at),
                Err(_) => {}
            }
        }
        search(&self.entries, key)
    }

    fn put(&mut self, entry: Entry) -> Put {
        let at = match self.find(entry.key_bytes()) {
            Ok(at) => return Put::Replaced(std::mem::replace(&mut self.entries[at], entry)),
            Err(at) => at,
        };
        if !self.entries.is_full() {
            self.insert(at, entry);
            return Put::Added;
        }
        // Keys that arrive in order leave full leaves behind.
        let middle = if at == NODE_MAX { NODE_MAX } else { NODE_MAX / 2 };
        let mut right: ArrayVec<Entry, NODE_MAX> = self.entries.drain(middle..).collect();
        match at.checked_sub(middle) {
            Some(at) => right.insert(at, entry),
            None => self.entries.insert(at, entry),
        }
        self.renew_hints();
        let fence = fence(&self.entries[self.entries.len() - 1], &right[0]);
        Put::Divided(fence, Node::Leaf(Arc::new(Self::of(right))))
    }

    /// Adds an entry where there is room.
    fn insert(&mut self, at: usize, entry: Entry) {
        let start_fits = entry.key_bytes().get(..self.shared).is_some_and(|start| self.starts_with(start));
        if start_fits {
            self.hints.insert(at, hint(&entry.key_bytes()[self.shared..]));
            self.entries.insert(at, entry);
        } else {
            self.entries.insert(at, entry);
            self.renew_hints();
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let at = self.find(key).ok()?;
        self.hints.remove(at);
        Some(self.entries.remove(at))
    }

    fn join(&mut self, right: &Self) {
        self.entries.extend(right.entries.iter().cloned());
        self.renew_hints();
    }

    fn renew_hints(&mut self) {
        if let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) {
            self.shared = shared_len(first.key_bytes(), last.key_bytes());
        }
        self.hints = self.entries.iter().map(|entry| hint(&entry.key_bytes()[self.shared..])).collect();
    }

    /// Whether the keys begin with the first bytes of a key, `shared` in number.
    fn starts_with(&self, start: &[u8]) -> bool {
        self.entries.first().is_some_and(|first| first.key_bytes().starts_with(start))
    }
}

impl Branch {
    /// Which child has the place of a key.
    fn child_of(&self, key: &[u8]) -> usize {
        self.fences.partition_point(|fence| fence.as_slice() <= key)
    }

    fn put(&mut self, entry: Entry) -> Put {
        let at = self.child_of(entry.key_bytes());
        let (fence, right) = match self.children[at].put(entry) {
            Put::Divided(fence, right) => (fence, right),
            done => return done,
        };
        if !self.children.is_full() {
            self.fences.insert(at, fence);
            self.children.insert(at + 1, right);
            return Put::Added;
        }
        let middle = if at + 1 == NODE_MAX { NODE_MAX - 1 } else { NODE_MAX / 2 };
        let mut behind = Self {
            fences: self.fences.drain(middle..).collect(),
            children: self.children.drain(middle..).collect(),
        };
        let between = self.fences.pop().expect("more than one child is left");
        let (half, at) = match at.checked_sub(middle) {
            Some(at) => (&mut behind, at),
            None => (&mut *self, at),
        };
        half.fences.insert(at, fence);
        half.children.insert(at + 1, right);
        Put::Divided(between, Node::Branch(Arc::new(behind)))
    }

    fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let at = self.child_of(key);
        let removed = self.children[at].remove(key)?;
        match self.children[at].fill() {
            0 => {
                self.children.remove(at);
                // An only child leaves no fence behind.
                _ = self.fences.pop_at(at.saturating_sub(1));
            }
            fill if fill < NODE_MIN => self.join_with_neighbour(at),
            _ => {}
        }
        Some(removed)
    }

    fn join_with_neighbour(&mut self, at: usize) {
        let fits = |left: &usize| {
            self.children
                .get(left + 1)
                .is_some_and(|right| self.children[*left].fill() + right.fill() <= JOINED_MAX)
        };
        if let Some(left) = [at.checked_sub(1), Some(at)].into_iter().flatten().find(fits) {
            self.join_behind(left);
        }
    }

    /// Makes one child of two neighbours.
    fn join_behind(&mut self, left: usize) {
        let right = self.children.remove(left + 1);
        let fence = self.fences.remove(left);
        self.children[left].join(fence, &right);
    }

    fn join(&mut self, fence: Fence, right: &Self) {
        self.fences.push(fence);
        self.fences.extend(right.fences.iter().cloned());
        self.children.extend(right.children.iter().cloned());
    }
}

/// The first four bytes as a number that orders like them; missing ones count as zero.
fn hint(rest: &[u8]) -> u32 {
    let mut bytes = [0; 4];
    let len = rest.len().min(4);
    bytes[..len].copy_from_slice(&rest[..len]);
    u32::from_be_bytes(bytes)
}

fn search(entries: &[Entry], key: &[u8]) -> Result<usize, usize> {
    entries.binary_search_by(|entry| -> Ordering { entry.key_bytes().cmp(key) })
}

/// The shortest fence between two neighbours.
fn fence(left: &Entry, right: &Entry) -> Fence {
    let (left, right) = (left.key_bytes(), right.key_bytes());
    Fence::from_slice(&right[..=shared_len(left, right)])
}

/// How many bytes two keys have in common before they differ.
fn shared_len(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Checks every invariant and returns the depth of the leaves and the number of entries below.
    fn check(node: &Node, from: Option<&[u8]>, to: Option<&[u8]>) -> (usize, usize) {
        match node {
            Node::Leaf(leaf) => {
                let keys: Vec<&[u8]> = leaf.entries.iter().map(Entry::key_bytes).collect();
                assert!(!keys.is_empty(), "no leaf is empty");
                assert!(keys.is_sorted_by(|left, right| left < right), "keys ascend");
                assert!(from.is_none_or(|from| from <= keys[0]), "keys are behind the fence before them");
                assert!(
                    to.is_none_or(|to| keys[keys.len() - 1] < to),
                    "keys are before the fence after them"
                );
                let shared = &keys[0][..leaf.shared];
                assert!(keys.iter().all(|key| key.starts_with(shared)), "keys share their start");
                let hints: Vec<u32> = keys.iter().map(|key| hint(&key[leaf.shared..])).collect();
                assert_eq!(leaf.hints.as_slice(), hints, "hints belong to the keys");
                (0, keys.len())
            }
            Node::Branch(branch) => {
                assert_eq!(
                    branch.fences.len() + 1,
                    branch.children.len(),
                    "a fence between any two children"
                );
                let fences: Vec<&[u8]> = branch.fences.iter().map(SmallVec::as_slice).collect();
                let below: Vec<(usize, usize)> = (0..branch.children.len())
                    .map(|at| {
                        let before = at.checked_sub(1).map(|before| fences[before]).or(from);
                        check(&branch.children[at], before, fences.get(at).copied().or(to))
                    })
                    .collect();
                assert!(below.iter().all(|(depth, _)| *depth == below[0].0), "all leaves are equally deep");
                (below[0].0 + 1, below.iter().map(|(_, len)| len).sum())
            }
        }
    }

    fn check_tree(tree: &Tree) {
        let len = tree.root.as_ref().map_or(0, |root| check(root, None, None).1);
        assert_eq!(len, tree.len(), "the length is the number of entries");
    }

    fn entry(key: &[u8], version: u64) -> Entry {
        Entry::new(key, b"value", version, None)
    }

    fn content<'t>(entries: impl Iterator<Item = &'t Entry>) -> Vec<(Vec<u8>, u64)> {
        entries.map(|entry| (entry.key_bytes().to_vec(), entry.version())).collect()
    }

    /// Keys that are hard to tell apart: few letters, one of them zero like the filling of hints, long starts in
    /// common, and starts of one another.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let letters = prop_oneof![Just(0), Just(b'a'), Just(b'b'), Just(255)];
        let start = prop_oneof![Just(&b""[..]), Just(&b"aaaa"[..]), Just(&b"prefix:that:is:long:"[..])];
        (start, vec(letters, 0..7)).prop_map(|(start, rest)| [start, &rest].concat())
    }

    #[derive(Clone, Debug)]
    enum Act {
        Put(Vec<u8>),
        Remove(Vec<u8>),
        /// Removes so many from a key on.
        RemoveRun(Vec<u8>, usize),
        /// Puts so many numbered keys below a start.
        PutRun(Vec<u8>, usize, bool),
        Keep,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            8 => key().prop_map(Act::Put),
            4 => key().prop_map(Act::Remove),
            1 => (key(), 0..400_usize).prop_map(|(from, count)| Act::RemoveRun(from, count)),
            1 => (key(), 0..300_usize, any::<bool>()).prop_map(|(start, count, up)| Act::PutRun(start, count, up)),
            1 => Just(Act::Keep),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn behaves_like_a_map_and_copies_never_change(acts in vec(act(), 1..120), probes in vec(key(), 8)) {
            let mut tree = Tree::default();
            let mut model = BTreeMap::new();
            let mut kept = Vec::new();
            for (act, version) in acts.into_iter().zip(1..) {
                let mut put = |key: Vec<u8>| {
                    let replaced = tree.insert(entry(&key, version)).map(|entry| entry.version());
                    assert_eq!(replaced, model.insert(key, version));
                };
                match act {
                    Act::Put(key) => put(key),
                    Act::PutRun(start, count, up) => {
                        let numbered = |number: usize| [&start[..], format!("{number:05}").as_bytes()].concat();
                        for number in 0..count {
                            put(numbered(if up { number } else { count - number }));
                        }
                    }
                    Act::Remove(key) => {
                        let removed = tree.remove(&key).map(|entry| entry.version());
                        prop_assert_eq!(removed, model.remove(&key));
                    }
                    Act::RemoveRun(from, count) => {
                        let run: Vec<Vec<u8>> = model.range(from..).take(count).map(|(key, _)| key.clone()).collect();
                        for key in run {
                            let removed = tree.remove(&key).map(|entry| entry.version());
                            prop_assert_eq!(removed, model.remove(&key));
                        }
                    }
                    Act::Keep => kept.push((tree.clone(), model.clone())),
                }
                check_tree(&tree);
            }
            let mut built = Builder::default();
            tree.iter().cloned().for_each(|entry| built.push(entry));
            kept.push((built.finish(), model.clone()));
            kept.push((tree, model));
            for (tree, model) in &kept {
                check_tree(tree);
                let all: Vec<(Vec<u8>, u64)> = model.iter().map(|(key, version)| (key.clone(), *version)).collect();
                prop_assert_eq!(content(tree.iter()), all);
                for probe in &probes {
                    prop_assert_eq!(tree.get(probe).map(Entry::version), model.get(probe).copied());
                    for from in [Bound::Included(&probe[..]), Bound::Excluded(&probe[..])] {
                        let behind = model.range::<[u8], _>((from, Bound::Unbounded));
                        let behind: Vec<(Vec<u8>, u64)> =
                            behind.map(|(key, version)| (key.clone(), *version)).collect();
                        prop_assert_eq!(content(tree.iter_from(from)), behind);
                    }
                }
            }
        }
    }

    #[test]
    fn keys_that_arrive_in_order_fill_the_leaves() {
        let mut tree = Tree::default();
        for number in 0..100_000_u64 {
            tree.insert(entry(format!("key:{number:012}").as_bytes(), number));
        }
        check_tree(&tree);
        let mut leaves = 0;
        let mut nodes: Vec<&Node> = tree.root.iter().collect();
        while let Some(node) = nodes.pop() {
            match node {
                Node::Leaf(_) => leaves += 1,
                Node::Branch(branch) => nodes.extend(&branch.children),
            }
        }
        assert_eq!(leaves, 100_000_usize.div_ceil(NODE_MAX));
    }

    #[test]
    fn built_from_many_in_order_it_holds_them_and_goes_on() {
        for count in [0, 1, NODE_MAX, NODE_MAX + 1, NODE_MAX * NODE_MAX, NODE_MAX * NODE_MAX + 1, 300_000] {
            let key = |number: usize| format!("{number:09}").into_bytes();
            let mut built = Builder::default();
            (0..count).for_each(|number| built.push(entry(&key(number * 2), 1)));
            let mut tree = built.finish();
            assert_eq!(tree.len(), count);
            check_tree(&tree);
            for number in (0..count).step_by(97) {
                assert!(tree.insert(entry(&key(number * 2 + 1), 2)).is_none());
                assert!(tree.remove(&key(number * 2)).is_some());
            }
            check_tree(&tree);
        }
    }

    #[test]
    fn emptied_in_any_order_nothing_is_left() {
        for stride in [1, 7, 99_991] {
            let mut tree = Tree::default();
            let key = |number: usize| format!("key:{:06}", number * stride % 20_011).into_bytes();
            (0..20_011).for_each(|number| _ = tree.insert(entry(&key(number * 5), 1)));
            assert_eq!(tree.len(), 20_011);
            for number in 0..20_011 {
                assert!(tree.remove(&key(number)).is_some());
                if number % 1000 == 0 {
                    check_tree(&tree);
                }
            }
            assert!(tree.root.is_none());
        }
    }
}
