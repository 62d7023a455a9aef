//! Queues by number, as sockets know them (`SO_INCOMING_NAPI_ID`).

use rxpath_trace::PacketId;

/// The least number; the kernel keeps lower ones for its Cpus.
pub const MIN_NAPI_ID: u32 = 8_193;

/// The queue that a packet came by; None if it was made here.
#[inline(always)]
pub fn napi_id(packet: PacketId) -> Option<u32> {
    (!packet.is_made() && !packet.is_none()).then(|| MIN_NAPI_ID + packet.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_know_the_queue_that_they_came_by() {
        assert_eq!(napi_id(PacketId::of_ring(3, 17)), Some(8_196));
        assert_eq!((napi_id(PacketId::of_cpu(3, 17)), napi_id(PacketId::NONE)), (None, None));
    }
}
