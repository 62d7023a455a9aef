//! A peer that signs by hand: written from the RFCs, apart from what it tests.

use aes::Aes128;
use cmac::Cmac;
use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use rxpath_wire::{Addr, SeqNum, TcpFlags, TcpRepr, ipv4, tcp as wire_tcp};
use sha1::Sha1;

use super::lab::{Lab, PEER, Sent, US};

/// Where the TCP header of a frame begins, and its options.
const TCP: usize = 34;
const OPTIONS: usize = TCP + 20;

/// Puts an option of whole words before all others.
fn insert(frame: &[u8], option: &[u8]) -> Vec<u8> {
    let mut signed = [&frame[..OPTIONS], option, &frame[OPTIONS..]].concat();
    let total_len = (signed.len() - 14) as u16;
    signed[16..18].copy_from_slice(&total_len.to_be_bytes());
    ipv4::fill_checksum(&mut signed[14..TCP]);
    signed[TCP + 12] += (option.len() / 4 * 16) as u8;
    signed
}

fn close(mut frame: Vec<u8>) -> Vec<u8> {
    wire_tcp::fill_checksum(Addr::from(PEER), Addr::from(US), &mut frame[TCP..]);
    frame
}

fn header_len(frame: &[u8]) -> usize {
    usize::from(frame[TCP + 12] >> 4) * 4
}

/// Pseudo-header and fixed header, checksum zero.
fn headers(frame: &[u8]) -> Vec<u8> {
    let len = (frame.len() - TCP) as u16;
    let mut bytes = frame[26..34].to_vec();
    bytes.extend([0, 6]);
    bytes.extend(len.to_be_bytes());
    bytes.extend(&frame[TCP..TCP + 16]);
    bytes.extend([0, 0]);
    bytes.extend(&frame[TCP + 18..OPTIONS]);
    bytes
}

/// RFC 2385 section 2.0.
fn md5_of(frame: &[u8], key: &[u8]) -> [u8; 16] {
    let payload = &frame[TCP + header_len(frame)..];
    Md5::digest([&headers(frame), payload, key].concat()).into()
}

/// A frame of the peer with a signature of RFC 2385.
pub fn md5_frame(lab: &mut Lab, repr: TcpRepr, payload: &[u8], key: &[u8]) -> Vec<u8> {
    let mut frame = insert(&lab.frame(repr, payload), &[&[1, 1, 19, 18][..], &[0; 16]].concat());
    let digest = md5_of(&frame, key);
    frame[OPTIONS + 4..OPTIONS + 20].copy_from_slice(&digest);
    close(frame)
}

/// A signed segment from the peer, delivered and processed.
pub fn md5_segment(lab: &mut Lab, repr: TcpRepr, payload: &[u8], key: &[u8]) {
    let frame = md5_frame(lab, repr, payload, key);
    lab.put(&frame);
    lab.run();
}

/// The next segment that the stack sent, which is signed.
pub fn expect_md5(lab: &mut Lab, flags: TcpFlags, key: &[u8]) -> Sent {
    let (sent, frame) = lab.sent_as_frame().unwrap_or_else(|| panic!("nothing was sent where {flags:?} was expected"));
    assert_eq!(sent.flags, flags, "{sent:?}");
    assert!(is_md5(&frame, key), "the signature is right");
    sent
}

/// Whether a frame carries a right signature of RFC 2385, before all other options.
pub fn is_md5(frame: &[u8], key: &[u8]) -> bool {
    frame[OPTIONS..OPTIONS + 4] == [1, 1, 19, 18] && frame[OPTIONS + 4..OPTIONS + 20] == md5_of(frame, key)
}

/// A peer with a master key tuple.
#[derive(Clone, Copy)]
pub struct AoPeer {
    pub secret: &'static [u8],
    pub aes: bool,
    pub mac_len: usize,
    pub exclude_options: bool,
    /// The peer's number of the key, and the one that it asks for.
    pub key_id: u8,
    pub rnext: u8,
    /// Initial sequence numbers of the peer and of the stack.
    pub isns: (SeqNum, SeqNum),
    /// Extensions of what the peer sends and of what it receives.
    pub sne: (u32, u32),
}

impl AoPeer {
    pub fn new(secret: &'static [u8], key_id: u8, rnext: u8) -> AoPeer {
        let isns = (SeqNum(0), SeqNum(0));
        AoPeer { secret, aes: false, mac_len: 12, exclude_options: false, key_id, rnext, isns, sne: (0, 0) }
    }

    fn mac(&self, key: &[u8], message: &[u8]) -> Vec<u8> {
        if self.aes {
            let mut mac = <Cmac<Aes128> as Mac>::new_from_slice(key).expect("sixteen bytes");
            mac.update(message);
            return mac.finalize().into_bytes().to_vec();
        }
        let mut mac = <Hmac<Sha1> as Mac>::new_from_slice(key).expect("any length");
        mac.update(message);
        mac.finalize().into_bytes().to_vec()
    }

    /// RFC 5926 section 3.1.1, for the direction of a frame.
    fn traffic_key(&self, frame: &[u8]) -> Vec<u8> {
        let from_peer = frame[26..30] == PEER.octets();
        let flags = TcpFlags(frame[TCP + 13]);
        let (sisn, disn) = if from_peer { self.isns } else { (self.isns.1, self.isns.0) };
        let disn = if flags.syn() && !flags.ack() { SeqNum(0) } else { disn };
        let mut message = [&[1][..], b"TCP-AO", &frame[26..38]].concat();
        message.extend(sisn.0.to_be_bytes());
        message.extend(disn.0.to_be_bytes());
        message.extend(if self.aes { [0, 128] } else { [0, 160] });
        if self.aes && self.secret.len() != 16 {
            return self.mac(&self.mac(&[0; 16], self.secret), &message);
        }
        self.mac(self.secret, &message)
    }

    /// RFC 5925 section 5.1.
    fn code(&self, frame: &[u8]) -> Vec<u8> {
        let from_peer = frame[26..30] == PEER.octets();
        let sne = if from_peer { self.sne.0 } else { self.sne.1 };
        let mut message = [&sne.to_be_bytes()[..], &headers(frame)].concat();
        let end = TCP + header_len(frame);
        let mut options = frame[OPTIONS..end].to_vec();
        options[4..4 + self.mac_len].fill(0);
        message.extend(if self.exclude_options { &options[..4 + self.mac_len] } else { &options });
        message.extend(&frame[end..]);
        self.mac(&self.traffic_key(frame), &message)[..self.mac_len].to_vec()
    }

    pub fn frame(&self, lab: &mut Lab, repr: TcpRepr, payload: &[u8]) -> Vec<u8> {
        let mut option = vec![29, 4 + self.mac_len as u8, self.key_id, self.rnext];
        option.resize(4 + self.mac_len, 0);
        option.resize(option.len().next_multiple_of(4), 1);
        let mut frame = insert(&lab.frame(repr, payload), &option);
        let code = self.code(&frame);
        frame[OPTIONS + 4..OPTIONS + 4 + self.mac_len].copy_from_slice(&code);
        close(frame)
    }

    /// A signed segment, delivered and processed.
    pub fn segment(&self, lab: &mut Lab, repr: TcpRepr, payload: &[u8]) {
        let frame = self.frame(lab, repr, payload);
        lab.put(&frame);
        lab.run();
    }

    /// The next segment that the stack sent: signed with the key of which it is the peer, whose sequence number a SYN
    /// brings.
    pub fn expect(&mut self, lab: &mut Lab, flags: TcpFlags) -> Sent {
        let (sent, frame) =
            lab.sent_as_frame().unwrap_or_else(|| panic!("nothing was sent where {flags:?} was expected"));
        assert_eq!(sent.flags, flags, "{sent:?}");
        if flags.syn() {
            self.isns.1 = sent.seq;
        }
        assert!(self.signed(&frame), "the code is right: {:x?}", &frame[OPTIONS..]);
        sent
    }

    /// Whether a frame of the stack carries what it should, before all other options.
    pub fn signed(&self, frame: &[u8]) -> bool {
        let option = &frame[OPTIONS..OPTIONS + 4 + self.mac_len];
        option[..4] == [29, 4 + self.mac_len as u8, self.rnext, self.key_id] && option[4..] == self.code(frame)
    }
}
