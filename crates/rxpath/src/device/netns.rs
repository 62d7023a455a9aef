//! A private network namespace, made by system calls alone: no `ip`, no `unshare`, no set-up.
//!
//! - [`enter_private`] puts the calling process (as root: at least the calling thread) where nobody else's interfaces
//!   are, and where it may make its own.
//! - [`private_child`] starts another process in such a place.
//! - [`Rtnl`] brings interfaces up and gives them addresses, routes and neighbours.
//! - [`set_sysctl`] writes the namespace's `net.*` sysctls.
//!
//! A user namespace can only be entered by a process of one thread: [`enter_private`] comes first thing in `main`, and
//! threads that are started later are inside too. A program that has threads already starts a process inside
//! ([`private_child`]), itself as a rule.
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! use std::net::Ipv4Addr;
//! use rxpath::device::{netns, tap::{Tap, TapConfig}};
//!
//! netns::enter_private()?;
//! let tap = Tap::open(TapConfig::default())?;
//! let mut rtnl = netns::Rtnl::open()?;
//! rtnl.add_address(tap.name(), Ipv4Addr::new(10, 9, 0, 2), 24)?;
//! rtnl.set_up(tap.name())?;
//! # Ok(()) }
//! ```
//!
//! The namespace vanishes with the last process in it.

mod netlink;
pub mod sockopt;

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

pub use netlink::{Refusal, Rtnl};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Leaves the network namespace for a fresh one in which there is only a loopback interface, which is brought up.
///
/// Root enters a network namespace alone, with the calling thread and the threads that it starts from then on. Others
/// (and a root without `CAP_SYS_ADMIN`) enter a user namespace with it, in which they are root and their user and group
/// are the only ones mapped; the process must have one thread.
///
/// # Errors
/// Says what stands in the way and the mend: other threads (`InvalidInput`), user namespaces switched off
/// (`PermissionDenied`), the limit of namespaces reached (`StorageFull`).
pub fn enter_private() -> io::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    let alone = if uid.is_root() { unshare(UnshareFlags::NEWNET) } else { Err(Errno::PERM) };
    match alone {
        Ok(()) => {}
        Err(Errno::PERM) => {
            unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET).map_err(refused)?;
            map_ids(uid.as_raw(), gid.as_raw())?;
        }
        Err(errno) => return Err(refused(errno)),
    }
    Rtnl::open()?.set_up("lo")
}

/// Makes `command` start its program as root of a fresh user namespace with a fresh network namespace, whatever threads
/// the caller has.
///
/// The loopback interface is down there; the program may call [`enter_private`], which root can with any number of threads.
///
/// # Errors
/// None here; starting the command gives `InvalidInput`, `PermissionDenied` or `StorageFull`, as [`enter_private`] but
/// without the mend.
pub fn private_child(command: &mut Command) -> &mut Command {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let (uid_map, gid_map) = (format!("0 {uid} 1\n"), format!("0 {gid} 1\n"));
    let enter = move || -> io::Result<()> {
        unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET)?;
        let files =
            [(c"/proc/self/setgroups", "deny"), (c"/proc/self/uid_map", &*uid_map), (c"/proc/self/gid_map", &*gid_map)];
        for (path, value) in files {
            let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(&file, value.as_bytes())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls alone: it allocates nothing, takes no lock, and uses
    // no state of other threads.
    unsafe { command.pre_exec(enter) }
}

/// Writes a sysctl of the calling thread's network namespace, by its dotted name, such as
/// `net.ipv4.conf.tap0.rp_filter`. Interface names that contain dots are not supported.
///
/// # Errors
/// `InvalidInput` for a name outside `net.`; `NotFound` without such a sysctl; what the kernel says to the value.
pub fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    let parts = || name.split('.');
    let plain = |part: &str| !part.is_empty() && !part.contains('/');
    if parts().next() != Some("net") || !parts().all(plain) {
        let what = format!("sysctl {name:?}: only those of the network namespace, net.…, can be set");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let path: PathBuf = ["/proc/sys"].into_iter().chain(parts()).collect();
    write(&path.to_string_lossy(), value)
}

fn unshare(what: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: unsafe only for UnshareFlags::FILES, which no caller passes.
    unsafe { unshare_unsafe(what) }
}

/// Makes the caller root in its new user namespace. `setgroups` must be given up first (`user_namespaces(7)`).
fn map_ids(uid: u32, gid: u32) -> io::Result<()> {
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {uid} 1\n"))?;
    write("/proc/self/gid_map", &format!("0 {gid} 1\n"))
}

fn write(path: &str, value: &str) -> io::Result<()> {
    std::fs::write(path, value).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}

/// Why there is no namespace, and what to do.
fn refused(errno: Errno) -> io::Error {
    let mend = match errno {
        Errno::INVAL => {
            "the process has other threads: enter before the first one is started, start a process inside \
             (netns::private_child), or run as root"
        }
        Errno::PERM | Errno::ACCESS => {
            "not allowed: run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, and on Ubuntu \
             kernel.apparmor_restrict_unprivileged_userns=0)"
        }
        Errno::NOSPC | Errno::USERS => {
            "too many namespaces: raise user.max_user_namespaces and user.max_net_namespaces"
        }
        Errno::NOSYS => "this kernel has no network namespaces (CONFIG_NET_NS, CONFIG_USER_NS)",
        _ => "",
    };
    let error = io::Error::from(errno);
    let colon = if mend.is_empty() { "" } else { ": " };
    io::Error::new(error.kind(), format!("private network namespace: {error}{colon}{mend}"))
}
