//! One value of the file, read by the form that its key takes.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use rxpath_core::sysctl::nearest;
use rxpath_trace::Selector;
use rxpath_wire::MacAddr;
use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeValue};

use super::cidr::Cidr;
use super::keys::{Form, Key};

/// A value that fits its form.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Mac(MacAddr),
    /// Each with its place in the file.
    Cidrs(Vec<(Cidr, Range<usize>)>),
    /// Pairs: from, to.
    Priorities(Vec<(u8, u8)>),
    Network(Cidr),
    Address(IpAddr),
    Listen(SocketAddr),
    Number(u64),
    Switch(bool),
    Share(f64),
    Selector(Selector),
}

/// Why a value does not fit.
pub(super) struct Misfit {
    pub span: Range<usize>,
    /// What is wrong with it, following the value; nothing if it is of another kind altogether.
    pub why: Option<String>,
}

/// Longest part of a value that an error shows, in characters.
const SHOWN: usize = 40;

/// Reads a value by its key's form (which is no table: tables have keys of their own).
pub(super) fn value(form: Form, given: &Spanned<DeValue<'_>>, text: &str) -> Result<Value, Misfit> {
    let span = given.span();
    let misfit = |why: String| Misfit { span: span.clone(), why: Some(why) };
    let other_kind = || Misfit { span: span.clone(), why: None };
    match (form, given.get_ref()) {
        (Form::Cidrs, DeValue::Array(items)) => {
            items.iter().map(host_address).collect::<Result<_, _>>().map(Value::Cidrs)
        }
        (Form::Priorities { from, to }, DeValue::Array(items)) => {
            items.iter().map(|item| priorities(item, (from, to))).collect::<Result<_, _>>().map(Value::Priorities)
        }
        (Form::Switch, DeValue::Boolean(switch)) => Ok(Value::Switch(*switch)),
        (Form::Number { least, most }, DeValue::Integer(number)) => match unsigned(number) {
            Some(number) if (least..=most).contains(&number) => Ok(Value::Number(number)),
            _ => Err(misfit("is out of range".to_owned())),
        },
        (Form::PowerOfTwo { least, most }, DeValue::Integer(number)) => match unsigned(number) {
            Some(number) if !(least..=most).contains(&number) => Err(misfit("is out of range".to_owned())),
            Some(number) if number.is_power_of_two() => Ok(Value::Number(number)),
            _ => Err(misfit("is no power of two".to_owned())),
        },
        (Form::Rate, DeValue::Integer(number)) => {
            unsigned(number).map(Value::Number).ok_or_else(|| misfit("is out of range".to_owned()))
        }
        (Form::Share, DeValue::Integer(number)) => share(unsigned(number).map(|number| number as f64)).map_err(misfit),
        (Form::Share, DeValue::Float(number)) => share(float(number)).map_err(misfit),
        (_, DeValue::String(given)) => {
            from_text(form, given, || filter_start(text, &span, given)).map_err(|wrong| match wrong {
                Wrong::Kind => other_kind(),
                Wrong::Value(why) => misfit(why),
                Wrong::At(byte, why) => Misfit { span: byte..byte, why: Some(why) },
            })
        }
        _ => Err(other_kind()),
    }
}

/// A pair of priorities in the form of ip-link, FROM:TO, within these bounds.
fn priorities(item: &Spanned<DeValue<'_>>, most: (u8, u8)) -> Result<(u8, u8), Misfit> {
    let misfit = |why: &str| Misfit { span: item.span(), why: Some(why.to_owned()) };
    let DeValue::String(text) = item.get_ref() else { return Err(Misfit { span: item.span(), why: None }) };
    let pair = text.split_once(':').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let (from, to): (u8, u8) = pair.ok_or_else(|| misfit("is no pair of priorities"))?;
    if from > most.0 || to > most.1 { Err(misfit("has a priority that there is not")) } else { Ok((from, to)) }
}

/// The sentence that tells of a misfit: the value, what is wrong with it, what the key takes, and an example.
pub(super) fn sentence(key: &Key, misfit: &Misfit, text: &str) -> String {
    let why = misfit.why.as_deref().unwrap_or("does not fit");
    if misfit.span.is_empty() {
        // A place within a value: the reason says what stands there and what could.
        return why.to_owned();
    }
    let shown = shown(text.get(misfit.span.clone()).unwrap_or_default());
    format!("{shown} {why}: {} takes {}, as in {} = {}", key.name, key.form.describe(), key.name, key.example)
}

/// The beginning of a value, on one line.
fn shown(value: &str) -> String {
    let line = value.lines().next().unwrap_or_default();
    let cut = line.len() < value.trim_end().len() || line.chars().count() > SHOWN;
    let kept: String = line.chars().take(SHOWN).filter(|c| !c.is_control()).collect();
    if cut { format!("{kept}…") } else { kept }
}

enum Wrong {
    /// A text is not what the key takes.
    Kind,
    /// What is wrong with the text.
    Value(String),
    /// What is wrong at this byte of the file.
    At(usize, String),
}

fn from_text(form: Form, text: &str, start: impl FnOnce() -> Option<usize>) -> Result<Value, Wrong> {
    let wrong = |why: &str| Wrong::Value(why.to_owned());
    match form {
        Form::Name => name(text).map(Value::Text).map_err(Wrong::Value),
        Form::Choice(words) => match words.iter().find(|word| **word == text) {
            Some(word) => Ok(Value::Text((*word).to_owned())),
            None => Err(Wrong::Value(match nearest(text, words.iter().copied()) {
                Some(near) => format!("is unknown (did you mean {near:?}?)"),
                None => "is unknown".to_owned(),
            })),
        },
        Form::Mac => match text.parse::<MacAddr>() {
            Ok(mac) if mac.is_multicast() => Err(wrong("is a multicast address")),
            Ok(mac) if mac == MacAddr::from([0; 6]) => Err(wrong("is nobody's address")),
            Ok(mac) => Ok(Value::Mac(mac)),
            Err(_) => Err(wrong("is no hardware address")),
        },
        Form::Destination if text == "default" => Ok(Value::Network(Cidr::ALL_V4)),
        Form::Destination => match text.parse::<Cidr>() {
            Ok(cidr) if cidr.addr().is_ipv6() => Err(wrong("is IPv6, which this stack does not speak")),
            Ok(cidr) if cidr.network() != cidr => {
                Err(Wrong::Value(format!("has host bits set (the network is {})", cidr.network())))
            }
            Ok(cidr) => Ok(Value::Network(cidr)),
            Err(error) => Err(Wrong::Value(error.to_string())),
        },
        Form::Address => match text.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => Err(wrong("is IPv6, which this stack does not speak")),
            Ok(addr) => Ok(Value::Address(addr)),
            Err(_) => Err(wrong("is no address")),
        },
        Form::Listen => listen(text).map(Value::Listen).map_err(wrong),
        Form::Rate => rate(text).map(Value::Number).map_err(wrong),
        Form::SocketPath => match text.len() {
            0 => Err(wrong("is empty")),
            108.. => Err(wrong("is too long for a socket")),
            _ if text.contains('\0') => Err(wrong("holds a zero byte")),
            _ => Ok(Value::Text(text.to_owned())),
        },
        Form::Selector => match text.parse::<Selector>() {
            Ok(Selector::OneIn(0)) => Err(wrong("chooses no packet (write \"off\")")),
            Ok(selector) => Ok(Value::Selector(selector)),
            Err(error) => Err(match start() {
                Some(start) => {
                    let found =
                        if error.found.is_empty() { "the end".to_owned() } else { format!("`{}`", error.found) };
                    Wrong::At(start + error.at, format!("found {found} where {} is expected", error.expected))
                }
                None => Wrong::Value(format!("is no filter ({error})")),
            }),
        },
        _ => Err(Wrong::Kind),
    }
}

/// Where the contents of a one-line text begin in the file, if the file has them as they are (no escapes).
fn filter_start(text: &str, span: &Range<usize>, contents: &str) -> Option<usize> {
    let raw = text.get(span.clone())?;
    let inner = raw.get(1..raw.len().checked_sub(1)?)?;
    (inner == contents).then_some(span.start + 1)
}

/// As Linux names interfaces: up to 15 bytes, no slash, no space, not `.` or `..`. Letters beyond ASCII, which Linux
/// would take, are left out: they cannot be told apart in a log.
fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match text.len() {
        0 => Err("is empty".to_owned()),
        16.. => Err(format!("has {} bytes", text.len())),
        _ if matches!(text, "." | "..") => Err("is no name".to_owned()),
        _ => match text.chars().find(|c| !fits(*c)) {
            Some(c) => Err(format!("holds {c:?}")),
            None => Ok(text.to_owned()),
        },
    }
}

/// An interface's own address: one that a host can have.
fn host_address(item: &Spanned<DeValue<'_>>) -> Result<(Cidr, Range<usize>), Misfit> {
    let span = item.span();
    let misfit = |why: Option<String>| Misfit { span: span.clone(), why };
    let DeValue::String(text) = item.get_ref() else { return Err(misfit(None)) };
    let cidr: Cidr = text.parse().map_err(|error: super::ParseCidrError| misfit(Some(error.to_string())))?;
    let IpAddr::V4(addr) = cidr.addr() else {
        return Err(misfit(Some("is IPv6, which this stack does not speak".to_owned())));
    };
    let wrong = if addr.is_unspecified() || addr.octets()[0] == 0 {
        "is no host's address"
    } else if addr.is_multicast() {
        "is a multicast address"
    } else if addr.is_loopback() {
        "is a loopback address, which never leaves a host"
    } else if addr.is_broadcast() || cidr.broadcast() == Some(addr) {
        "is its network's broadcast address"
    } else if cidr.prefix() <= 30 && cidr.network() == cidr {
        "is its network's own address"
    } else {
        return Ok((cidr, span));
    };
    Err(misfit(Some(wrong.to_owned())))
}

fn listen(text: &str) -> Result<SocketAddr, &'static str> {
    match text.parse::<SocketAddr>() {
        Ok(SocketAddr::V6(_)) => Err("is IPv6, which this stack does not speak"),
        Ok(addr) if addr.port() == 0 => Err("has port 0, which nobody can knock on"),
        Ok(addr) => Ok(addr),
        Err(_) if text.parse::<IpAddr>().is_ok() => Err("has no port"),
        Err(_) => Err("is no address with a port"),
    }
}

/// A number with a unit as tc(8) writes it.
fn rate(text: &str) -> Result<u64, &'static str> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit.trim_start() {
        "" | "bit" => 1,
        "kbit" => 1_000,
        "mbit" => 1_000_000,
        "gbit" => 1_000_000_000,
        _ => return Err("has an unknown unit"),
    };
    let number: u64 = number.parse().map_err(|_| "is no rate")?;
    number.checked_mul(factor).ok_or("is out of range")
}

fn share(number: Option<f64>) -> Result<Value, String> {
    match number {
        Some(share) if (0.0..=1.0).contains(&share) => Ok(Value::Share(share)),
        _ => Err("is out of range".to_owned()),
    }
}

fn unsigned(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn float(number: &DeFloat<'_>) -> Option<f64> {
    number.as_str().parse().ok()
}
