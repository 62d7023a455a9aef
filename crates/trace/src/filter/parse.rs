//! Reads the filter language: words, then a descent over `or`, `and`, `not` and conditions.

use std::fmt;
use std::net::IpAddr;

use super::{ETHERTYPE_NAMES, FLAG_NAMES, Node, PROTO_NAMES, Side, TCP, UDP};

/// The longest text that is read, in bytes.
const MAX_TEXT: usize = 4096;
/// How deep parentheses and `not` may nest.
const MAX_DEPTH: usize = 32;

/// A filter that was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// The byte of the text at which it stopped making sense, from 0; the text's length if the text ended too soon.
    pub at: usize,
    /// What stands there; empty if the text ended.
    pub found: String,
    /// What could have stood there, with an example of how to write it.
    pub expected: String,
}

impl FilterError {
    /// The text with a mark under what was not understood, and the message: three lines for people.
    pub fn explain(&self, text: &str) -> String {
        let before = text.get(..self.at).unwrap_or(text);
        let marks = self.found.chars().count().max(1);
        let mut blank: String = before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        blank.extend(std::iter::repeat_n('^', marks));
        format!("{text}\n{blank}\n{self}")
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filter, byte {}: ", self.at)?;
        if self.found.is_empty() {
            write!(f, "the text ends where it needs {}", self.expected)
        } else {
            write!(f, "found `{}`, expected {}", self.found, self.expected)
        }
    }
}

impl std::error::Error for FilterError {}

pub(super) fn parse(text: &str) -> Result<Node, FilterError> {
    if text.len() > MAX_TEXT {
        let expected = format!("the end: a filter has at most {MAX_TEXT} bytes");
        return Err(FilterError { at: MAX_TEXT, found: "more".to_string(), expected });
    }
    let mut parser = Parser { text, words: words(text), next: 0 };
    let root = parser.any(0)?;
    match parser.peek() {
        None => Ok(root),
        Some(")") => parser.fail("`and`, `or`, or the end: no parenthesis is open here"),
        Some(_) => parser.fail("`and`, `or`, or the end"),
    }
}

/// Where the words begin and end: parentheses, `!`, `&&` and `||` stand for themselves, all else goes up to a blank.
fn words(text: &str) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let len = match c {
            '(' | ')' | '!' => 1,
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            _ if text[at..].starts_with("&&") || text[at..].starts_with("||") => 2,
            _ => word_len(&text[at..]),
        };
        words.push((at, at + len));
        at += len;
    }
    words
}

fn word_len(text: &str) -> usize {
    let ends = |i: usize, c: char| {
        c.is_whitespace() || matches!(c, '(' | ')') || text[i..].starts_with("&&") || text[i..].starts_with("||")
    };
    text.char_indices().find(|&(i, c)| ends(i, c)).map_or(text.len(), |(i, _)| i)
}

struct Parser<'a> {
    text: &'a str,
    words: Vec<(usize, usize)>,
    next: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).map(|&(from, to)| &self.text[from..to])
    }

    /// True, and the word is taken, if the next word is one of these, in either case.
    fn take(&mut self, wanted: &[&str]) -> bool {
        let found = self.peek().is_some_and(|word| wanted.iter().any(|w| word.eq_ignore_ascii_case(w)));
        self.next += usize::from(found);
        found
    }

    /// The error that the next word is not what was expected.
    fn fail<T>(&self, expected: &str) -> Result<T, FilterError> {
        let (from, to) = self.words.get(self.next).copied().unwrap_or((self.text.len(), self.text.len()));
        Err(FilterError { at: from, found: self.text[from..to].to_string(), expected: expected.to_string() })
    }

    /// `all or all or …`
    fn any(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut nodes = vec![self.all(depth)?];
        while self.take(&["or", "||"]) {
            nodes.push(self.all(depth)?);
        }
        Ok(flat(nodes, Node::Any, |node| match node {
            Node::Any(nodes) => Ok(nodes),
            node => Err(node),
        }))
    }

    /// `one and one and …`
    fn all(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut nodes = vec![self.one(depth)?];
        while self.take(&["and", "&&"]) {
            nodes.push(self.one(depth)?);
        }
        Ok(flat(nodes, Node::All, |node| match node {
            Node::All(nodes) => Ok(nodes),
            node => Err(node),
        }))
    }

    /// `not one`, `( any )`, or a condition.
    fn one(&mut self, depth: usize) -> Result<Node, FilterError> {
        let nests = |word: &str| matches!(word, "(" | "!") || word.eq_ignore_ascii_case("not");
        if depth >= MAX_DEPTH && self.peek().is_some_and(nests) {
            return self.fail("fewer parentheses: they and `not` nest at most 32 deep");
        }
        if self.take(&["not", "!"]) {
            return Ok(Node::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take(&["("]) {
            let node = self.any(depth + 1)?;
            return if self.take(&[")"]) { Ok(node) } else { self.fail("`)`, or `and` or `or` and another condition") };
        }
        self.condition()
    }

    fn condition(&mut self) -> Result<Node, FilterError> {
        if self.take(&["proto"]) {
            return self.proto().map(Node::Proto);
        }
        if self.take(&["ethertype"]) {
            return self.ethertype().map(Node::EtherType);
        }
        if self.take(&["flags"]) {
            return self.flags();
        }
        if let Some(&(_, proto)) = PROTO_NAMES.iter().find(|(name, _)| self.take(&[name])) {
            return self.after_proto(proto);
        }
        if let Some(&(_, ethertype)) = ETHERTYPE_NAMES.iter().find(|(name, _)| self.take(&[name])) {
            return Ok(Node::EtherType(ethertype));
        }
        self.sided()
    }

    /// `tcp port 80` says `tcp and port 80`, as people are used to.
    fn after_proto(&mut self, proto: u8) -> Result<Node, FilterError> {
        let upcoming = |i: usize| {
            let &(from, to) = self.words.get(self.next + i)?;
            Some(self.text[from..to].to_ascii_lowercase())
        };
        let port = match upcoming(0).as_deref() {
            Some("port") => true,
            Some("src" | "dst") => upcoming(1).as_deref() == Some("port"),
            _ => false,
        };
        if port && matches!(proto, TCP | UDP) {
            return Ok(Node::All(vec![Node::Proto(proto), self.sided()?]));
        }
        Ok(Node::Proto(proto))
    }

    /// What `src` and `dst` can stand before.
    fn sided(&mut self) -> Result<Node, FilterError> {
        let side = if self.take(&["src"]) {
            Side::Src
        } else if self.take(&["dst"]) {
            Side::Dst
        } else {
            Side::Either
        };
        if self.take(&["port"]) {
            return self.ports(side);
        }
        if self.take(&["net"]) {
            return self.net(side, "a prefix, such as `net 10.0.0.0/8`");
        }
        if self.take(&["host"]) {
            return self.host(side, "an address, such as `host 10.0.0.1`");
        }
        match (side, self.peek()) {
            (_, Some(word)) if word.contains('/') => {
                self.net(side, "a prefix, such as `10.0.0.0/8`, or a condition, such as `tcp`")
            }
            (Side::Either, _) => self.host(
                side,
                "a condition: host, net, port, src, dst, proto, tcp, udp, icmp, icmp6, ip, ip6, arp, ethertype, flags, \
                 not, or `(`",
            ),
            _ => self.host(side, "`host`, `net`, `port` or an address, such as `src port 80`"),
        }
    }

    fn host(&mut self, side: Side, expected: &str) -> Result<Node, FilterError> {
        let Some(host) = self.peek().and_then(|word| word.parse::<IpAddr>().ok()) else {
            return self.fail(expected);
        };
        self.next += 1;
        Ok(Node::Host(side, host.to_canonical()))
    }

    fn net(&mut self, side: Side, expected: &str) -> Result<Node, FilterError> {
        let Some((net, len)) = self.peek().and_then(prefix) else { return self.fail(expected) };
        let bits = if net.is_ipv4() { 32 } else { 128 };
        if len > bits {
            return self.fail(&format!("a prefix length from 0 to {bits}"));
        }
        let whole = masked(net, len);
        if whole != net {
            return self.fail(&format!("`{whole}/{len}`: the prefix has bits set behind its length"));
        }
        self.next += 1;
        Ok(Node::Net(side, net, len))
    }

    fn ports(&mut self, side: Side) -> Result<Node, FilterError> {
        let expected = "a port from 0 to 65535 or a range, such as `port 80` or `port 1000-1999`";
        let Some(word) = self.peek() else { return self.fail(expected) };
        let (low, high) = word.split_once('-').unwrap_or((word, word));
        let (Some(low), Some(high)) = (digits(low), digits(high)) else { return self.fail(expected) };
        let (Ok(low), Ok(high)) = (low.parse::<u16>(), high.parse::<u16>()) else { return self.fail(expected) };
        if low > high {
            return self.fail(&format!("the lower port first: `port {high}-{low}`"));
        }
        self.next += 1;
        Ok(Node::Port(side, low, high))
    }

    fn proto(&mut self) -> Result<u8, FilterError> {
        let expected = "an IP protocol: tcp, udp, icmp, icmp6 or a number from 0 to 255";
        let Some(word) = self.peek() else { return self.fail(expected) };
        let named = PROTO_NAMES.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|&(_, number)| number);
        let Some(proto) = named.or_else(|| digits(word)?.parse().ok()) else { return self.fail(expected) };
        self.next += 1;
        Ok(proto)
    }

    fn ethertype(&mut self) -> Result<u16, FilterError> {
        let number = self.peek().and_then(|word| match word.strip_prefix("0x").or(word.strip_prefix("0X")) {
            Some(hex) if !hex.starts_with('+') => u16::from_str_radix(hex, 16).ok(),
            Some(_) => None,
            None => digits(word)?.parse().ok(),
        });
        let Some(number) = number else {
            return self.fail("an EtherType from 0 to 0xffff, such as `ethertype 0x0806`");
        };
        self.next += 1;
        Ok(number)
    }

    fn flags(&mut self) -> Result<Node, FilterError> {
        let expected = "TCP flags: fin, syn, rst, psh, ack, urg, ece, cwr, such as `flags syn+ack` or `flags =syn`";
        let Some(word) = self.peek() else { return self.fail(expected) };
        let (exact, names) = match word.strip_prefix('=') {
            Some(names) => (true, names),
            None => (false, word),
        };
        let mut bits = 0;
        for name in names.split('+') {
            let Some(bit) = FLAG_NAMES.iter().position(|flag| name.eq_ignore_ascii_case(flag)) else {
                return self.fail(expected);
            };
            bits |= 1 << bit;
        }
        self.next += 1;
        Ok(Node::Flags { bits, exact })
    }
}

/// Joins parts of one sort into one flat list, so that `a and (b and c)` is `a and b and c`.
fn flat(nodes: Vec<Node>, join: fn(Vec<Node>) -> Node, split: fn(Node) -> Result<Vec<Node>, Node>) -> Node {
    let mut parts = Vec::new();
    for node in nodes {
        match split(node) {
            Ok(inner) => parts.extend(inner),
            Err(node) => parts.push(node),
        }
    }
    match <[Node; 1]>::try_from(parts) {
        Ok([node]) => node,
        Err(parts) => join(parts),
    }
}

/// The text if it is decimal digits and nothing else (`parse` alone would let a `+` pass).
fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// `10.0.0.0/8` as address and length; the length may still be too large. Of IPv6-mapped IPv4 prefixes, the IPv4 one.
fn prefix(word: &str) -> Option<(IpAddr, u8)> {
    let (net, len) = word.split_once('/')?;
    let (net, len): (IpAddr, u8) = (net.parse().ok()?, digits(len)?.parse().ok()?);
    match (net, net.to_canonical(), len) {
        (IpAddr::V6(_), IpAddr::V4(mapped), 96..=128) => Some((IpAddr::V4(mapped), len - 96)),
        _ => Some((net, len)),
    }
}

/// The address with all bits behind the first `len` cleared; `len` fits the family.
fn masked(net: IpAddr, len: u8) -> IpAddr {
    match net {
        IpAddr::V4(net) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            IpAddr::V4((net.to_bits() & mask).into())
        }
        IpAddr::V6(net) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            IpAddr::V6((net.to_bits() & mask).into())
        }
    }
}
