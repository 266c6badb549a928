//! Whom the command runs as.

use std::ffi::OsString;
use std::io;

use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::Error;

/// The user and group of the image, which exist on no host.
const ID_DEFAULT: u32 = 65_532;

/// Means "leave it as it is" to the calls that change owners, so nobody can be it.
const ID_RESERVED: u32 = u32::MAX;

/// A user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Identity {
    /// The identity that the environment asks for.
    ///
    /// # Errors
    /// [`Error::BadId`] for what is no number that a user or group can have.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let id = |name: &'static str| match variable(name).filter(|value| !value.is_empty()) {
            None => Ok(ID_DEFAULT),
            Some(value) => value
                .to_str()
                .and_then(|text| text.parse().ok())
                .filter(|id| *id != ID_RESERVED)
                .ok_or(Error::BadId { variable: name, value }),
        };
        Ok(Self { uid: id("VAYLIX_RUNTIME_UID")?, gid: id("VAYLIX_RUNTIME_GID")? })
    }

    /// Becomes it, for good, and leaves every other group. The process must have one thread, because the kernel changes threads
    /// one by one; this program starts no other.
    ///
    /// # Errors
    /// [`Error::Identity`] when the kernel refuses, as without the capabilities `SETUID` and `SETGID`.
    pub(crate) fn assume(self) -> Result<(), Error> {
        let refused = |what| move |source: rustix::io::Errno| Error::Identity { what, source: source.into() };
        // In this order: whoever is not root any more may not change groups.
        set_thread_groups(&[]).map_err(refused("leave the supplementary groups"))?;
        set_thread_gid(rustix::process::Gid::from_raw(self.gid)).map_err(refused("become the group"))?;
        set_thread_uid(rustix::process::Uid::from_raw(self.uid)).map_err(refused("become the user"))?;
        self.check()
    }

    /// Makes sure that the kernel did what it said: a server that still is root must not start.
    fn check(self) -> Result<(), Error> {
        use rustix::process::{getegid, geteuid, getgid, getuid};
        let is = [getuid().as_raw(), geteuid().as_raw()] == [self.uid; 2]
            && [getgid().as_raw(), getegid().as_raw()] == [self.gid; 2];
        let source = io::Error::other("the kernel agreed, and did not do it");
        if is { Ok(()) } else { Err(Error::Identity { what: "become the user and the group", source }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uid: Option<&str>, gid: Option<&str>) -> Result<Identity, String> {
        let value = |name: &str| if name == "VAYLIX_RUNTIME_UID" { uid } else { gid };
        Identity::read(|name| value(name).map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_says_who() {
        assert_eq!(read(None, None), Ok(Identity { uid: 65_532, gid: 65_532 }));
        assert_eq!(read(Some(""), Some("0")), Ok(Identity { uid: 65_532, gid: 0 }));
        assert_eq!(read(Some("1000"), None), Ok(Identity { uid: 1000, gid: 65_532 }));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in ["nobody", "-1", "1.0", " 1", "4294967295", "4294967296"] {
            let said = read(None, Some(bad)).unwrap_err();
            assert_eq!(said, format!("VAYLIX_RUNTIME_GID is not the number of a user or group: {bad:?}"));
        }
    }
}
