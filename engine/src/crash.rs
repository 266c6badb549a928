//! Crashes between any two changes of the file system, for tests.
//!
//! Before each change three images of the directory are taken: what a killed process leaves behind (all of it), the
//! least that a loss of power leaves behind (content as of the last sync of each file, names as of the last sync of each
//! directory), and something in between (of the changes since the last sync, each sector of a file and all the names
//! are there or not, by the throw of a die). Each carries a note of what the test expected at that moment.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tempfile::TempDir;

use crate::disk::{Operation, Probe};

/// A directory for files that need not survive the test: in memory where there is such a place, since syncs cost
/// nothing there.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

pub(crate) struct Crashes<N = ()> {
    root: PathBuf,
    state: Mutex<State<N>>,
    idle: Condvar,
}

struct State<N> {
    note: N,
    /// A change is under way, so the directory must not be copied.
    busy: bool,
    /// Synced content by inode; the open file keeps the inode from being used again.
    synced: HashMap<u64, (File, Vec<u8>)>,
    /// Synced names by directory.
    names: BTreeMap<PathBuf, BTreeMap<PathBuf, u64>>,
    images: Vec<Image<N>>,
    dice: u64,
}

pub(crate) struct Image<N> {
    pub(crate) what: String,
    pub(crate) how: How,
    /// What was about to happen, and to which file.
    pub(crate) point: (Operation, PathBuf),
    pub(crate) note: N,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum How {
    Killed,
    WithoutPower,
    WithoutPowerInBetween,
}

impl<N: Clone + Default + PartialEq> Crashes<N> {
    /// Begins with everything in the directory synced.
    pub(crate) fn watch(root: &Path) -> Arc<Self> {
        let mut state = State {
            note: N::default(),
            busy: false,
            synced: HashMap::new(),
            names: BTreeMap::new(),
            images: Vec::new(),
            dice: 0x9e37_79b9_7f4a_7c15,
        };
        for directory in directories(root) {
            for file in files_in(&directory) {
                state.sync(&file);
            }
            state.sync_names(&directory);
        }
        Arc::new(Self { root: root.to_owned(), state: Mutex::new(state), idle: Condvar::new() })
    }

    /// What the images taken from now on are to be judged by.
    pub(crate) fn note(&self, note: N) {
        self.state.lock().note = note;
    }

    /// The images so far, each in a directory of its own.
    pub(crate) fn images(&self) -> impl Iterator<Item = TempDir> {
        self.taken().into_iter().map(|image| image.restore())
    }

    pub(crate) fn taken(&self) -> Vec<Image<N>> {
        std::mem::take(&mut self.state.lock().images)
    }
}

impl<N> Image<N> {
    pub(crate) fn restore(&self) -> TempDir {
        let root = scratch();
        for directory in DIRECTORIES {
            fs::create_dir(root.path().join(directory)).unwrap();
        }
        for (path, content) in &self.files {
            fs::write(root.path().join(path), content).unwrap();
        }
        root
    }
}

impl<N> State<N> {
    fn toss(&mut self) -> bool {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice & 1 == 0
    }

    /// Content between what was synced and what is there.
    fn between(&mut self, synced: &[u8], now: &[u8]) -> Vec<u8> {
        let len = if self.toss() { synced.len() } else { now.len() };
        let mut content = vec![0; len];
        for at in (0..len).step_by(512) {
            let from = if self.toss() { synced } else { now };
            let end = (at + 512).min(from.len());
            if at < end.min(len) {
                content[at..end.min(len)].copy_from_slice(&from[at..end.min(len)]);
            }
        }
        content
    }

    /// The files as a loss of power may leave them.
    fn in_between(&mut self, directories: &[PathBuf]) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        // For all directories alike: no file system loses a file that is moved from one to another.
        let as_synced = self.toss();
        for directory in directories {
            let synced = self.names.get(directory).cloned().unwrap_or_default();
            let now: BTreeMap<PathBuf, u64> = files_in(directory)
                .into_iter()
                .map(|path| (path.clone(), fs::metadata(path).unwrap().ino()))
                .collect();
            let current: HashMap<u64, Vec<u8>> =
                now.iter().map(|(path, inode)| (*inode, fs::read(path).unwrap())).collect();
            let names = if as_synced { &synced } else { &now };
            for (path, inode) in names {
                let kept = self.synced.get(inode).map(|(_, content)| content.clone()).unwrap_or_default();
                let content = match current.get(inode) {
                    Some(now) => self.between(&kept, now),
                    None => kept,
                };
                files.insert(path.clone(), content);
            }
        }
        files
    }

    fn sync(&mut self, path: &Path) {
        let file = File::open(path).unwrap();
        let inode = file.metadata().unwrap().ino();
        self.synced.insert(inode, (file, fs::read(path).unwrap()));
    }

    fn sync_names(&mut self, directory: &Path) {
        let mut names = BTreeMap::new();
        for path in files_in(directory) {
            let file = File::open(&path).unwrap();
            let inode = file.metadata().unwrap().ino();
            self.synced.entry(inode).or_insert((file, Vec::new()));
            names.insert(path, inode);
        }
        self.names.insert(directory.to_owned(), names);
    }
}

/// The directories in a data directory.
const DIRECTORIES: [&str; 2] = ["wal", "snapshots"];

/// The data directory and those of the directories in it that exist.
fn directories(root: &Path) -> impl Iterator<Item = PathBuf> {
    let inner = DIRECTORIES.map(|name| root.join(name));
    std::iter::once(root.to_owned()).chain(inner).filter(|directory| directory.is_dir())
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_file()).collect()
}

impl<N: Clone + Default + PartialEq + Send> Probe for Crashes<N> {
    fn before(&self, operation: Operation, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        while state.busy {
            self.idle.wait(&mut state);
        }
        state.busy = true;
        let killed = directories(&self.root)
            .flat_map(|directory| files_in(&directory))
            .map(|file| (file.strip_prefix(&self.root).unwrap().to_owned(), fs::read(&file).unwrap()))
            .collect();
        let unplugged = state
            .names
            .values()
            .flatten()
            .map(|(file, inode)| {
                (file.strip_prefix(&self.root).unwrap().to_owned(), state.synced[inode].1.clone())
            })
            .collect();
        let between = state.in_between(&directories(&self.root).collect::<Vec<_>>());
        let between = between
            .into_iter()
            .map(|(path, content)| (path.strip_prefix(&self.root).unwrap().to_owned(), content))
            .collect();
        let name = path.strip_prefix(&self.root).unwrap_or(path).to_owned();
        for (how, files) in
            [(How::Killed, killed), (How::WithoutPower, unplugged), (How::WithoutPowerInBetween, between)]
        {
            let what = format!("{how:?} before {operation:?} {}", name.display());
            let note = state.note.clone();
            state.images.push(Image { what, how, point: (operation, name.clone()), note, files });
        }
        Ok(())
    }

    fn failed(&self, _: Operation, _: &Path) {
        self.state.lock().busy = false;
        self.idle.notify_all();
    }

    fn after(&self, operation: Operation, path: &Path) {
        let mut state = self.state.lock();
        match operation {
            Operation::Sync => state.sync(path),
            Operation::SyncDirectory => state.sync_names(path),
            _ => {}
        }
        state.busy = false;
        self.idle.notify_all();
    }
}
