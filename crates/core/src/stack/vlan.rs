//! VLAN devices of a running stack: made and taken away (`ip link add link … type vlan`, `ip link del`).
//!
//! An index is given once: that of a device that is gone stays empty, as packets may still bear it.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use rxpath_trace::Time;

use super::build::{ADDED_MAX, BuildError, VlanConfig};
use super::{Stack, lock};
use crate::demux::Vlans;
use crate::neigh;
use crate::netns::NetConfig;

impl Stack {
    /// Makes a VLAN device, with its addresses and the routes that follow from them; gives its index. Each Cpu sees it with
    /// its next softirq run.
    ///
    /// # Errors
    /// [`BuildError::Vlan`] says what does not fit, [`BuildError::Fib`] which address.
    pub fn add_vlan(&self, vlan: &VlanConfig) -> Result<u16, BuildError> {
        self.change_interfaces(|changed| {
            let interface = vlan.interface(&changed.interfaces)?;
            let ifindex = interface.ifindex;
            if usize::from(ifindex) > self.0.rows {
                let what = format!("{ADDED_MAX} VLAN devices were made since the stack began: no more are");
                return Err(BuildError::Vlan(vlan.name.clone(), what));
            }
            changed.interfaces.push(interface);
            let added = vlan.addresses.iter().try_for_each(|own| changed.fib.add_address(ifindex, own));
            added.map_err(|error| {
                changed.fib.remove_interfaces(&[ifindex], &changed.interfaces[..usize::from(ifindex) - 1]);
                BuildError::Fib(error)
            })?;
            Ok(ifindex)
        })
    }

    /// Takes a VLAN device away, with its addresses, the routes that lead by it and what is known of its neighbours; those
    /// that stand on it go, too. False if there is no VLAN device of this name.
    pub fn remove_vlan(&self, name: &str, now: Time) -> bool {
        let mut gone = Vec::new();
        let removed = self.change_interfaces(|changed| {
            let found = changed.interfaces.iter().find(|interface| interface.vlan.is_some() && interface.name == name);
            gone.push(found.map(|interface| interface.ifindex).ok_or(())?);
            // One stands on another that was there before it.
            for interface in &changed.interfaces {
                if interface.vlan.is_some_and(|vlan| gone.contains(&vlan.parent)) {
                    gone.push(interface.ifindex);
                }
            }
            for interface in changed.interfaces.iter_mut().filter(|interface| gone.contains(&interface.ifindex)) {
                interface.leave();
            }
            changed.fib.remove_interfaces(&gone, &changed.interfaces);
            Ok::<(), ()>(())
        });
        let Some(cell) = self.0.cpus.first().filter(|_| removed.is_ok()) else { return false };
        let mut guard = lock(&cell.token);
        self.begin(cell, &mut guard, now);
        for neighbour in self.neighbours().iter().filter(|neighbour| gone.contains(&neighbour.ifindex)) {
            neigh::remove(&mut guard.cx, neighbour.ifindex, neighbour.addr);
        }
        for (ifindex, addr) in self.proxy_neighbours().into_iter().filter(|(ifindex, _)| gone.contains(ifindex)) {
            self.set_proxy_neighbour(ifindex, addr, false);
        }
        self.end(cell, &mut guard);
        let mut wakeups = std::mem::take(&mut guard.cx.wakeups);
        drop(guard);
        wakeups.deliver();
        true
    }

    /// Changes the interfaces, and the routes with them, unless that fails.
    fn change_interfaces<T, E>(&self, change: impl FnOnce(&mut NetConfig) -> Result<T, E>) -> Result<T, E> {
        let mut net = self.0.net.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = NetConfig::clone(&net);
        let done = change(&mut changed)?;
        changed.vlans = Vlans::of(&changed.interfaces);
        changed.apply_sysctls();
        changed.generation = net.generation + 1;
        *net = Arc::new(changed);
        self.0.generation.fetch_add(1, Ordering::Release);
        Ok(done)
    }
}
