//! The directory of an outbox, which several processes may share.
//!
//! Each process has a directory of its own in it, and a lock on that directory as long as it runs:
//! the operating system releases the lock however the process ends. A directory whose lock is free
//! is abandoned. The process that gets the lock adopts it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::segment::{ACKNOWLEDGED, SEGMENT, private_directory, private_file, sync_directory};
use super::segment_log::files;
use crate::random;

/// The names in the directory of a process.
pub(super) const FEEDBACK: &str = "feedback";
pub(super) const SPANS: &str = "spans";
const LOCK: &str = "lock";
/// The name of the directory beside those of the processes.
pub(super) const REJECTED: &str = "rejected";

/// The directory of one process, locked.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    name: String,
    lock: File,
}

impl Directory {
    /// Creates a directory for this process in `root`, which is created if it is missing.
    pub(super) fn create(root: &Path) -> io::Result<Self> {
        private_directory(root)?;
        loop {
            let name = format!("{:016x}", random::number());
            let path = root.join(&name);
            private_directory(&path)?;
            let lock = private_file().write(true).create_new(true).open(path.join(LOCK))?;
            // Before the lock, another process may take the directory for abandoned, and remove it.
            match lock.try_lock() {
                Ok(()) if path.join(LOCK).exists() => {
                    sync_directory(root)?;
                    return Ok(Self { root: root.to_owned(), name, lock });
                }
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    remove(&path);
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

    /// Locks and returns the directories of processes that have ended.
    pub(super) fn abandoned(&self) -> io::Result<Vec<Abandoned>> {
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
            // Another process may adopt and remove it at the same moment.
            let Ok(lock) = File::options().write(true).open(path.join(LOCK)) else { continue };
            match lock.try_lock() {
                Ok(()) => abandoned.push(Abandoned { path, _lock: lock }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(abandoned)
    }

    /// Deletes rejected spans that are too old, and beyond `most` bytes the oldest.
    pub(super) fn trim_rejected(&self, most: u64, age: Duration) -> io::Result<()> {
        let mut segments = Vec::new();
        for path in files(&self.rejected(), SEGMENT)? {
            // Another process may have deleted the file.
            let Ok(metadata) = path.metadata() else { continue };
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
        remove(&self.path());
        let _ = self.lock.unlock(); // the end of the process releases it at the latest
    }
}

/// The directory of a process that has ended.
#[derive(Debug)]
pub(super) struct Abandoned {
    pub(super) path: PathBuf,
    _lock: File,
}

impl Abandoned {
    /// Removes the directory if it is empty.
    pub(super) fn remove(self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    for log in [FEEDBACK, SPANS] {
        let log = path.join(log);
        // Acknowledgements of segments that are gone.
        for acknowledged in files(&log, ACKNOWLEDGED).unwrap_or_default() {
            if !acknowledged.with_extension(SEGMENT).exists() {
                let _ = std::fs::remove_file(acknowledged);
            }
        }
        let _ = std::fs::remove_dir(log);
    }
    let is_empty = [FEEDBACK, SPANS].iter().all(|log| !path.join(log).exists());
    if is_empty {
        let _ = std::fs::remove_file(path.join(LOCK));
        let _ = std::fs::remove_dir(path);
    }
}
