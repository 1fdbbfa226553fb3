//! Lock files: what one process at a time may have, told by a file that it has locked (`flock`).
//!
//! The kernel takes the lock from a process that ends, however it ends; the file may stay and means nothing then. Only the file's owner may open
//! it, so no other user can hold the lock; a symbolic link in its place is not followed. The file has the holder's process id, for the
//! message that another one gets.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc::O_NOFOLLOW;

/// Who may open the file: its owner.
const MODE: u32 = 0o600;
/// How often a file is opened anew that went away, or was replaced, before it was locked.
const TRIES: usize = 16;

/// A lock that this process has, until the value is dropped or the process ends.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    file: File,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it, or this one by another value.
    #[error("{path} is locked by {}", holder(*pid))]
    Held {
        /// The file.
        path: PathBuf,
        /// The process, as the file says.
        pid: Option<u32>,
    },
    /// It cannot be made, opened or locked.
    #[error("The lock file {path} cannot be used: remove what is there, or see that this user may write to its folder")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A process in words.
pub fn holder(pid: Option<u32>) -> String {
    pid.map_or("another process".into(), |pid| format!("process {pid}"))
}

impl LockFile {
    /// Takes the lock, without waiting. Makes the file, but not its folder.
    pub fn take(path: &Path) -> Result<LockFile, LockError> {
        let fail = |source| LockError::Io { path: path.into(), source };
        for _ in 0..TRIES {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(MODE)
                .custom_flags(O_NOFOLLOW)
                .open(path)
                .map_err(fail)?;
            let metadata = file.metadata().map_err(fail)?;
            if !metadata.is_file() {
                return Err(fail(ErrorKind::AlreadyExists.into()));
            }
            if metadata.mode() & 0o777 & !MODE != 0 {
                // Other users may have it open, and could hold the lock.
                fs::remove_file(path).map_err(fail)?;
                continue;
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(LockError::Held { path: path.into(), pid: pid_in(&file) }),
                Err(TryLockError::Error(error)) => return Err(fail(error)),
            }
            let lock = LockFile { path: path.into(), file };
            // The last holder may have removed the file between the opening and the lock.
            if lock.is_at_its_path() {
                lock.sign();
                return Ok(lock);
            }
        }
        Err(fail(ErrorKind::ResourceBusy.into()))
    }

    fn is_at_its_path(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let (ours, there) = (self.file.metadata().map(identity), fs::symlink_metadata(&self.path).map(identity));
        matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
    }

    /// Writes the process id. Without it, the lock is as good.
    fn sign(&self) {
        let _ = self.file.set_len(0).and_then(|()| (&self.file).write_all(std::process::id().to_string().as_bytes()));
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // While it is still locked: who finds it gone makes a new one.
        if self.is_at_its_path() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn pid_in(mut file: &File) -> Option<u32> {
    let mut text = [0; 10];
    let len = file.read(&mut text).ok()?;
    std::str::from_utf8(&text[..len]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn one_value_has_a_lock_and_its_process_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let lock = LockFile::take(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        let error = LockFile::take(&path).unwrap_err();
        assert!(matches!(error, LockError::Held { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
        assert!(error.to_string().ends_with(&format!("is locked by process {}", std::process::id())), "{error}");
        let other = LockFile::take(&folder.path().join("b.lock")).unwrap();
        drop(lock);
        assert!(!path.exists());
        drop(LockFile::take(&path).unwrap());
        drop(other);
    }

    #[test]
    fn what_a_killed_process_leaves_is_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        for left in ["1", "", "no process", "4294967295999"] {
            fs::write(&path, left).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let lock = LockFile::take(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
            drop(lock);
        }
        // A holder that could not write its number.
        let lock = LockFile::take(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(LockFile::take(&path), Err(LockError::Held { pid: None, .. })));
        drop(lock);
    }

    #[test]
    fn a_file_that_others_may_open_is_replaced_though_one_of_them_has_locked_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let strangers = File::open(&path).unwrap();
        strangers.try_lock().unwrap();
        let lock = LockFile::take(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(matches!(LockFile::take(&path), Err(LockError::Held { .. })));
        drop(lock);
    }

    #[test]
    fn what_is_no_plain_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        symlink(&target, &link).unwrap();
        assert!(matches!(LockFile::take(&link), Err(LockError::Io { .. })));
        assert!(!target.exists(), "the link is not followed");
        fs::write(&target, "precious").unwrap();
        assert!(matches!(LockFile::take(&link), Err(LockError::Io { .. })));
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for other in [folder.path(), &pipe] {
            assert!(matches!(LockFile::take(other), Err(LockError::Io { .. })), "{}", other.display());
        }
        assert!(matches!(LockFile::take(&folder.path().join("no/folder")), Err(LockError::Io { .. })));
    }

    #[test]
    fn of_many_that_take_and_give_back_one_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let holders = std::sync::atomic::AtomicUsize::new(0);
        let order = std::sync::atomic::Ordering::SeqCst;
        let taken: usize = std::thread::scope(|scope| {
            let take = || {
                let mut taken = 0;
                for _ in 0..500 {
                    if let Ok(lock) = LockFile::take(&path) {
                        assert_eq!(holders.fetch_add(1, order), 0, "one at a time");
                        taken += 1;
                        holders.fetch_sub(1, order);
                        drop(lock);
                    }
                }
                taken
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(taken > 0);
    }
}
