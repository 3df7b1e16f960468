//! The file of a store: private when it is made, and noticed when it is gone.

use std::fs::{Metadata, OpenOptions, metadata};
use std::io;
use std::path::Path;

/// Makes the file if it is missing, readable and writable by its owner only: it holds what users wrote.
/// SQLite gives the files beside it the same mode. A file that exists keeps its mode.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

/// Which file is at a path: on Unix by device and inode, elsewhere only whether there is one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileIdentity(Option<(u64, u64)>);

impl FileIdentity {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        metadata(path).map(|found| Self(identity(&found)))
    }
}

#[cfg(unix)]
fn identity(file: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Option<(u64, u64)> {
    None
}
