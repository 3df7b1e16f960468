//! Opening the files of an outbox, whose directory other users of the machine may know and prepare.
//!
//! Only what the user of the process has made is read, written or deleted. On Unix the directory must belong to
//! that user, and no other user may have the permission to write to it; a file must be a regular file of that user,
//! of a plausible size. Links are not followed, and opening a FIFO does not wait for its other end. The directories
//! above may be writable by other users, as `/tmp` is. On other systems only the type and the size of a file are
//! checked; the permissions of the directory are left to the administrator.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// The most bytes of a segment. A segment is full at 4 MiB, and ends with what is written at once.
pub(super) const MOST_SEGMENT: u64 = 64 << 20;
/// The most bytes of a file of acknowledgements.
pub(super) const MOST_ACKNOWLEDGED: u64 = 32 << 20;
/// The most bytes of a lock: it is empty.
pub(super) const MOST_LOCK: u64 = 4096;

/// The user whose files are used: that of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    #[cfg(unix)]
    user: u32,
}

impl Owner {
    /// The owner of a directory that this process has just created.
    pub(super) fn of_created(directory: &Path) -> io::Result<Self> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Ok(Self { user: std::fs::symlink_metadata(directory)?.uid() })
        }
        #[cfg(not(unix))]
        std::fs::symlink_metadata(directory).map(|_| Self {})
    }

    /// Checks the directory of an outbox that is configured. It may be a link, if this user or the
    /// administrator has made it.
    ///
    /// # Errors
    ///
    /// It is not this user's directory, or others may write to it: the error names the path and the remedy.
    pub(super) fn check_root(self, path: &Path) -> io::Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let found = std::fs::symlink_metadata(path)?;
            if found.is_symlink() {
                if found.uid() != self.user && found.uid() != 0 {
                    let problem = format!("is a link of user {}", found.uid());
                    return Err(refusal(
                        path,
                        &problem,
                        "remove it, or configure another directory",
                    ));
                }
                return self.check_metadata(path, &std::fs::metadata(path)?);
            }
        }
        self.check_directory(path)
    }

    /// Checks a directory within an outbox.
    ///
    /// # Errors
    ///
    /// As [`check_root`](Self::check_root); or it is a link.
    pub(super) fn check_directory(self, path: &Path) -> io::Result<()> {
        self.check_metadata(path, &std::fs::symlink_metadata(path)?)
    }

    fn check_metadata(self, path: &Path, found: &std::fs::Metadata) -> io::Result<()> {
        if !found.is_dir() {
            let remedy = "remove it, or configure another directory";
            return Err(refusal(path, "is not a directory", remedy));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            if found.uid() != self.user {
                let problem = format!("belongs to user {}, not to user {}", found.uid(), self.user);
                let remedy = "give it to that user (`chown`), or configure another directory";
                return Err(refusal(path, &problem, remedy));
            }
            if found.mode() & 0o022 != 0 {
                let problem = format!(
                    "can be written to by other users (mode {:04o})",
                    found.mode() & 0o7777
                );
                let remedy = "remove what is not the outbox's from it, then `chmod go-w` it; or configure \
                              a directory in it, which is then created for this user alone";
                return Err(refusal(path, &problem, remedy));
            }
        }
        Ok(())
    }

    /// Reads a file of at most `most` bytes.
    ///
    /// # Errors
    ///
    /// It is not a regular file of this user, or larger, or can't be read.
    pub(super) fn read(self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path, File::options().read(true), most)?;
        let mut bytes = Vec::with_capacity(file.metadata()?.len().min(most) as usize);
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Opens the lock of a directory.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub(super) fn open_lock(self, path: &Path) -> io::Result<File> {
        self.open(path, File::options().write(true), MOST_LOCK)
    }

    /// Opens a file to write at its end, which is created if it is missing.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); or it has another name as well, under which it may be another program's.
    pub(super) fn append(self, path: &Path, most: u64) -> io::Result<File> {
        let file = self.open(path, private_file().append(true).create(true), most)?;
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) > 1 {
            return Err(refusal(path, "is a hard link", "remove it"));
        }
        Ok(file)
    }

    fn open(self, path: &Path, options: &mut OpenOptions, most: u64) -> io::Result<File> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        }
        const REMEDY: &str = "it was not made by this program: remove it";
        let opened = options.open(path);
        #[cfg(unix)]
        let opened = opened.map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => refusal(path, "is a link", REMEDY),
            Some(libc::ENXIO) => refusal(path, "is not a regular file", REMEDY),
            _ => error,
        });
        let file = opened?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(refusal(path, "is not a regular file", REMEDY));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            if found.uid() != self.user {
                return Err(refusal(path, &format!("belongs to user {}", found.uid()), REMEDY));
            }
        }
        if found.len() > most {
            let problem =
                format!("has {} bytes, more than a file of an outbox can have", found.len());
            return Err(refusal(path, &problem, REMEDY));
        }
        Ok(file)
    }
}

fn refusal(path: &Path, problem: &str, remedy: &str) -> io::Error {
    let text = format!("{} {problem}: {remedy}", path.display());
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// Whether there is something by this name, a link too.
pub(super) fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

/// A file that only its owner may read: it holds personal data.
pub(super) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates a directory that only its owner may enter, and missing ones above it.
pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    private_builder().recursive(true).create(path)
}

/// As [`private_directory`], for one that must not exist yet.
pub(super) fn new_private_directory(path: &Path) -> io::Result<()> {
    private_builder().create(path)
}

fn private_builder() -> std::fs::DirBuilder {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Makes the names in a directory durable, on systems where that is possible.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}
