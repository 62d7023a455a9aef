//! A frame in one line, for reports.

use std::fmt::Write as _;

use rxpath_wire::{ArpPacket, EtherType, EthernetHeader, IpProto, Ipv4Header, MacAddr, UdpHeader, arp};

/// What a frame is, its addresses by their last bytes.
pub fn of(frame: &[u8]) -> String {
    let Some((ethernet, payload)) = EthernetHeader::parse(frame) else { return format!("{} bytes", frame.len()) };
    let mut text = format!("{}>{} ", short(ethernet.src()), short(ethernet.dst()));
    match ethernet.ethertype() {
        EtherType::ARP => arp_packet(&mut text, payload),
        EtherType::IPV4 => packet(&mut text, payload),
        other => drop(write!(text, "type {other:#06x}, {} bytes {}", payload.len(), hex(payload, 8))),
    }
    text
}

fn short(mac: MacAddr) -> String {
    let [.., link, last] = mac.0;
    if mac.is_broadcast() { "all".to_owned() } else { format!("{link:x}:{last:x}") }
}

/// The first bytes.
fn hex(bytes: &[u8], most: usize) -> String {
    let digits: String = bytes.iter().take(most).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > most { digits + "…" } else { digits }
}

fn arp_packet(text: &mut String, payload: &[u8]) {
    let Some((packet, _)) = ArpPacket::parse(payload) else {
        let _ = write!(text, "arp, {} bytes", payload.len());
        return;
    };
    let (sender, target) = (packet.sender_ip(), packet.target_ip());
    let (mac, asked) = (short(packet.sender_mac()), short(packet.target_mac()));
    let _ = match packet.operation() {
        arp::REQUEST => write!(text, "arp who has {target} ({asked})? {sender} at {mac}"),
        arp::REPLY => write!(text, "arp {sender} is at {mac}, to {target} at {asked}"),
        other => write!(text, "arp operation {other}: {sender} at {mac}, {target} at {asked}"),
    };
    if !packet.is_ipv4_over_ethernet() {
        let (hardware, lens) = (packet.hardware(), (packet.hardware_len(), packet.protocol_len()));
        let _ = write!(text, " (hardware {hardware}, protocol {:#06x}, lengths {lens:?})", packet.protocol());
    }
}

fn packet(text: &mut String, bytes: &[u8]) {
    let packet = bytes;
    let Some((header, _)) = Ipv4Header::parse(packet) else {
        let _ = write!(text, "IP, {} bytes {}", packet.len(), hex(packet, 8));
        return;
    };
    let _ = write!(text, "{} > {} ", header.src(), header.dst());
    let body = packet.get(header.header_len()..).unwrap_or_default();
    let _ = match header.protocol() {
        IpProto::ICMP if header.fragment_offset() == 0 => {
            let (kind, code) = (body.first().copied().unwrap_or(0), body.get(1).copied().unwrap_or(0));
            let _ = write!(text, "icmp {kind}/{code}");
            if [3, 4, 5, 11, 12].contains(&kind) && body.len() > 8 {
                let _ = write!(text, " {} [", hex(&body[4..8], 4));
                self::packet(text, &body[8..]);
                text.push(']');
            }
            Ok(())
        }
        IpProto::UDP if header.fragment_offset() == 0 && body.len() >= UdpHeader::LEN => {
            let word = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
            write!(text, "udp {} > {} length {} sum {:04x}", word(0), word(2), word(4), word(6))
        }
        protocol => write!(text, "proto {protocol}"),
    };
    let _ = write!(text, " len {} of {} ttl {} id {}", header.total_len(), packet.len(), header.ttl(), header.id());
    if header.version_ihl() != 0x45 {
        let options = packet.get(Ipv4Header::LEN..header.header_len()).unwrap_or_default();
        let _ = write!(text, " v{} ihl {} {}", header.version(), header.ihl(), hex(options, 40));
    }
    if header.tos() != 0 {
        let _ = write!(text, " tos {:#04x}", header.tos());
    }
    if header.fragment_word() != 0 {
        let flags = [(header.dont_fragment(), " df"), (header.more_fragments(), " mf")];
        flags.into_iter().filter(|&(set, _)| set).for_each(|(_, name)| text.push_str(name));
        let _ = write!(text, " at {}", header.fragment_offset());
    }
}

#[cfg(test)]
mod tests {
    use crate::twin::case::Peer;
    use crate::twin::frames::introduction;
    use crate::twin::generate::packets::{Packet, echo};

    use super::of;

    #[test]
    fn frames_are_told_in_a_line() {
        let peer = Peer { addr: [10, 9, 0, 2].into(), mac: [2, 0, 0, 0, 0, 2] };
        let asked = of(&introduction(&peer, [10, 9, 0, 1].into()));
        assert_eq!(asked, "0:2>all arp who has 10.9.0.1 (0:0)? 10.9.0.2 at 0:2");
        let packet = Packet { word: 0x2001, tos: 3, ..echo(8, 1, b"") };
        let text = of(&packet.frame());
        assert!(text.contains("10.9.0.2 > 10.9.0.1 proto 1 len 28 of 28 ttl 64"), "{text}");
        assert!(text.ends_with("tos 0x03 mf at 8"), "{text}");
        assert_eq!(of(&[0; 9]), "9 bytes");
    }
}
