//! The file of a store: private when it is made, and noticed when it is gone.

use std::fs::{Metadata, OpenOptions, metadata};
use std::io;
use std::path::Path;

/// Makes the file if it is missing, readable and writable by its owner only: it holds what users wrote.
/// SQLite gives the files beside it the same mode. A file that exists keeps its mode.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    if path == Path::new(":memory:") {
        return Ok(()); // SQLite's name for a store without a file, as tests have it
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

/// Which files a store is: the one at its path, and the write-ahead log beside it, which holds what was
/// written last.
#[derive(Debug)]
pub(super) struct StoreFiles {
    store: FileIdentity,
    log: Option<FileIdentity>,
}

/// On Unix by device and inode, elsewhere only that there is a file.
type FileIdentity = Option<(u64, u64)>;

impl StoreFiles {
    /// The files of an open store.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { store: identity(&metadata(path)?), log: log_of(path).ok() })
    }

    /// Whether they are still at their path. What is written to a file that was removed is gone with the
    /// process.
    ///
    /// # Errors
    ///
    /// They are not; the text says what to do.
    pub(super) fn check(&self, path: &Path) -> Result<(), String> {
        let found = metadata(path).map_err(|error| {
            format!("the file is gone ({error}): put it back, or restart the desk")
        })?;
        if identity(&found) != self.store {
            return Err("the file was replaced by another one: restart the desk".to_owned());
        }
        if found.len() == 0 {
            return Err(
                "the file was emptied: put a backup in its place, and restart the desk".to_owned()
            );
        }
        if self.log.is_some() && log_of(path).ok() != self.log {
            return Err("the write-ahead log (-wal) was removed or replaced, or the file was moved: restart \
                        the desk"
                .to_owned());
        }
        Ok(())
    }
}

/// The write-ahead log is beside the file itself, not beside a link to it.
fn log_of(path: &Path) -> io::Result<FileIdentity> {
    let mut log = path.canonicalize()?.into_os_string();
    log.push("-wal");
    metadata(log).map(|found| identity(&found))
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
