//! Where the socket of some data is.

use std::fs::File;
use std::path::{Path, PathBuf};

use tutor_core::store::Location;

/// The longest path of a socket that every system takes, in bytes.
const MAX_PATH_BYTES: usize = 100;

/// The socket of a server that has this data for itself. `None` where others can use it too, or
/// where it is nowhere.
pub(super) fn socket(location: &Location) -> Option<PathBuf> {
    match location {
        Location::Sled(directory) => Some(directory.join("control.sock")),
        Location::Sqlite(file) => {
            let mut name = file.clone().into_os_string();
            name.push("-control.sock");
            Some(name.into())
        }
        _ => None,
    }
}

/// A path that is short enough, and what must stay open while it is used.
pub(super) fn short(path: &Path) -> std::io::Result<(PathBuf, Option<File>)> {
    if path.as_os_str().len() <= MAX_PATH_BYTES || !cfg!(target_os = "linux") {
        return Ok((path.to_owned(), None));
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = File::open(parent)?;
    let name = path.file_name().unwrap_or_default();
    let through = Path::new("/proc/self/fd")
        .join(descriptor(&directory))
        .join(name);
    Ok((through, Some(directory)))
}

fn descriptor(file: &File) -> String {
    use std::os::fd::AsRawFd;
    file.as_raw_fd().to_string()
}
