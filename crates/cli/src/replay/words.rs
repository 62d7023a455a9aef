//! Fates in words.

use rxpath::capture::{Link, Notes};
use rxpath_sim::replay::{Fate, Told, Unfed};

/// A fate in a word or two, for a column: `dropped`.
pub fn name(fate: Fate) -> &'static str {
    match fate {
        Fate::Delivered => "delivered",
        Fate::Consumed(_) => "consumed",
        Fate::Dropped(_) => "dropped",
        Fate::NotFollowed => "flow not followed",
        Fate::Held(_) => "held",
        Fate::Outbound => "sent by this host",
        Fate::Unfed(_) => "not fed",
    }
}

/// What makes it that fate, by a short name: the kernel's of a drop reason.
pub fn reason(fate: Fate) -> Option<String> {
    match fate {
        Fate::Consumed(how) => Some(how.name().to_owned()),
        Fate::Dropped(reason) => Some(reason.name().to_owned()),
        Fate::Held(holder) => Some(holder.name().to_owned()),
        Fate::Unfed(why) => Some(unfed(why)),
        Fate::Delivered | Fate::NotFollowed | Fate::Outbound => None,
    }
}

/// What it means.
pub fn describe(fate: Fate) -> String {
    match fate {
        Fate::Delivered => "an application read it to its end".to_owned(),
        Fate::Consumed(how) => format!("it {}", how.describe()),
        Fate::Dropped(reason) => reason.describe().to_owned(),
        Fate::NotFollowed => "its TCP connection began before the capture, or was refused here".to_owned(),
        Fate::Held(holder) => format!("in the {} when the capture ended", holder.name()),
        Fate::Outbound => "evidence, not input".to_owned(),
        Fate::Unfed(why) => meaning(why).to_owned(),
    }
}

fn unfed(why: Unfed) -> String {
    match why {
        Unfed::TooShort => "cut too short to follow".to_owned(),
        Unfed::LinkType(number) => Link::of(number).to_string(),
        Unfed::LinkPayload => "no network protocol".to_owned(),
        Unfed::NoInterface => "unknown interface".to_owned(),
        Unfed::Network(0x86dd) => "IPv6".to_owned(),
        Unfed::Network(ethertype) => format!("EtherType {ethertype:#06x}"),
        Unfed::Transport(2) => "IGMP".to_owned(),
        Unfed::Transport(17) => "UDP".to_owned(),
        Unfed::Transport(136) => "UDP-Lite".to_owned(),
        Unfed::Transport(protocol) => format!("IP protocol {protocol}"),
    }
}

fn meaning(why: Unfed) -> &'static str {
    match why {
        Unfed::TooShort => "even its headers were not captured whole",
        Unfed::LinkType(_) => "a link type that cannot be read",
        Unfed::LinkPayload => "what follows its link header is no network protocol",
        Unfed::NoInterface => "the capture does not describe its interface",
        Unfed::Transport(17) => {
            "nothing tells whether this host had the port open: name its sockets, as services or with --listen"
        }
        Unfed::Network(_) | Unfed::Transport(_) => "a protocol that the kernel has and rxpath has not",
    }
}

/// What became of a packet, in a sentence.
pub fn sentence(told: &Told) -> String {
    let fate = told.fate;
    let mut text = match (name(fate), reason(fate)) {
        (name, None) => format!("{name} ({})", describe(fate)),
        (name, Some(reason)) => format!("{name}: {reason}, {}", describe(fate)),
    };
    if let Some(other) = told.other {
        text.push_str(&format!(" (packet {other})"));
    }
    for note in notes(told.notes) {
        text.push_str("; ");
        text.push_str(note);
    }
    text
}

/// What was made up for, in words.
pub fn notes(notes: Notes) -> impl Iterator<Item = &'static str> {
    Notes::ALL.into_iter().filter(move |(note, _)| notes.contains(*note)).map(|(_, words)| words)
}

#[cfg(test)]
mod tests {
    use rxpath_trace::{Consumed, DropReason, Holder};

    use super::*;

    #[test]
    fn every_fate_has_words() {
        let fates = [
            (Fate::Delivered, "delivered", None),
            (Fate::Consumed(Consumed::AckOnly), "consumed", Some("bare ACK")),
            (Fate::Dropped(DropReason::TcpCsum), "dropped", Some("TCP_CSUM")),
            (Fate::NotFollowed, "flow not followed", None),
            (Fate::Held(Holder::OutOfOrder), "held", Some("out-of-order queue")),
            (Fate::Outbound, "sent by this host", None),
            (Fate::Unfed(Unfed::Transport(17)), "not fed", Some("UDP")),
            (Fate::Unfed(Unfed::LinkType(147)), "not fed", Some("link type 147")),
        ];
        for (fate, word, why) in fates {
            assert_eq!((name(fate), reason(fate).as_deref()), (word, why));
            assert!(describe(fate).len() > 10, "{fate:?}");
        }
    }
}
