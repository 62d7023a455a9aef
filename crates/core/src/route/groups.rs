//! The multicast groups that this host is in, by interface.
//!
//! Joined and left by sockets, looked up by packets to groups. Messages of IGMP are not sent: routers hear of nothing,
//! the link's own traffic comes.
//!
//! Mirrors `ip_mc_inc_group`, `ip_mc_dec_group`, `ip_check_mc_rcu`.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

/// All hosts on the link (RFC 1112): the one group that every host is in.
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// Memberships of all sockets together; shared by all Cpus, and kept when the configuration changes.
#[derive(Debug, Default)]
pub struct Groups {
    /// How many sockets joined, by interface and group.
    users: RwLock<HashMap<(u16, Ipv4Addr), u32>>,
    /// Entries, readable without the lock.
    len: AtomicUsize,
}

impl Groups {
    /// Whether packets to the group that come by the interface are for this host.
    pub fn joined(&self, ifindex: u16, group: Ipv4Addr) -> bool {
        if group == ALL_HOSTS {
            return true;
        }
        if self.len.load(Ordering::Acquire) == 0 {
            return false;
        }
        self.users.read().unwrap_or_else(PoisonError::into_inner).contains_key(&(ifindex, group))
    }

    /// The groups that an interface is in.
    pub fn of(&self, ifindex: u16) -> Vec<Ipv4Addr> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let joined = users.keys().filter(|(joined, _)| *joined == ifindex).map(|(_, group)| *group);
        std::iter::once(ALL_HOSTS).chain(joined).collect()
    }

    /// One more socket is in the group. True if it is the first: the interface was not in it before.
    pub fn join(&self, ifindex: u16, group: Ipv4Addr) -> bool {
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        let count = users.entry((ifindex, group)).or_default();
        *count += 1;
        let first = *count == 1;
        self.len.store(users.len(), Ordering::Release);
        first
    }

    /// One socket less is in the group. True if it was the last.
    pub fn leave(&self, ifindex: u16, group: Ipv4Addr) -> bool {
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = users.get_mut(&(ifindex, group)) else { return false };
        *count -= 1;
        let last = *count == 0;
        if last {
            users.remove(&(ifindex, group));
        }
        self.len.store(users.len(), Ordering::Release);
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_to_leave_ends_the_membership() {
        let (groups, group) = (Groups::default(), Ipv4Addr::new(239, 1, 1, 1));
        assert!(groups.joined(1, ALL_HOSTS) && !groups.joined(1, group));
        assert!(groups.join(1, group));
        assert!(!groups.join(1, group));
        assert!(groups.joined(1, group) && !groups.joined(2, group));
        assert!(!groups.leave(1, group));
        assert!(groups.joined(1, group));
        assert!(groups.leave(1, group));
        assert!(!groups.leave(1, group));
        assert!(!groups.joined(1, group));
    }
}
