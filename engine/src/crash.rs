//! Crashes between any two changes of the file system, for tests.
//!
//! Before each change two images of the directory are taken: what a killed process leaves behind (all of it), and the
//! least that a loss of power leaves behind (content as of the last sync of each file, names as of the
//! last sync of each directory). Each carries a note of what the test expected at that moment.

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
}

pub(crate) struct Image<N> {
    pub(crate) what: String,
    pub(crate) note: N,
    files: BTreeMap<PathBuf, Vec<u8>>,
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
        let name = path.strip_prefix(&self.root).unwrap_or(path).display();
        for (how, files) in [("killed", killed), ("without power", unplugged)] {
            let what = format!("{how} before {operation:?} {name}");
            let note = state.note.clone();
            state.images.push(Image { what, note, files });
        }
        Ok(())
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
