//! The lock of the control socket: of two daemons that are given the same socket, one has it.
//!
//! No other user can take the lock, since none may open its file; and none can put something else in its place, or in the place of the
//! socket, since none may write to the folder.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Why the lock is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("Another process has it: {0}")]
    Taken(PathBuf),
    /// The socket has no name.
    #[error("{0} names no file")]
    NoName(PathBuf),
    /// Others may write to the folder, or to one above it.
    #[error(
        "Other users may write to {folder} ({what}), so they could put a socket of their own in the place of director.socket: use a folder \
         that only root or the daemon's user may write to, such as /run/shunt"
    )]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Who may write.
        what: String,
    },
    /// Something else is where the lock's file should be.
    #[error("{file} is {what}: remove it")]
    File {
        /// The file.
        file: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The system refuses.
    #[error("{path}")]
    Io {
        /// What was to be opened.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Bits of a mode.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;
const ANY_ACCESS_OF_OTHERS: u32 = 0o077;

/// Takes the lock of a socket, whose folder is made if there is none. The lock lasts as long as the file is open.
pub(super) fn take(socket: &Path) -> Result<File, LockError> {
    let fail = |path: &Path, source| LockError::Io { path: path.into(), source };
    let name = socket.file_name().ok_or_else(|| LockError::NoName(socket.into()))?;
    let folder = match socket.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(|source| fail(folder, source))?;
    let folder = folder.canonicalize().map_err(|source| fail(folder, source))?;
    check_folders(&folder)?;

    // The whole name of the socket is in that of its lock, so that no two sockets share one.
    let mut file = std::ffi::OsString::from(".");
    file.push(name);
    file.push(".lock");
    let path = folder.join(file);
    let is = |what| Err(LockError::File { file: path.clone(), what });
    // A FIFO would have the call wait.
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let lock = match options.open(&path) {
        Ok(lock) => lock,
        Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => return is("a symbolic link"),
        Err(error) => return Err(fail(&path, error)),
    };
    let metadata = lock.metadata().map_err(|source| fail(&path, source))?;
    if !metadata.is_file() {
        return is("not a plain file");
    }
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return is("a file of another user, who could keep it locked");
    }
    if metadata.mode() & ANY_ACCESS_OF_OTHERS != 0 {
        return is("a file that other users may open, so they could keep it locked");
    }
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(LockError::Taken(path)),
        Err(TryLockError::Error(source)) => Err(fail(&path, source)),
    }
}

/// Refuses a folder that other users may write to, and folders above it that would let them rename it.
fn check_folders(folder: &Path) -> Result<(), LockError> {
    let ours = [0, nix::unistd::geteuid().as_raw()];
    for (level, folder) in folder.ancestors().enumerate() {
        let metadata = std::fs::metadata(folder).map_err(|source| LockError::Io { path: folder.into(), source })?;
        let refuse = |what| Err(LockError::Folder { folder: folder.into(), what });
        if !ours.contains(&metadata.uid()) {
            return refuse(format!("it belongs to user {}", metadata.uid()));
        }
        let mode = metadata.mode() & 0o7777;
        // In a sticky folder such as /tmp nobody can rename or remove what belongs to others.
        let bound = level > 0 && mode & STICKY != 0;
        if mode & WRITABLE_BY_OTHERS != 0 && !bound {
            return refuse(format!("its mode is {mode:04o}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn said(socket: &Path) -> String {
        take(socket).unwrap_err().to_string()
    }

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn each_socket_has_a_lock_of_its_own_and_of_one_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["lb.a", "lb.b", "lb", "lb.lock", ".lb.lock"];
        let locks: Vec<File> = names.iter().map(|name| take(&folder.path().join(name)).unwrap()).collect();
        for name in names {
            assert!(matches!(take(&folder.path().join(name)), Err(LockError::Taken(_))), "{name}");
        }
        for entry in folder.path().read_dir().unwrap().flatten() {
            assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "others cannot lock what they cannot open");
        }
        // What is left of a daemon that has ended is no lock.
        drop(locks);
        assert!(take(&folder.path().join("lb.a")).is_ok());
    }

    #[test]
    fn a_link_a_fifo_and_what_others_may_open_are_refused_and_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, lock) = (folder.path().join("lb"), folder.path().join(".lb.lock"));
        let precious = folder.path().join("precious");
        std::fs::write(&precious, "precious").unwrap();
        symlink(&precious, &lock).unwrap();
        assert!(said(&socket).ends_with(".lb.lock is a symbolic link: remove it"), "{}", said(&socket));
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");

        std::fs::remove_file(&lock).unwrap();
        nix::unistd::mkfifo(&lock, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(said(&socket).contains("not a plain file"));

        std::fs::remove_file(&lock).unwrap();
        std::fs::write(&lock, "kept").unwrap();
        mode(&lock, 0o644);
        assert!(said(&socket).contains("a file that other users may open"));
        mode(&lock, 0o600);
        drop(take(&socket).unwrap());
        assert_eq!(std::fs::read_to_string(&lock).unwrap(), "kept");
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        let socket = folder.join("deep/shuntd.sock");
        drop(take(&socket).unwrap());
        assert_eq!(folder.metadata().unwrap().mode() & 0o777, 0o755, "made so that others may not");
        let deep = folder.join("deep");
        for (path, wrong, good) in [(&deep, 0o777, 0o755), (&deep, 0o1777, 0o700), (&deep, 0o775, 0o755)] {
            mode(path, wrong);
            assert!(said(&socket).contains(&format!("its mode is {wrong:04o}")), "{}", said(&socket));
            mode(path, good);
            drop(take(&socket).unwrap());
        }
        mode(&folder, 0o777);
        assert!(said(&socket).contains("could put a socket of their own"));
        mode(&folder, 0o1777);
        drop(take(&socket).unwrap());
        if nix::unistd::geteuid().is_root() {
            nix::unistd::chown(&deep, Some(65_534.into()), None).unwrap();
            assert!(said(&socket).contains("it belongs to user 65534"), "{}", said(&socket));
        }
        assert!(matches!(take(Path::new("/")), Err(LockError::NoName(_))));
    }
}
