//! The ioctls of `/dev/net/tun` (`tuntap(4)`; `Documentation/networking/tuntap.rst`): numbers, the one structure, and
//! errors that name the mend.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl, opcode};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rxpath_wire::MacAddr;

const DEVICE: &str = "/dev/net/tun";

const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
const TUNSETPERSIST: Opcode = opcode::write::<i32>(b'T', 203);
const TUNSETOFFLOAD: Opcode = opcode::write::<u32>(b'T', 208);
const TUNSETVNETHDRSZ: Opcode = opcode::write::<i32>(b'T', 216);
const TUNSETVNETLE: Opcode = opcode::write::<i32>(b'T', 220);
/// `asm-generic/sockios.h`; the same on every architecture.
const SIOCGIFMTU: Opcode = 0x8921;
const SIOCGIFHWADDR: Opcode = 0x8927;

const IFF_TAP: i16 = 0x0002;
const IFF_MULTI_QUEUE: i16 = 0x0100;
const IFF_NO_PI: i16 = 0x1000;
const IFF_VNET_HDR: i16 = 0x4000;

const TUN_F_CSUM: usize = 1;
const TUN_F_TSO4: usize = 2;
const TUN_F_TSO6: usize = 4;

/// Longest interface name in bytes (`IFNAMSIZ` less the final zero).
pub(super) const NAME_MAX: usize = 15;

/// `struct ifreq`, at its largest: 40 bytes where pointers have 64 bits; where they have 32 the kernel reads the first
/// 32.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
struct IfReq {
    name: [u8; NAME_MAX + 1],
    value: [u8; 24],
}

impl IfReq {
    fn new(name: &str) -> IfReq {
        let mut req = IfReq { name: [0; NAME_MAX + 1], value: [0; 24] };
        for (to, from) in req.name[..NAME_MAX].iter_mut().zip(name.bytes()) {
            *to = from;
        }
        req
    }

    fn name(&self) -> String {
        let end = self.name.iter().position(|&byte| byte == 0).unwrap_or(self.name.len());
        String::from_utf8_lossy(&self.name[..end]).into_owned()
    }
}

/// Opens `/dev/net/tun`, non-blocking.
pub(super) fn open() -> io::Result<OwnedFd> {
    let nonblock = OFlags::NONBLOCK.bits() as i32;
    let file: File =
        OpenOptions::new().read(true).write(true).custom_flags(nonblock).open(DEVICE).map_err(|error| {
            let mend = match error.kind() {
                io::ErrorKind::NotFound => "not found: load the module (modprobe tun)",
                io::ErrorKind::PermissionDenied => {
                    "permission denied: run as root or in a user namespace (unshare -Ur), and see that the file \
                     may be read and written (chmod 666)"
                }
                _ => return with(error, DEVICE),
            };
            io::Error::new(error.kind(), format!("{DEVICE}: {mend}"))
        })?;
    Ok(file.into())
}

/// Attaches a queue to the interface `name`, which comes into being if it does not exist, and gives its name, in which
/// the kernel has replaced `%d`.
pub(super) fn attach(fd: impl AsFd, name: &str, multi_queue: bool, vnet_hdr: bool) -> io::Result<String> {
    let mut flags = IFF_TAP | IFF_NO_PI;
    if multi_queue {
        flags |= IFF_MULTI_QUEUE;
    }
    if vnet_hdr {
        flags |= IFF_VNET_HDR;
    }
    let mut req = IfReq::new(name);
    req.value[..2].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: TUNSETIFF takes and fills a `struct ifreq`, whatever size its number says; IfReq is no smaller.
    let update = unsafe { Updater::<TUNSETIFF, IfReq>::new(&mut req) };
    // SAFETY: as above; the request outlives the call.
    unsafe { ioctl(fd, update) }.map_err(|errno| {
        let mend = match errno {
            Errno::PERM => {
                "not allowed: run as root or in a user and network namespace (unshare -Urn); an interface that exists \
                 must belong to this user"
            }
            Errno::BUSY => "in use by another program: end it, or choose another name",
            Errno::INVAL => {
                "an interface of this name exists with other properties: delete it (ip link delete), or choose another \
                 name"
            }
            Errno::TOOBIG | Errno::NFILE => "too many queues (256 at most)",
            _ => return with(errno.into(), &format!("TAP {name}")),
        };
        io::Error::new(io::Error::from(errno).kind(), format!("TAP {name}: {mend}"))
    })?;
    Ok(req.name())
}

/// Lets the interface vanish when its last queue is closed.
pub(super) fn forget_when_closed(fd: impl AsFd) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes an integer, 0 or 1.
    let off = unsafe { IntegerSetter::<TUNSETPERSIST>::new_usize(0) };
    // SAFETY: as above.
    unsafe { ioctl(fd, off) }.map_err(|errno| with(errno.into(), "TUNSETPERSIST"))
}

/// Sets length and byte order of the header in front of each frame.
pub(super) fn set_vnet_header(fd: impl AsFd, len: i32) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads an int.
    let size = unsafe { Setter::<TUNSETVNETHDRSZ, i32>::new(len) };
    // SAFETY: as above.
    unsafe { ioctl(&fd, size) }.map_err(|errno| with(errno.into(), "TUNSETVNETHDRSZ"))?;
    // SAFETY: TUNSETVNETLE reads an int.
    let little = unsafe { Setter::<TUNSETVNETLE, i32>::new(1) };
    // SAFETY: as above.
    unsafe { ioctl(fd, little) }.map_err(|errno| with(errno.into(), "TUNSETVNETLE"))
}

/// Says what the kernel may leave to us: open checksums and TCP super-frames, or (`false`) nothing.
pub(super) fn set_offload(fd: impl AsFd, on: bool) -> io::Result<()> {
    let flags = if on { TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 } else { 0 };
    // SAFETY: TUNSETOFFLOAD takes an integer: a set of flags that are all defined.
    let offload = unsafe { IntegerSetter::<TUNSETOFFLOAD>::new_usize(flags) };
    // SAFETY: as above.
    unsafe { ioctl(fd, offload) }.map_err(|errno| with(errno.into(), "TUNSETOFFLOAD"))
}

/// Hardware address of the kernel's end of the cable.
pub(super) fn kernel_mac(fd: impl AsFd) -> io::Result<MacAddr> {
    let mut req = IfReq::new("");
    // SAFETY: on a queue of a TAP SIOCGIFHWADDR fills a `struct ifreq`.
    let update = unsafe { Updater::<SIOCGIFHWADDR, IfReq>::new(&mut req) };
    // SAFETY: as above; the request outlives the call.
    unsafe { ioctl(fd, update) }.map_err(|errno| with(errno.into(), "SIOCGIFHWADDR"))?;
    // Two bytes of address family, then the address.
    let mut mac = [0; 6];
    mac.copy_from_slice(&req.value[2..8]);
    Ok(MacAddr(mac))
}

/// Largest IP packet of the interface, in bytes.
pub(super) fn mtu(name: &str) -> io::Result<u32> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut req = IfReq::new(name);
    // SAFETY: SIOCGIFMTU takes and fills a `struct ifreq`.
    let update = unsafe { Updater::<SIOCGIFMTU, IfReq>::new(&mut req) };
    // SAFETY: as above; the request outlives the call.
    unsafe { ioctl(socket, update) }.map_err(|errno| with(errno.into(), &format!("MTU of {name}")))?;
    let mut mtu = [0; 4];
    mtu.copy_from_slice(&req.value[..4]);
    Ok(u32::from_ne_bytes(mtu))
}

/// Puts what was tried in front of an error.
fn with(error: io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
