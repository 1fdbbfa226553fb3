//! The lock of the control socket: of two daemons that are given the same socket, one has it.
//!
//! No other user can take the lock, since none may open its file; and none can put something else in its place, or in the place of the
//! socket, since none may write to the folder.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::base::lock_file::{self, LockFile};

/// Why the lock is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
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
    /// The folder cannot be made or looked at.
    #[error("The folder {path} cannot be used")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not to be had.
    #[error(transparent)]
    File(#[from] lock_file::LockError),
}

/// Bits of a mode.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Takes the lock of a socket, whose folder is made if there is none.
pub(super) fn take(socket: &Path) -> Result<LockFile, LockError> {
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
    Ok(LockFile::take(&folder.join(file))?)
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
    use std::os::unix::fs::PermissionsExt;

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
        let locks: Vec<LockFile> = names.iter().map(|name| take(&folder.path().join(name)).unwrap()).collect();
        for name in names {
            let error = take(&folder.path().join(name)).unwrap_err();
            assert!(matches!(error, LockError::File(lock_file::LockError::Held { .. })), "{name}: {error}");
        }
        for entry in folder.path().read_dir().unwrap().flatten() {
            assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "others cannot lock what they cannot open");
        }
        drop(locks);
        assert!(take(&folder.path().join("lb.a")).is_ok());
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
