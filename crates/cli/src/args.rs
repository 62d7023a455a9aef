//! The command line.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Args, Parser, Subcommand};
#[cfg(target_os = "linux")]
use rxpath::config::Proto;
use rxpath_sim::twin::Kind;
use rxpath_trace::{Filter, Selector};

use crate::control::{MAX_DUMP_KIB, MAX_LIVES};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Exit codes, at the end of the main help.
const CODES: &str = "\
Exit codes:
  0  done
  1  what was asked failed; so, too, if the output could not be written
  2  wrong usage or configuration

Example:
  rxpath demo";

/// The Linux receive path in userspace: every packet's life, from the ring to recv().
#[derive(Debug, Parser)]
#[command(name = "rxpath", version, styles = STYLES, after_help = CODES, disable_help_subcommand = true)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    /// Answer in JSON, for machines.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the command does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show all of it in some seconds: clients, lives, counters, the balanced ledger.
    Demo(DemoArgs),
    /// Run a stack with services until a signal ends it.
    Serve(ServeArgs),
    /// Show where each packet of a capture goes on a host, and why.
    Replay(ReplayArgs),
    /// Show lives of packets of a running stack.
    Life(LifeArgs),
    /// Show what a running stack dropped, and why.
    Drops(DropsArgs),
    /// Capture packets of a running stack, or show them as they come.
    Dump(DumpArgs),
    /// Show sockets of a running stack, as ss of iproute2 does.
    Ss(SsArgs),
    /// Show counters of a running stack, as nstat of iproute2 does.
    Nstat(NstatArgs),
    /// Show the softirq statistics of a running stack's Cpus.
    Softnet(SoftnetArgs),
    /// Show the statistics of an interface of a running stack, as ethtool -S does.
    Ethtool(EthtoolArgs),
    /// Show the routes of a running stack, as ip route of iproute2 does.
    Route(RouteArgs),
    /// Show the neighbours of a running stack, as ip neigh of iproute2 does.
    Neigh(NeighArgs),
    /// Write a running stack's /proc/net files, for the tools that read those.
    Proc(ProcArgs),
    /// Measure side by side with peers.
    #[cfg(feature = "bench")]
    Bench(BenchArgs),
    /// Give the same frames to the running kernel and to rxpath, and compare.
    #[cfg(target_os = "linux")]
    Twin(TwinArgs),
    /// Check a configuration file, or print its reference.
    Config(ConfigArgs),
}

/// `rxpath demo`.
#[derive(Args, Debug)]
#[command(after_help = "\
The stack runs on a TAP in a private namespace, with the kernel's own TCP as its clients, where that is allowed; else
two stacks run on an in-memory wire. The last line is the ledger.

Examples:
  rxpath demo
  rxpath demo --wire --json")]
pub struct DemoArgs {
    /// Stay on the in-memory wire even where a TAP is allowed.
    #[arg(long)]
    pub wire: bool,
}

/// `rxpath serve`.
#[derive(Args, Debug)]
#[command(after_help = "\
`rxpath config reference` describes the file. Without --in-namespace, TAPs are made in the namespace of the caller, which
needs CAP_NET_ADMIN.

Examples:
  rxpath serve --config host.toml
  rxpath serve --config host.toml --in-namespace --exec curl http://10.9.0.1/")]
pub struct ServeArgs {
    /// What the host is: interfaces, addresses, services.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Where the control socket is made; before what the configuration says.
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Make a private user and network namespace first: needs no rights, touches nothing of the host.
    #[arg(long)]
    pub in_namespace: bool,
    /// Give the kernel's end of the first TAP this address; in a namespace, one of the TAP's network is the default.
    #[arg(long, value_name = "ADDRESS/LENGTH")]
    pub kernel_address: Option<KernelAddress>,
    /// Run a command (in the namespace, if there is one) and end with its exit code. Must come last.
    #[arg(long, value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true)]
    pub exec: Vec<OsString>,
}

const REPLAY_HELP: &str = "\
The capture is pcap or pcapng, of Ethernet, raw IP, Linux cooked (SLL, SLL2) or BSD null and loop. What the host received
is replayed at the capture's own times, in virtual time; what it sent itself is told apart. Interfaces of the
configuration stand for those of the capture, whatever their driver; its services say which ports are open. Filters are
those of `rxpath life`.

Exit codes: 0 if all went through and the ledger balances, also if the capture is cut (which is told with the place); 1 if
nothing could be read, or the ledger does not balance.

Examples:
  rxpath replay capture.pcapng --config host.toml
  rxpath replay capture.pcap --config host.toml --packet 17
  rxpath replay capture.pcap --config host.toml --filter 'src 10.9.0.7 and flags syn'
  rxpath replay - --config host.toml --pcapng told.pcapng";

/// `rxpath replay`.
#[derive(Args, Debug)]
#[command(after_help = REPLAY_HELP)]
#[command(after_long_help = format!("{REPLAY_HELP}\n\nWhat --json prints:\n{}", crate::replay::SCHEMA))]
pub struct ReplayArgs {
    /// The capture; - for standard input.
    #[arg(value_name = "CAPTURE")]
    pub capture: PathBuf,
    /// What the host is: interfaces, addresses, routes, tunables, services.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Tell the life of this packet, by its number in the capture, from 1 as Wireshark has it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub packet: Option<u64>,
    /// Tell the lives of the packets that the filter matches.
    #[arg(long, value_name = "FILTER", value_parser = filter, conflicts_with = "packet")]
    pub filter: Option<Filter>,
    /// Where the host listened, beyond the services of its configuration; may be given several times. Without an address on
    /// all of them, and over TCP unless it says otherwise.
    #[arg(long, value_name = "[tcp:|udp:][ADDRESS:]PORT")]
    pub listen: Vec<ListenAddress>,
    /// Write the capture anew as pcapng, with what became of each packet beside it.
    #[arg(long, value_name = "FILE")]
    pub pcapng: Option<PathBuf>,
}

/// Where a host listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// Over which protocol.
    pub proto: Proto,
    /// At which address and port.
    pub addr: SocketAddr,
}

impl std::str::FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<ListenAddress, String> {
        let example = "write it as udp:53 or tcp:10.0.0.1:80";
        let (proto, place) = match text.split_once(':') {
            Some(("udp", place)) => (Proto::Udp, place),
            Some(("tcp", place)) => (Proto::Tcp, place),
            _ => (Proto::Tcp, text),
        };
        let (addr, port) = place.rsplit_once(':').unwrap_or(("0.0.0.0", place));
        let addr: Ipv4Addr = addr.parse().map_err(|_| format!("{addr:?} is no IPv4 address; {example}"))?;
        match port.parse() {
            Ok(port @ 1..) => Ok(ListenAddress { proto, addr: SocketAddr::from((addr, port)) }),
            _ => Err(format!("{port:?} is no port from 1 to 65535; {example}")),
        }
    }
}

/// An address of the kernel's end of a TAP, with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelAddress {
    /// The address.
    pub addr: Ipv4Addr,
    /// Bits of the prefix, 1 to 32.
    pub prefix: u8,
}

impl std::fmt::Display for KernelAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl std::str::FromStr for KernelAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<KernelAddress, String> {
        let example = "write it as 10.9.0.254/24";
        let (addr, prefix) = text.split_once('/').ok_or_else(|| format!("no /LENGTH; {example}"))?;
        let addr = addr.parse().map_err(|_| format!("{addr:?} is no IPv4 address; {example}"))?;
        match prefix.parse() {
            Ok(prefix @ 1..=32) => Ok(KernelAddress { addr, prefix }),
            _ => Err(format!("{prefix:?} is no length from 1 to 32; {example}")),
        }
    }
}

/// Which running stack is looked into.
#[derive(Args, Debug)]
pub struct ControlArgs {
    /// The control socket of a running `rxpath serve`.
    #[arg(long, value_name = "PATH", env = "RXPATH_CONTROL")]
    pub control: Option<PathBuf>,
}

const LIFE_HELP: &str = "\
Filters: host 10.0.0.1, net 10.0.0.0/8, port 80, port 1000-1999, src or dst before these; tcp, udp, icmp, arp, proto N,
flags syn+ack; not, and, or, parentheses. With --json each life is one line.

Examples:
  rxpath life --select all
  rxpath life --last 3
  rxpath life --follow --filter 'src 10.9.0.254 and tcp port 80'
  rxpath life --dropped --json";

/// `rxpath life`.
#[derive(Args, Debug)]
#[command(after_help = LIFE_HELP)]
#[command(after_long_help = format!("{LIFE_HELP}\n\nWhat --json prints:\n{}", rxpath_trace::lives::SCHEMA))]
pub struct LifeArgs {
    #[command(flatten)]
    pub control: ControlArgs,
    /// How many of the newest lives to show [default: 10, with --follow 0].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=MAX_LIVES as i64))]
    pub last: Option<u16>,
    /// Go on showing lives as they end.
    #[arg(long)]
    pub follow: bool,
    /// Show only those that the filter matches.
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub filter: Option<Filter>,
    /// Show only those that ended in a drop.
    #[arg(long)]
    pub dropped: bool,
    /// Choose which lives are recorded from now on, instead of showing any: all, off, 1/N, or a filter.
    #[arg(long, value_name = "WHICH", value_parser = selector, conflicts_with_all = ["last", "follow", "filter", "dropped"])]
    pub select: Option<Selector>,
}

fn filter(text: &str) -> Result<Filter, String> {
    Filter::parse(text).map_err(|error| format!("\n{}", error.explain(text)))
}

fn selector(text: &str) -> Result<Selector, String> {
    match text.parse::<Selector>() {
        Ok(Selector::OneIn(0)) => Err("1/0 chooses no packet; write off".to_owned()),
        Ok(selector) => Ok(selector),
        Err(error) => Err(format!("\n{}\n(or write all, off, or 1/100)", error.explain(text))),
    }
}

/// `rxpath drops`.
#[derive(Args, Debug)]
#[command(after_help = "\
Reasons have the names of the kernel's skb_drop_reason. `rxpath life --dropped` shows the packets themselves.

Example:
  rxpath drops")]
pub struct DropsArgs {
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `rxpath dump`.
#[derive(Args, Debug)]
#[command(after_help = "\
Packets are seen before the stack judges them, those that it sends, too; merged ones as what GRO made of them. Filters are
those of `rxpath life`. The file is pcapng, with direction and identity of each packet and how many were lost before it;
what the buffer has no room for is counted at the end.

Examples:
  rxpath dump -i eth0 -c 10 tcp port 80
  rxpath dump -w all.pcapng
  rxpath dump -w - not arp | tcpdump -r -")]
pub struct DumpArgs {
    #[command(flatten)]
    pub control: ControlArgs,
    /// Only this interface [default: all].
    #[arg(short = 'i', long, value_name = "INTERFACE")]
    pub interface: Option<String>,
    /// Write pcapng to this file, - for standard output, instead of a line for each packet.
    #[arg(short = 'w', long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// End after so many packets.
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Bytes of each packet to keep.
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..))]
    pub snaplen: u32,
    /// How much may wait to be taken, in kibibytes.
    #[arg(short = 'B', long, value_name = "KIB", default_value_t = 2_048, value_parser = clap::value_parser!(u32).range(4..=i64::from(MAX_DUMP_KIB)))]
    pub buffer: u32,
    /// Only those that the filter matches.
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
}

/// `rxpath ss`.
#[derive(Args, Debug)]
#[command(after_help = "\
The options are those of ss in iproute2, and so is what is printed.

Examples:
  rxpath ss -tn
  rxpath ss -tnl
  rxpath ss -tin
  rxpath ss -una
  rxpath ss -s")]
pub struct SsArgs {
    #[command(flatten)]
    pub control: ControlArgs,
    /// TCP sockets.
    #[arg(short = 't', long)]
    pub tcp: bool,
    /// UDP sockets.
    #[arg(short = 'u', long)]
    pub udp: bool,
    /// Raw sockets.
    #[arg(short = 'w', long)]
    pub raw: bool,
    /// Port numbers instead of names.
    #[arg(short = 'n', long)]
    pub numeric: bool,
    /// Listening sockets only.
    #[arg(short = 'l', long)]
    pub listening: bool,
    /// All sockets, listening ones included.
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Memory of each socket, in bytes of truesize: r received and not read, rb its limit, t on its way out, tb limit of what
    /// waits to be sent, f the socket's already, w waiting to be sent or acknowledged, bl on the backlog, d packets dropped.
    #[arg(short = 'm', long)]
    pub memory: bool,
    /// What each connection tells of itself: congestion control, round trip, segment sizes, window, bytes and segments in both
    /// directions, rates, what limits it.
    #[arg(short = 'i', long)]
    pub info: bool,
    /// The timer of each connection, and, with `-i`, what was agreed in its handshake.
    #[arg(short = 'o', long)]
    pub options: bool,
    /// A summary instead of sockets.
    #[arg(short = 's', long)]
    pub summary: bool,
    /// No heading.
    #[arg(short = 'H', long)]
    pub no_header: bool,
}

/// `rxpath nstat`.
#[derive(Args, Debug)]
#[command(after_help = "\
Values are those since the stack began. What the stack does not count is not shown.

Examples:
  rxpath nstat
  rxpath nstat -az 'TcpExt*'")]
pub struct NstatArgs {
    #[command(flatten)]
    pub control: ControlArgs,
    /// Absolute values; there are no others here.
    #[arg(short = 'a', long)]
    pub ignore: bool,
    /// Counters that are 0, too.
    #[arg(short = 'z', long)]
    pub zeros: bool,
    /// Which counters: names with * and ?.
    #[arg(value_name = "PATTERN")]
    pub patterns: Vec<String>,
}

/// `rxpath softnet`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  rxpath softnet")]
pub struct SoftnetArgs {
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `rxpath ethtool`.
#[derive(Args, Debug)]
#[command(after_help = "\
rx_missed_errors: frames that met a full ring. rx_no_buffer_count: those of them for which there was no memory.
rx_queue_N_drops: both, by queue. rx_pp_*: of the Cpus' page pools, which fill the rings of all interfaces, under the
kernel's names: allocations from the private stack, from the return ring, in vain; slots that came back, by the stack and
by the ring.

Example:
  rxpath ethtool -S eth0")]
pub struct EthtoolArgs {
    #[command(flatten)]
    pub control: ControlArgs,
    /// The interface.
    #[arg(short = 'S', long, value_name = "INTERFACE")]
    pub statistics: String,
}

/// `rxpath route`.
#[derive(Args, Debug)]
#[command(after_help = "\
The table main has what was configured and the networks of the interfaces; the table local has this host's addresses and
broadcasts. With --json, the rows of both.

Examples:
  rxpath route
  rxpath route --table local")]
pub struct RouteArgs {
    #[command(flatten)]
    pub control: ControlArgs,
    /// Which table.
    #[arg(long, value_name = "TABLE", value_parser = ["main", "local"], default_value = "main")]
    pub table: String,
}

/// `rxpath neigh`.
#[derive(Args, Debug)]
#[command(after_help = "\
Words are those of ip neigh of iproute2, and so is what is printed:
  show [ADDRESS] [dev INTERFACE] [nud STATE]
  show proxy
  add | change | replace ADDRESS lladdr ADDRESS dev INTERFACE [nud STATE]
  add | del proxy ADDRESS dev INTERFACE
  del ADDRESS dev INTERFACE
  flush [ADDRESS] [dev INTERFACE] [nud STATE]
States are permanent, noarp, reachable, stale, delay, probe, failed, and where they choose also incomplete and all.

Examples:
  rxpath neigh
  rxpath neigh show dev eth0 nud stale
  rxpath neigh replace 10.9.0.7 lladdr 02:00:00:00:aa:07 dev eth0
  rxpath neigh flush dev eth0")]
pub struct NeighArgs {
    #[command(flatten)]
    pub control: ControlArgs,
    /// What to do, in the words of ip neigh; without any, show.
    #[arg(value_name = "WORDS")]
    pub words: Vec<String>,
    /// Only those of this interface.
    #[arg(long, value_name = "INTERFACE")]
    pub dev: Option<String>,
}

/// `rxpath proc`.
#[derive(Args, Debug)]
#[command(after_help = "\
Writes net/snmp, net/netstat, net/tcp, net/sockstat, net/softnet_stat, net/dev, net/packet, net/ptype, net/route and net/arp below the folder, in the kernel's own
formats. Tools of iproute2 read them where PROC_ROOT says so; node_exporter with --path.procfs.

Examples:
  rxpath proc --dir /tmp/rx && PROC_ROOT=/tmp/rx ss -tn
  rxpath proc --dir /tmp/rx && PROC_ROOT=/tmp/rx NSTAT_HISTORY=/tmp/rx/history nstat -az")]
pub struct ProcArgs {
    #[command(flatten)]
    pub control: ControlArgs,
    /// Below which folder; made if it is not there.
    #[arg(long, value_name = "FOLDER")]
    pub dir: PathBuf,
}

/// `rxpath bench`.
#[cfg(feature = "bench")]
#[derive(Args, Debug)]
#[command(after_help = "\
Build with --release. Each measurement and its peer take turns in one run; ratios are what counts.

Example:
  rxpath bench --only tcp-64,two-queues --json")]
pub struct BenchArgs {
    /// Which measurements, separated by commas [default: all].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<rxpath_bench::Case>,
    /// Rounds of each, from which medians are taken.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rounds: Option<u32>,
    /// About how long the rounds of each take together.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Seed of payload and stacks.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Fail if a ratio is below the project's goal.
    #[arg(long)]
    pub check: bool,
}

#[cfg(feature = "bench")]
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err("give a number from 0.01 to 3600".to_owned()),
    }
}

/// `rxpath twin`.
#[cfg(target_os = "linux")]
#[derive(Args, Debug)]
#[command(after_help = "\
The kernel answers first, on TAPs in a private namespace; rxpath gets the same frames at the same moments of virtual
time. Frames that leave and counters that move are compared. The same seed gives the same cases.

Example:
  rxpath twin --seed 7 --cases 200 --kind tcp-basic
  rxpath twin --cases 600 --kind all")]
pub struct TwinArgs {
    /// Seed of the cases.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many cases of each kind.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub cases: u32,
    /// Kind of cases, or `all`.
    #[arg(long, default_value = Kind::TcpBasic.name(), value_parser = kinds)]
    pub kind: Kinds,
    /// Cases at a time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub jobs: Option<u8>,
    /// Run cases from standard input against the kernel: what the command starts itself for.
    #[arg(long, hide = true)]
    pub child: bool,
}

/// Kinds of cases of the twin.
#[cfg(target_os = "linux")]
pub type Kinds = std::sync::Arc<[Kind]>;

#[cfg(target_os = "linux")]
fn kinds(name: &str) -> Result<Kinds, String> {
    let names = || format!("there are: all, {}", Kind::ALL.map(Kind::name).join(", "));
    match name {
        "all" => Ok(Kind::ALL.into()),
        name => Kind::from_name(name).map(|kind| [kind].into()).ok_or_else(names),
    }
}

/// `rxpath config`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  rxpath config check host.toml
  rxpath config reference > host.toml.md")]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

/// What `rxpath config` does.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Say all that is wrong with a host.toml, with places and mends.
    #[command(after_help = "Example:\n  rxpath config check host.toml")]
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Print the reference of host.toml as Markdown.
    #[command(after_help = "Example:\n  rxpath config reference > host.toml.md")]
    Reference,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_fit_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_has_an_example() {
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            let name = command.get_name().to_owned();
            assert!(help.contains("Example") && help.contains("\n  rxpath "), "{name}: no example in its help");
            command.get_subcommands_mut().for_each(check);
        }
        check(&mut Cli::command());
    }

    #[test]
    fn every_example_is_a_command_line_that_is_understood() {
        fn examples(command: &mut clap::Command, lines: &mut Vec<String>) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            lines.extend(help.lines().filter_map(|line| line.strip_prefix("  rxpath ")).map(str::to_owned));
            command.get_subcommands_mut().for_each(|command| examples(command, lines));
        }
        let mut lines = Vec::new();
        examples(&mut Cli::command(), &mut lines);
        assert!(lines.len() > 12, "{lines:?}");
        for line in lines {
            let ours = [" && ", " | ", " > "]
                .iter()
                .fold(line.as_str(), |ours, end| ours.split(end).next().unwrap_or_default());
            let words = ours.split('\'').enumerate().flat_map(|(i, part)| match i % 2 {
                0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
                _ => vec![part.to_owned()],
            });
            let parsed = Cli::try_parse_from(std::iter::once("rxpath".to_owned()).chain(words));
            assert!(parsed.is_ok(), "{line}: {}", parsed.expect_err("checked"));
        }
    }

    #[test]
    fn a_wrong_filter_is_shown_with_its_place() {
        let error = Cli::try_parse_from(["rxpath", "life", "--filter", "dst port http"]).expect_err("no port");
        let text = error.to_string();
        assert!(text.contains("dst port http\n         ^^^^\nfilter, byte 9: found `http`"), "{text}");
    }

    #[test]
    fn an_address_of_the_kernel_needs_its_prefix() {
        assert_eq!("10.9.0.254/24".parse(), Ok(KernelAddress { addr: Ipv4Addr::new(10, 9, 0, 254), prefix: 24 }));
        for wrong in ["", "10.9.0.254", "10.9.0.254/0", "10.9.0.254/33", "10.9.0/24", "10.9.0.254/x"] {
            let error = wrong.parse::<KernelAddress>().expect_err(wrong);
            assert!(error.ends_with("write it as 10.9.0.254/24"), "{error}");
        }
    }
}
