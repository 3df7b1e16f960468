//! The directory of an outbox, which several processes may share.
//!
//! Each process has a directory of its own in it, and a lock on that directory as long as it runs:
//! the operating system releases the lock however the process ends. A directory whose lock is free
//! is abandoned. The process that gets the lock adopts it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::{
    Owner, exists, new_private_directory, private_directory, private_file, sync_directory,
};
use super::segment::{ACKNOWLEDGED, SEGMENT};
use super::segment_log::files_in;
use crate::otlp::Signal;
use crate::random;

/// The names in the directory of a process.
pub(super) const FEEDBACK: &str = "feedback";
pub(super) const SPANS: &str = "spans";
const LOCK: &str = "lock";
/// The names of the directories beside those of the processes.
pub(super) const REJECTED: &str = "rejected";
const LOGS: &str = "logs";

/// The directory of the processes' directories, in that of the whole outbox. Log records have their own: a
/// program that doesn't know them would remove the lock of a directory in which only they are left.
pub(super) fn root(outbox: &Path, signal: Signal) -> PathBuf {
    match signal {
        Signal::Traces => outbox.to_owned(),
        Signal::Logs => outbox.join(LOGS),
    }
}

/// The directory of one process, locked.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    name: String,
    owner: Owner,
    lock: File,
}

impl Directory {
    /// Creates a directory for this process in `root`, which is created if it is missing.
    ///
    /// # Errors
    ///
    /// `root` is not this user's, or others may write to it; or it can't be created or written to.
    pub(super) fn create(root: &Path) -> io::Result<Self> {
        private_directory(root)?;
        loop {
            let name = format!("{:016x}", random::number());
            let path = root.join(&name);
            new_private_directory(&path)?;
            let owner = Owner::of_created(&path)?;
            if let Err(error) = owner.check_root(root) {
                let _ = std::fs::remove_dir(&path);
                return Err(error);
            }
            let lock = private_file().write(true).create_new(true).open(path.join(LOCK))?;
            // Before the lock, another process may take the directory for abandoned, and remove it.
            match lock.try_lock() {
                Ok(()) if exists(&path.join(LOCK)) => {
                    sync_directory(root)?;
                    return Ok(Self { root: root.to_owned(), name, owner, lock });
                }
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    remove(&path, owner);
                    return Err(error);
                }
            }
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The directory of the rejected spans of all processes.
    pub(super) fn rejected(&self) -> PathBuf {
        self.root.join(REJECTED)
    }

    /// The user whose files are used.
    pub(super) fn owner(&self) -> Owner {
        self.owner
    }

    /// Locks and returns the directories of processes that have ended. `refused` is called with a directory
    /// that is not used, and why.
    ///
    /// # Errors
    ///
    /// The directory of all processes can't be read any more, or others may write to it now.
    pub(super) fn abandoned(
        &self,
        mut refused: impl FnMut(PathBuf, io::Error),
    ) -> io::Result<Vec<Abandoned>> {
        self.owner.check_root(&self.root)?;
        let mut abandoned = Vec::new();
        for entry in std::fs::read_dir(&self.root)?.filter_map(Result::ok) {
            let name = entry.file_name();
            let is_other = name.to_str().is_some_and(|name| {
                name.len() == 16
                    && name.bytes().all(|byte| byte.is_ascii_hexdigit())
                    && name != self.name
            });
            if !is_other {
                continue;
            }
            let path = entry.path();
            let lock = self
                .owner
                .check_directory(&path)
                .and_then(|()| self.owner.open_lock(&path.join(LOCK)));
            let lock = match lock {
                Ok(lock) => lock,
                // Another process may adopt and remove it at the same moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    refused(path, error);
                    continue;
                }
            };
            match lock.try_lock() {
                Ok(()) => abandoned.push(Abandoned { path, owner: self.owner, _lock: lock }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(abandoned)
    }

    /// Deletes rejected spans that are too old, and beyond `most` bytes the oldest.
    pub(super) fn trim_rejected(&self, most: u64, age: Duration) -> io::Result<()> {
        let mut segments = Vec::new();
        self.owner.check_directory(&self.rejected())?;
        for path in files_in(&self.rejected(), SEGMENT)? {
            // Another process may have deleted the file.
            let Ok(metadata) = path.symlink_metadata() else { continue };
            segments.push((metadata.modified()?, metadata.len(), path));
        }
        segments.sort();
        let mut bytes: u64 = segments.iter().map(|(_, length, _)| length).sum();
        for (modified, length, path) in segments {
            let is_old = modified.elapsed().is_ok_and(|since| since > age);
            if is_old || bytes > most {
                bytes -= length;
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Removes the directory if it is empty, and leaves it to other processes otherwise.
    pub(super) fn leave(&self) {
        remove(&self.path(), self.owner);
        let _ = self.lock.unlock(); // the end of the process releases it at the latest
    }
}

/// The directory of a process that has ended.
#[derive(Debug)]
pub(super) struct Abandoned {
    pub(super) path: PathBuf,
    owner: Owner,
    _lock: File,
}

impl Abandoned {
    /// Removes the directory if it is empty.
    pub(super) fn remove(self) {
        remove(&self.path, self.owner);
    }
}

fn remove(path: &Path, owner: Owner) {
    for log in [FEEDBACK, SPANS] {
        let log = path.join(log);
        if owner.check_directory(&log).is_err() {
            continue;
        }
        // Acknowledgements of segments that are gone.
        for acknowledged in files_in(&log, ACKNOWLEDGED).unwrap_or_default() {
            if !exists(&acknowledged.with_extension(SEGMENT)) {
                let _ = std::fs::remove_file(acknowledged);
            }
        }
        let _ = std::fs::remove_dir(log);
    }
    let is_empty = [FEEDBACK, SPANS].iter().all(|log| !exists(&path.join(log)));
    if is_empty {
        let _ = std::fs::remove_file(path.join(LOCK));
        let _ = std::fs::remove_dir(path);
    }
}
