//! The hook for programs that see frames before the stack does (XDP), with two doors.
//!
//! *Native*: in the driver's poll, frame by frame, before receive offload. *Generic*: behind receive offload, where the
//! packet enters the path; for devices or purposes that the native door does not suit. A [`Program`] is a function over
//! the frame ([`Frame`]) that gives an [`Action`]; it may rewrite the frame and move its ends.
//!
//! Mirrors `bpf_prog_run_xdp`, `do_xdp_generic`, `generic_xdp_tx`, `xdp_do_redirect`, `cpu_map_enqueue`.
//!
//! A program sees the linear part of a frame: all of it unless the frame came in several descriptors or was merged. There
//! is no metadata area in front of the frame (`bpf_xdp_adjust_meta`), and no BPF: programs are Rust.
//!
//! Neighbours: [`crate::napi`] opens the native door, `path` the generic one. A program that panics takes its softirq
//! with it, as any code of the application does that the stack calls.

mod frame;
mod program;
#[cfg(test)]
mod tests;

use rxpath_mem::{IpSummed, Skb};
use rxpath_trace::{DropReason, EventKind};
use rxpath_wire::{EthernetHeader, MacAddr};

pub use self::frame::Frame;
pub use self::program::{Action, Attached, Door, Program, Target};
use crate::cx::{Cx, Fate};
use crate::demux::eth_type_trans;
use crate::demux::stats::DevStat;
use crate::tx;

/// A packet that a program sent to a Cpu (`cpumap`): its EtherType is known, its owner is not.
#[derive(Debug)]
pub struct Redirected {
    /// The Cpu.
    pub cpu: u16,
    /// The packet, from its network header on.
    pub skb: Skb,
}

/// The native door: a frame as it came from the ring, from its link header on.
#[cold]
pub fn native(cx: &mut Cx, skb: Skb, ifindex: u16, mac: MacAddr) -> Fate<Skb> {
    let program = cx.net.interface(ifindex).and_then(|interface| interface.xdp.native.clone());
    match program {
        Some(program) => run(cx, skb, &program, Door::Native, ifindex, mac),
        None => Fate::Pass(skb),
    }
}

/// `do_xdp_generic`: a packet whose data starts at its network header.
#[cold]
pub fn do_xdp_generic(cx: &mut Cx, mut skb: Skb) -> Fate<Skb> {
    let ifindex = skb.ifindex;
    let Some((program, mac)) = cx
        .net
        .interface(ifindex)
        .and_then(|interface| interface.xdp.generic.clone().map(|program| (program, interface.mac)))
    else {
        return Fate::Pass(skb);
    };
    if skb.redirected() {
        return Fate::Pass(skb);
    }
    let (network_header, merged) = (usize::from(skb.network_off), skb.gso_size > 0);
    let pulled = skb.data_offset().saturating_sub(network_header) + EthernetHeader::LEN;
    if network_header < EthernetHeader::LEN || !skb.unpull(pulled) {
        return Fate::Drop(skb, DropReason::Xdp);
    }
    if merged {
        // What `CHECKSUM_PARTIAL` stands for: whoever sends the packet fills the checksum in.
        skb.ip_summed = IpSummed::Partial;
    }
    let skb = match run(cx, skb, &program, Door::Generic, ifindex, mac) {
        Fate::Pass(skb) => skb,
        ended => return ended,
    };
    read_link_header(cx, skb, ifindex, mac)
}

/// The link header as the program left it.
fn read_link_header(cx: &mut Cx, mut skb: Skb, ifindex: u16, mac: MacAddr) -> Fate<Skb> {
    if !eth_type_trans(cx, &mut skb, ifindex, mac) {
        return Fate::Drop(skb, DropReason::DevHdr);
    }
    if skb.ip_summed == IpSummed::Partial {
        skb.ip_summed = IpSummed::Unnecessary;
    }
    Fate::Pass(skb)
}

/// Runs a program and does what it says.
fn run(cx: &mut Cx, mut skb: Skb, program: &Program, door: Door, ifindex: u16, mac: MacAddr) -> Fate<Skb> {
    if !skb.make_writable(&mut cx.pool) {
        return Fate::Drop(skb, DropReason::Nomem);
    }
    let action = program.run(&mut Frame::new(&mut skb, ifindex));
    cx.event(&skb, EventKind::Xdp, action.number(), door as u32);
    let decided = match action {
        Action::Tx if may_leave(cx, &skb, ifindex) => Action::Redirect(Target::Device(ifindex)),
        Action::Redirect(Target::Device(to)) if may_leave(cx, &skb, to) => action,
        Action::Redirect(Target::Cpu(cpu)) if cpu < cx.net.cpus => action,
        Action::Tx | Action::Redirect(_) => Action::Aborted,
        other => other,
    };
    // An order that cannot be carried out is the program's fault, as the kernel's tracepoint `xdp_exception` has it.
    let counted = if decided == Action::Aborted { decided } else { action };
    cx.dev.add(ifindex, counted.stat(), 1);
    match decided {
        Action::Pass => Fate::Pass(skb),
        Action::Redirect(Target::Device(to)) => {
            tx::xdp_xmit(cx, skb, to);
            Fate::Held
        }
        Action::Redirect(Target::Cpu(cpu)) => match read_link_header(cx, skb, ifindex, mac) {
            Fate::Pass(mut skb) => {
                skb.hash = 0;
                skb.set_redirected();
                cx.redirected.push(Redirected { cpu, skb });
                Fate::Held
            }
            ended => ended,
        },
        Action::Drop | Action::Aborted | Action::Tx => Fate::Drop(skb, DropReason::Xdp),
    }
}

/// Whether a frame can be sent as it is by an interface.
fn may_leave(cx: &Cx, skb: &Skb, ifindex: u16) -> bool {
    let Some(interface) = cx.net.interface(ifindex) else { return false };
    let fits = skb.len() <= usize::from(interface.mtu) + EthernetHeader::LEN || skb.gso_size > 0;
    let offloaded = skb.gso_size == 0 || interface.features.tso;
    fits && offloaded && skb.len() >= EthernetHeader::LEN
}

impl Action {
    /// Where it is counted.
    fn stat(self) -> DevStat {
        match self {
            Action::Aborted => DevStat::XdpAborted,
            Action::Drop => DevStat::XdpDrop,
            Action::Pass => DevStat::XdpPass,
            Action::Tx => DevStat::XdpTx,
            Action::Redirect(_) => DevStat::XdpRedirect,
        }
    }
}
