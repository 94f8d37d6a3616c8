//! A disk that is watched: what happened to it, and what of that a power failure may leave.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::Dice;

/// What may be lost of a write: whole blocks of this size, in bytes.
const BLOCK: usize = 4096;

/// The shim of `disk.c`, compiled once.
pub(crate) fn shim() -> &'static Path {
    static SHIM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = SHIM.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.so");
        let source = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/integration/crash/disk.c"
        );
        let compiled = Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .args([&path, Path::new(source)])
            .args(["-ldl", "-lpthread"])
            .status();
        assert!(
            compiled.is_ok_and(|status| status.success()),
            "these tests need a C compiler that is called cc"
        );
        (directory, path)
    });
    path
}

/// A directory for much writing: in memory where there is one.
pub(crate) fn workspace() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) kind: char,
    pub(crate) path: String,
    offset: u64,
    data: Vec<u8>,
}

/// What the shim wrote down, as far as it came.
pub(crate) fn read_trace(path: &Path) -> Vec<Event> {
    let bytes = fs::read(path).unwrap();
    let mut events = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((head, tail)) = rest.split_at_checked(15) {
        let path_size = usize::from(u16::from_le_bytes(head[1..3].try_into().unwrap()));
        let data_size = u32::from_le_bytes(head[11..15].try_into().unwrap()) as usize;
        let Some((body, tail)) = tail.split_at_checked(path_size + data_size) else {
            break;
        };
        events.push(Event {
            kind: char::from(head[0]),
            path: String::from_utf8(body[..path_size].to_vec()).unwrap(),
            offset: u64::from_le_bytes(head[3..11].try_into().unwrap()),
            data: body[path_size..].to_vec(),
        });
        rest = tail;
    }
    events
}

impl Event {
    /// What the process said.
    pub(crate) fn said(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.data);
        let said = text.trim_end().strip_prefix(super::process::MARK)?;
        (self.kind == 'A').then(|| said.to_owned())
    }
}

/// A change of a file, made and perhaps not yet on the disk.
#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                let end = offset + data.len();
                content.resize(content.len().max(end), 0);
                content[*offset..end].copy_from_slice(data);
            }
            Self::Truncate(size) => content.resize(*size, 0),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct FileState {
    durable: Vec<u8>,
    pending: VecDeque<Change>,
    /// How many changes have become durable.
    settled: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    Directory,
    File(usize),
}

/// A change of names, made and perhaps not yet on the disk.
#[derive(Clone, Debug)]
enum Naming {
    Add(String, Node),
    Remove(String),
    Move(String, String),
}

impl Naming {
    fn directory(&self) -> &str {
        let (Self::Add(path, _) | Self::Remove(path) | Self::Move(path, _)) = self;
        path.rsplit_once('/').map_or("", |(parent, _)| parent)
    }

    fn apply(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            Self::Add(path, node) => drop(names.insert(path.clone(), *node)),
            Self::Remove(path) => drop(names.remove(path)),
            Self::Move(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

/// How much of what was not synced the power failure leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kept {
    /// Nothing.
    Synced,
    /// Everything, as when only the kernel fails.
    All,
    /// Some writes and not others, whatever their order.
    Writes,
    /// Some blocks of some writes.
    Blocks,
}

/// The state of a disk at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    files: Vec<FileState>,
    names: BTreeMap<String, Node>,
    durable_names: BTreeMap<String, Node>,
    pending_names: Vec<Naming>,
    /// Syncs that have begun: what each will cover.
    syncs: BTreeMap<u64, Covered>,
}

#[derive(Clone, Debug)]
enum Covered {
    File(usize, usize),
    Directory(String, usize),
}

impl Disk {
    /// A disk that holds what is in this directory.
    pub(crate) fn of(directory: &Path) -> Self {
        let mut disk = Self::default();
        disk.load(directory, "");
        disk.durable_names = disk.names.clone();
        disk
    }

    fn load(&mut self, directory: &Path, name: &str) {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{name}/{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                self.names.insert(path.clone(), Node::Directory);
                self.load(&entry.path(), &path);
            } else {
                self.names.insert(path, Node::File(self.files.len()));
                self.files.push(FileState {
                    durable: fs::read(entry.path()).unwrap(),
                    ..FileState::default()
                });
            }
        }
    }

    /// Takes an event into account.
    pub(crate) fn see(&mut self, event: &Event) {
        let offset = usize::try_from(event.offset).unwrap();
        match event.kind {
            'W' => self.change(&event.path, Change::Write(offset, event.data.clone())),
            'T' => self.change(&event.path, Change::Truncate(offset)),
            'C' => {
                self.files.push(FileState::default());
                let node = Node::File(self.files.len() - 1);
                self.name(Naming::Add(event.path.clone(), node));
            }
            'M' => self.name(Naming::Add(event.path.clone(), Node::Directory)),
            'U' => self.name(Naming::Remove(event.path.clone())),
            'R' => {
                let to = String::from_utf8(event.data.clone()).unwrap();
                self.name(Naming::Move(event.path.clone(), to));
            }
            'B' => {
                let covered = match self.names.get(&event.path) {
                    Some(Node::File(id)) => {
                        let file = &self.files[*id];
                        Covered::File(*id, file.settled + file.pending.len())
                    }
                    _ => Covered::Directory(event.path.clone(), self.pending_names.len()),
                };
                self.syncs.insert(event.offset, covered);
            }
            'S' => match self.syncs.remove(&event.offset).unwrap() {
                Covered::File(id, end) => {
                    let file = &mut self.files[id];
                    while file.settled < end {
                        let change = file.pending.pop_front().unwrap();
                        change.apply(&mut file.durable);
                        file.settled += 1;
                    }
                }
                Covered::Directory(directory, end) => {
                    let end = end.min(self.pending_names.len());
                    let (mut left, mut at) = (Vec::new(), 0);
                    for naming in self.pending_names.drain(..) {
                        if at < end && naming.directory() == directory {
                            naming.apply(&mut self.durable_names);
                        } else {
                            left.push(naming);
                        }
                        at += 1;
                    }
                    self.pending_names = left;
                }
            },
            _ => {}
        }
    }

    fn change(&mut self, path: &str, change: Change) {
        // A file without a name is lost anyway.
        if let Some(Node::File(id)) = self.names.get(path) {
            self.files[*id].pending.push_back(change);
        }
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.pending_names.push(naming);
    }

    /// Writes into an empty directory what may be left of this disk.
    pub(crate) fn fail_power(&self, kept: Kept, dice: &mut Dice, directory: &Path) {
        let percent = 10 + dice.below(81);
        let mut names = self.durable_names.clone();
        // Names are journaled: of those made later none is kept without the earlier ones.
        let names_kept = match kept {
            Kept::Synced => 0,
            Kept::All => self.pending_names.len(),
            Kept::Writes | Kept::Blocks => dice.below(self.pending_names.len() + 1),
        };
        for naming in &self.pending_names[..names_kept] {
            naming.apply(&mut names);
        }
        for (name, node) in &names {
            let path = directory.join(name.trim_start_matches('/'));
            match node {
                Node::Directory => fs::create_dir_all(path).unwrap(),
                Node::File(id) => {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, self.files[*id].left(kept, percent, dice)).unwrap();
                }
            }
        }
    }
}

impl FileState {
    fn left(&self, kept: Kept, percent: usize, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.durable.clone();
        for change in &self.pending {
            match (kept, change) {
                (Kept::Synced, _) => {}
                (Kept::All, change) => change.apply(&mut content),
                (Kept::Blocks, Change::Write(offset, data)) => {
                    let mut at = 0;
                    while at < data.len() {
                        let end = data.len().min(at + BLOCK - (offset + at) % BLOCK);
                        if dice.below(100) < percent {
                            Change::Write(offset + at, data[at..end].to_vec()).apply(&mut content);
                        }
                        at = end;
                    }
                }
                (Kept::Blocks | Kept::Writes, change) => {
                    if dice.below(100) < percent {
                        change.apply(&mut content);
                    }
                }
            }
        }
        content
    }
}
