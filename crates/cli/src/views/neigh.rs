//! `rxpath neigh`: the words of `ip neigh`, what they ask for, and how it is printed.

use std::net::IpAddr;

use rxpath::Stack;
use rxpath::rxpath_core::neigh::{Mode, NeighRow, NeighSpec, Nud};
use rxpath::rxpath_wire::{Addr, MacAddr};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::out::Out;

/// A neighbour, by iproute2's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourRow {
    /// Its address.
    pub dst: IpAddr,
    /// The interface.
    pub dev: String,
    /// Its hardware address, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lladdr: Option<String>,
    /// Its state: one word.
    pub state: [String; 1],
}

/// A host that ARP requests are answered for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyRow {
    /// Its address.
    pub dst: IpAddr,
    /// The interface that is asked by.
    pub dev: String,
}

/// What is to be done with a neighbour or a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It must not be there.
    Add,
    /// It must be there.
    Change,
    /// Either.
    Replace,
    /// It is taken out.
    Del,
}

/// A change of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    how: How,
    address: IpAddr,
    dev: String,
    #[serde(default)]
    lladdr: Option<String>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    proxy: bool,
}

/// The states that a neighbour can be given, and those that can be chosen by.
const STATES: [Nud; 8] =
    [Nud::Permanent, Nud::Noarp, Nud::Reachable, Nud::Stale, Nud::Delay, Nud::Probe, Nud::Failed, Nud::Incomplete];

fn state_of(word: &str) -> Option<Nud> {
    STATES.into_iter().find(|state| state.name().eq_ignore_ascii_case(word))
}

impl Change {
    /// Takes a neighbour out.
    pub fn delete(address: IpAddr, dev: String) -> Change {
        Change { how: How::Del, address, dev, lladdr: None, state: None, proxy: false }
    }

    /// Makes the change.
    ///
    /// # Errors
    /// Why not, by iproute2's words.
    pub fn make(&self, stack: &Stack) -> Result<(), String> {
        const NOT_THERE: &str = "RTNETLINK answers: No such file or directory";
        let net = stack.config();
        let interface = net.interfaces.iter().find(|interface| interface.name == self.dev);
        let ifindex = interface.map(|interface| interface.ifindex);
        let ifindex = ifindex.ok_or_else(|| format!("Cannot find device \"{}\"", self.dev))?;
        if !self.address.is_ipv4() {
            return Err("RTNETLINK answers: Address family not supported by protocol".to_owned());
        }
        let addr = Addr::from(self.address);
        let mode = match (self.how, self.proxy) {
            (How::Del, true) => {
                let gone = stack.core().set_proxy_neighbour(ifindex, addr, false);
                return if gone { Ok(()) } else { Err(NOT_THERE.to_owned()) };
            }
            (_, true) => {
                stack.core().set_proxy_neighbour(ifindex, addr, true);
                return Ok(());
            }
            (How::Del, false) => {
                let gone = stack.core().set_neighbour(ifindex, addr, None, stack.now());
                return if gone { Ok(()) } else { Err(NOT_THERE.to_owned()) };
            }
            (How::Add, false) => Mode::Add,
            (How::Change, false) => Mode::Change,
            (How::Replace, false) => Mode::Replace,
        };
        let mac = self.lladdr.as_deref().map(|text| text.parse::<MacAddr>());
        let mac = mac.transpose().map_err(|_| "Error: Invalid link address.".to_owned())?;
        let state = match &self.state {
            None => Nud::Permanent,
            Some(word) => {
                state_of(word).ok_or_else(|| format!("Error: argument \"{word}\" is wrong: nud state is bad"))?
            }
        };
        let spec = NeighSpec { ifindex, addr, mac, state };
        stack.core().configure_neighbour(spec, mode, stack.now()).map_err(|error| error.to_string())
    }
}

/// Which neighbours are shown or flushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Of this interface.
    pub dev: Option<String>,
    address: Option<IpAddr>,
    states: Vec<Nud>,
}

impl Chosen {
    /// Whether this one is.
    pub fn chooses(&self, row: &NeighbourRow) -> bool {
        let [state] = &row.state;
        self.dev.as_ref().is_none_or(|dev| *dev == row.dev)
            && self.address.is_none_or(|address| address == row.dst)
            && self.states.iter().any(|chosen| chosen.name() == state)
    }
}

/// What the words ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The neighbours that are chosen.
    Show(Chosen),
    /// The hosts that ARP requests are answered for.
    ShowProxies,
    /// A change of one.
    Change(Change),
    /// The end of those that are chosen.
    Flush(Chosen),
}

/// The words behind the verb, as far as they were understood.
#[derive(Default)]
struct Words<'a> {
    address: Option<&'a str>,
    proxy: bool,
    dev: Option<&'a str>,
    lladdr: Option<&'a str>,
    nud: Option<&'a str>,
}

impl Verb {
    /// Reads the words of `ip neigh`, with the interface that was named beside them.
    ///
    /// # Errors
    /// What is wrong with them, by iproute2's words.
    pub fn parse(words: &[&str], dev: Option<&str>) -> Result<Verb, String> {
        let (verb, rest) = words.split_first().map_or(("show", words), |(verb, rest)| (*verb, rest));
        let how = match verb {
            "add" => Some(How::Add),
            "change" | "chg" => Some(How::Change),
            "replace" => Some(How::Replace),
            "del" | "delete" => Some(How::Del),
            "show" | "list" | "lst" | "flush" => None,
            _ => return Err(format!("Command \"{verb}\" is unknown, try \"rxpath neigh --help\".")),
        };
        let words = Words { dev, ..Words::default() }.read(rest)?;
        match how {
            Some(how) => words.change(how).map(Verb::Change),
            None if verb == "flush" && rest.is_empty() && dev.is_none() => Err("Flush requires arguments.".to_owned()),
            None if verb == "flush" => {
                words.chosen(|state| !matches!(state, Nud::Permanent | Nud::Noarp)).map(Verb::Flush)
            }
            None if words.proxy => Ok(Verb::ShowProxies),
            None => words.chosen(|state| state != Nud::Noarp).map(Verb::Show),
        }
    }
}

impl<'a> Words<'a> {
    fn read(mut self, rest: &[&'a str]) -> Result<Words<'a>, String> {
        let mut rest = rest.iter().copied();
        while let Some(word) = rest.next() {
            let mut value =
                || rest.next().ok_or_else(|| "Command line is not complete. Try option \"help\"".to_owned());
            match word {
                "dev" => self.dev = Some(value()?),
                "lladdr" => self.lladdr = Some(value()?),
                "nud" => self.nud = Some(value()?),
                "permanent" => self.nud = Some("permanent"),
                "to" => self.address = Some(value()?),
                "proxy" => self.proxy = true,
                "all" => {}
                _ if self.address.is_none() => self.address = Some(word),
                _ => return Err(format!("Error: either \"to\" is duplicate, or \"{word}\" is a garbage.")),
            }
        }
        Ok(self)
    }

    fn address(&self) -> Result<Option<IpAddr>, String> {
        let parse = |text: &str| {
            text.parse().map_err(|_| format!("Error: any valid address is expected rather than \"{text}\"."))
        };
        self.address.map(parse).transpose()
    }

    fn change(self, how: How) -> Result<Change, String> {
        let address = self.address()?;
        let (Some(address), Some(dev)) = (address, self.dev) else {
            return Err("Device and destination are required arguments.".to_owned());
        };
        if let Some(word) = self.nud.filter(|word| state_of(word).is_none_or(|state| state == Nud::Incomplete)) {
            return Err(format!("Error: argument \"{word}\" is wrong: nud state is bad"));
        }
        let owned = |word: Option<&str>| word.map(str::to_owned);
        let (lladdr, state) = (owned(self.lladdr), owned(self.nud));
        Ok(Change { how, address, dev: dev.to_owned(), lladdr, state, proxy: self.proxy })
    }

    /// Those that are asked for; `usual` are those that are chosen from if no state is named.
    fn chosen(self, usual: fn(Nud) -> bool) -> Result<Chosen, String> {
        let states = match self.nud {
            None => STATES.into_iter().filter(|state| usual(*state)).collect(),
            Some("all") => STATES.to_vec(),
            Some(word) => match state_of(word) {
                Some(state) => vec![state],
                None => return Err(format!("Error: argument \"{word}\" is wrong: nud state is bad")),
            },
        };
        Ok(Chosen { dev: self.dev.map(str::to_owned), address: self.address()?, states })
    }
}

/// All neighbours of a stack, by interface and address.
pub fn rows(stack: &Stack) -> Vec<NeighbourRow> {
    stack.core().neighbours().iter().map(|found| row(found, name_of(stack, found.ifindex))).collect()
}

/// All hosts that a stack answers ARP requests for, by interface and address.
pub fn proxies(stack: &Stack) -> Vec<ProxyRow> {
    let row = |(ifindex, addr): (u16, Addr)| ProxyRow { dst: addr.into(), dev: name_of(stack, ifindex) };
    stack.core().proxy_neighbours().into_iter().map(row).collect()
}

fn name_of(stack: &Stack, ifindex: u16) -> String {
    let net = stack.config();
    net.interface(ifindex).map_or_else(|| ifindex.to_string(), |found| found.name.clone())
}

fn row(neighbour: &NeighRow, dev: String) -> NeighbourRow {
    NeighbourRow {
        dst: neighbour.addr.into(),
        dev,
        lladdr: neighbour.state.is_valid().then(|| neighbour.mac.to_string()),
        state: [neighbour.state.name().to_owned()],
    }
}

/// A line of `ip neigh`, which ends with a space. The interface is left out where it was asked for.
fn line(row: &NeighbourRow, of_dev: bool) -> String {
    let lladdr = row.lladdr.as_ref().map(|mac| format!("lladdr {mac} ")).unwrap_or_default();
    let dev = if of_dev { String::new() } else { format!("dev {} ", row.dev) };
    let [state] = &row.state;
    format!("{} {dev}{lladdr}{state} ", row.dst)
}

/// Prints them as iproute2 does; `of_dev`: those of one interface were asked for.
///
/// # Errors
/// The output is not taken.
pub fn print(out: &mut Out, rows: &[NeighbourRow], of_dev: bool) -> Result<(), Failure> {
    rows.iter().try_for_each(|row| out.line(line(row, of_dev)))
}

/// Prints proxies as iproute2 does.
///
/// # Errors
/// The output is not taken.
pub fn print_proxies(out: &mut Out, rows: &[ProxyRow]) -> Result<(), Failure> {
    rows.iter().try_for_each(|row| out.line(format_args!("{} dev {} proxy ", row.dst, row.dev)))
}

#[cfg(test)]
mod tests {
    use rxpath::device::wire::{self, WireConfig};
    use rxpath::{Interface, Mode};

    use super::*;
    use crate::out::tests::printed;

    /// As `ip neigh` of iproute2 6.1 showed such neighbours of Linux 6.18, in words and as JSON.
    #[test]
    fn lines_are_those_of_iproute2() {
        let found = |last: u8, state: Nud| {
            let addr = Addr::from_v4([10, 9, 0, last]);
            let mac = MacAddr([2, 0x72, 0x78, 1, 0, last]);
            row(&NeighRow { ifindex: 1, addr, state, mac, pending: 0 }, "t0".to_owned())
        };
        let rows = [found(2, Nud::Stale), found(3, Nud::Incomplete), found(7, Nud::Permanent)];
        let text = printed(|out| print(out, &rows, false));
        let expected = "\
10.9.0.2 dev t0 lladdr 02:72:78:01:00:02 STALE \n\
10.9.0.3 dev t0 INCOMPLETE \n\
10.9.0.7 dev t0 lladdr 02:72:78:01:00:07 PERMANENT \n";
        assert_eq!(text, expected);
        let json = serde_json::to_string(&rows[..2]).expect("rows are JSON");
        let stale = r#"{"dst":"10.9.0.2","dev":"t0","lladdr":"02:72:78:01:00:02","state":["STALE"]}"#;
        assert_eq!(json, format!(r#"[{stale},{{"dst":"10.9.0.3","dev":"t0","state":["INCOMPLETE"]}}]"#));
    }

    fn parse(words: &str) -> Result<Verb, String> {
        Verb::parse(&words.split_whitespace().collect::<Vec<_>>(), None)
    }

    /// What was said wrong, and what iproute2 6.1 answered.
    #[test]
    fn words_that_are_wrong_are_answered_as_by_iproute2() {
        for (words, answer) in [
            ("add 10.9.0.8 lladdr 02:72:78:01:00:07", "Device and destination are required arguments."),
            ("add lladdr 02:72:78:01:00:07 dev v0", "Device and destination are required arguments."),
            ("add 10.9.0.x dev v0", "Error: any valid address is expected rather than \"10.9.0.x\"."),
            ("add 10.9.0.8 dev v0 nud bogus", "Error: argument \"bogus\" is wrong: nud state is bad"),
            ("flush", "Flush requires arguments."),
            ("add 10.9.0.8 dev", "Command line is not complete. Try option \"help\""),
        ] {
            assert_eq!(parse(words), Err(answer.to_owned()), "{words}");
        }
    }

    #[test]
    fn words_ask_for_what_they_say() {
        let neighbour = |state: Nud| NeighbourRow {
            dst: "10.9.0.7".parse().expect("an address"),
            dev: "v0".to_owned(),
            lladdr: None,
            state: [state.name().to_owned()],
        };
        let chosen = |words: &str| match parse(words) {
            Ok(Verb::Show(chosen) | Verb::Flush(chosen)) => {
                STATES.into_iter().filter(|state| chosen.chooses(&neighbour(*state))).count()
            }
            other => panic!("{words}: {other:?}"),
        };
        assert_eq!([chosen("show"), chosen("show nud all"), chosen("show nud noarp")], [7, 8, 1]);
        assert_eq!([chosen("flush dev v0"), chosen("flush all"), chosen("flush dev v1")], [6, 6, 0]);
        assert_eq!([chosen("show 10.9.0.7"), chosen("show to 10.9.0.8")], [7, 0]);
        assert_eq!(parse("show proxy"), Ok(Verb::ShowProxies));
        let change = Change {
            how: How::Replace,
            address: "10.9.0.7".parse().expect("an address"),
            dev: "v0".to_owned(),
            lladdr: Some("02:72:78:01:00:07".to_owned()),
            state: Some("stale".to_owned()),
            proxy: false,
        };
        let words = "replace 10.9.0.7 lladdr 02:72:78:01:00:07 dev v0 nud stale";
        assert_eq!(parse(words), Ok(Verb::Change(change)));
    }

    /// The same changes of the same table, one after the other, as iproute2 made them, with its answers.
    #[test]
    fn changes_are_made_and_refused_as_by_iproute2() {
        let (wire, _port) = wire::port(WireConfig::named("v0"));
        let interface = Interface::new(wire).address("10.9.0.1/24").expect("an address");
        let stack = Stack::builder().interface(interface).mode(Mode::Polled).build().expect("a stack");
        let said = |words: &str| {
            let change = match parse(words) {
                Ok(Verb::Change(change)) => change.make(&stack).err(),
                other => panic!("{words}: {other:?}"),
            };
            let of_proxies = proxies(&stack).into_iter().map(|row| format!("{} dev {} proxy ", row.dst, row.dev));
            let lines: Vec<String> = rows(&stack).iter().map(|row| line(row, false)).chain(of_proxies).collect();
            (change, lines.join("|"))
        };
        let exists = Some("RTNETLINK answers: File exists".to_owned());
        let not_there = Some("RTNETLINK answers: No such file or directory".to_owned());
        let seven = |last: u8, state: &str| format!("10.9.0.7 dev v0 lladdr 02:72:78:01:00:0{last} {state} ");
        let lladdr = "lladdr 02:72:78:01:00:07";
        for (words, expected) in [
            (format!("add 10.9.0.7 {lladdr} dev v0"), (None, seven(7, "PERMANENT"))),
            (format!("add 10.9.0.7 {lladdr} dev v0"), (exists, seven(7, "PERMANENT"))),
            ("replace 10.9.0.7 lladdr 02:72:78:01:00:08 dev v0 nud stale".to_owned(), (None, seven(8, "STALE"))),
            (format!("change 10.9.0.9 {lladdr} dev v0"), (not_there.clone(), seven(8, "STALE"))),
            ("change 10.9.0.7 dev v0 nud reachable".to_owned(), (None, seven(8, "REACHABLE"))),
            ("del 10.9.0.9 dev v0".to_owned(), (not_there.clone(), seven(8, "REACHABLE"))),
            ("del 10.9.0.7 dev v0".to_owned(), (None, String::new())),
            ("del 10.9.0.7 dev v0".to_owned(), (not_there.clone(), String::new())),
            ("add 10.9.0.8 dev v0".to_owned(), (Some("Error: No link layer address given.".to_owned()), String::new())),
            (
                "add 10.9.0.8 lladdr 02:72 dev v0".to_owned(),
                (Some("Error: Invalid link address.".to_owned()), String::new()),
            ),
            (format!("add 10.9.0.8 {lladdr} dev v9"), (Some("Cannot find device \"v9\"".to_owned()), String::new())),
            ("add proxy 10.9.1.7 dev v0".to_owned(), (None, "10.9.1.7 dev v0 proxy ".to_owned())),
            ("add proxy 10.9.1.7 dev v0".to_owned(), (None, "10.9.1.7 dev v0 proxy ".to_owned())),
            ("del proxy 10.9.1.9 dev v0".to_owned(), (not_there, "10.9.1.7 dev v0 proxy ".to_owned())),
            ("del proxy 10.9.1.7 dev v0".to_owned(), (None, String::new())),
        ] {
            assert_eq!(said(&words), expected, "{words}");
        }
        assert_eq!(line(&row(&stale(), "v0".to_owned()), true), "10.9.0.2 lladdr 02:72:78:01:00:02 STALE ");
        stack.shutdown();
        stack.ledger().check().expect("the ledger balances");
    }

    fn stale() -> NeighRow {
        let (addr, mac) = (Addr::from_v4([10, 9, 0, 2]), MacAddr([2, 0x72, 0x78, 1, 0, 2]));
        NeighRow { ifindex: 1, addr, state: Nud::Stale, mac, pending: 0 }
    }
}
