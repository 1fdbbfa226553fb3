//! The account that commands run as, and how the runner becomes it.

use std::ffi::CString;

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setresgid, setresuid};

/// The user of commands, if the configuration names none.
const NOBODY: &str = "nobody";
/// Its number, where there is no such user (`/proc/sys/kernel/overflowuid`).
const KERNEL_NOBODY: u32 = 65_534;

/// A user without privileges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    uid: Uid,
    gid: Gid,
}

/// Why commands cannot run as a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// There is no such user.
    #[error("There is no user \"{0}\": make one with `useradd --system`, or name another one")]
    NoSuchUser(String),
    /// It has root's rights.
    #[error("User \"{0}\" is root, and commands run without privileges: name another user")]
    Root(String),
    /// Only root can become another user.
    #[error("Commands cannot run as \"{0}\": only root can become another user, and shuntd is not root")]
    NotRoot(String),
}

impl Account {
    /// The user that the configuration names, or nobody. `None`: where this process is not root, its own user.
    pub fn find(name: Option<&str>) -> Result<Option<Account>, AccountError> {
        let look_up = |name: &str| User::from_name(name).ok().flatten().map(|user| (user.uid, user.gid));
        Account::find_as(geteuid(), name, &look_up)
    }

    /// The same for a process of this user, where a name has these numbers.
    fn find_as(
        own: Uid,
        name: Option<&str>,
        look_up: &dyn Fn(&str) -> Option<(Uid, Gid)>,
    ) -> Result<Option<Account>, AccountError> {
        let wanted = name.unwrap_or(NOBODY);
        // A container may have no users; the kernel's nobody is there nevertheless. The runner is told the name, and finds the same.
        let kernel = (wanted == NOBODY).then(|| (Uid::from_raw(KERNEL_NOBODY), Gid::from_raw(KERNEL_NOBODY)));
        let found = look_up(wanted).or(kernel).ok_or_else(|| AccountError::NoSuchUser(wanted.into()));
        if own.is_root() {
            let (uid, gid) = found?;
            let name = wanted.to_owned();
            return if uid.is_root() { Err(AccountError::Root(name)) } else { Ok(Some(Account { name, uid, gid })) };
        }
        match name {
            Some(name) if found?.0 != own => Err(AccountError::NotRoot(name.into())),
            _ => Ok(None),
        }
    }

    /// Makes this process one of that user's, with its groups.
    fn enter(&self) -> nix::Result<()> {
        let name = CString::new(self.name.as_str()).unwrap_or_default();
        initgroups(&name, self.gid)?;
        setresgid(self.gid, self.gid, self.gid)?;
        setresuid(self.uid, self.uid, self.uid)
    }
}

/// Gives up what privileges this process has, for good: no program that it starts can get some, neither by its owner nor by its
/// capabilities.
pub(super) fn give_up_privileges(account: Option<&Account>) -> nix::Result<()> {
    prctl::set_no_new_privs()?;
    // A daemon that is not root may have been given capabilities to hand on.
    rustix::thread::clear_ambient_capability_set().map_err(|error| nix::Error::from_raw(error.raw_os_error()))?;
    account.map_or(Ok(()), Account::enter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_are_no_users_the_runner_finds_the_same_nobody_as_the_daemon() {
        let root = Uid::from_raw(0);
        for (numbers, expected) in [(None, KERNEL_NOBODY), (Some((Uid::from_raw(99), Gid::from_raw(99))), 99)] {
            let look_up = |name: &str| numbers.filter(|_| name == NOBODY);
            let daemon = Account::find_as(root, None, &look_up).unwrap().unwrap();
            assert_eq!((&*daemon.name, daemon.uid.as_raw(), daemon.gid.as_raw()), (NOBODY, expected, expected));
            assert_eq!(Account::find_as(root, Some(&daemon.name), &look_up), Ok(Some(daemon)));
        }
        let error = Account::find_as(root, Some("who-is-that"), &|_| None);
        assert_eq!(error, Err(AccountError::NoSuchUser("who-is-that".into())));
    }

    #[test]
    fn commands_run_as_a_user_that_is_there_and_is_not_root() {
        if !geteuid().is_root() {
            assert_eq!(Account::find(None), Ok(None));
            return;
        }
        assert_eq!(Account::find(None).unwrap().unwrap().name, "nobody");
        assert_eq!(Account::find(Some("daemon")).unwrap().unwrap().name, "daemon");
        for (name, says) in [("root", "is root"), ("who-is-that", "no user \"who-is-that\"")] {
            let error = Account::find(Some(name)).expect_err(name).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
