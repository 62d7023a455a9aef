//! Tests of reading, checking and describing `host.toml`.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use rxpath_core::route::RouteKind;
use rxpath_core::sysctl::{CONF_KNOBS, KNOBS, NEIGH_KNOBS, Sysctls, names};

use super::keys::{Absent, FAULTS, Form, INTERFACE, Key, NEIGHBOUR, ROUTE, SECTIONS, SERVICE, SYSCTL, Section, VLAN};
use super::reference::EXAMPLE;
use super::*;

/// Malformed files with what is said of them. `RXPATH_BLESS=1` writes what is said now into the file, for review.
const ERRORS: &str = "src/config/tests/errors.txt";
/// The committed reference.
const REFERENCE: &str = "../../docs/host.toml.md";

const MINIMAL: &str = "[[interface]]\nname = \"eth0\"\ndriver = \"wire\"\naddresses = [\"10.9.0.1/24\"]\n";

fn parse(text: &str) -> HostConfig {
    HostConfig::parse("host.toml", text).unwrap_or_else(|errors| panic!("{errors}\nin\n{text}"))
}

fn errors(text: &str) -> String {
    HostConfig::parse("host.toml", text).map_or_else(|errors| errors.to_string(), |_| "nothing".to_owned())
}

/// The committed text of a file that tests compare with or, when told to, write anew.
fn committed(path: &str, now: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("RXPATH_BLESS").is_some() {
        fs::write(&path, now).expect("the blessed file can be written");
    }
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn malformed_files_are_told_where_and_how_to_mend_them() {
    let cases = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(ERRORS)).expect("the cases are there");
    let mut now = String::new();
    for case in cases.split("=== ").skip(1) {
        let (name, rest) = case.split_once('\n').expect("a case has a name");
        let (text, _) = rest.split_once("--- says\n").expect("a case has an answer");
        let said = errors(text);
        assert_ne!(said, "nothing", "{name}: was accepted");
        now.push_str(&format!("=== {name}\n{text}--- says\n{said}\n\n"));
    }
    assert!(now.matches("=== ").count() > 90, "the cases are all read");
    assert_eq!(now, committed(ERRORS, &now));
}

#[test]
fn control_characters_are_no_part_of_a_file() {
    assert!(errors("[[interface]]\nname = \"a\0b\"\n").starts_with("host.toml:2:10: "));
    assert!(errors("\u{1}").starts_with("host.toml:1:1: "));
}

#[test]
fn the_example_is_read_as_it_looks() {
    let host = parse(EXAMPLE);
    let want = InterfaceConfig {
        name: "eth0".to_owned(),
        driver: Driver::Tap,
        mac: "02:00:00:00:aa:01".parse().expect("an address"),
        addresses: vec!["10.9.0.1/24".parse().expect("an address")],
        mtu: 1500,
        queues: 2,
        rx_usecs: 0,
        rx_frames: 0,
        gro: true,
        promisc: false,
        ring: 512,
        faults: FaultsConfig::default(),
    };
    assert_eq!(host.interfaces, [want]);
    let via = Some("10.9.0.254".parse().expect("an address"));
    assert_eq!(host.routes, [RouteConfig { via, ..plain_route(Cidr::ALL_V4) }]);
    let mut sysctls = Sysctls::default();
    sysctls.tcp_rmem.max = 6_291_456;
    assert_eq!(host.sysctls, sysctls);
    let listen = "0.0.0.0:80".parse().expect("an address");
    assert_eq!(host.services, [ServiceConfig { listen, app: App::Http, proto: Proto::Tcp }]);
    assert_eq!(host.life.select, Selector::OneIn(100));
    assert_eq!(host.stack, StackConfig { cpus: 1, seed: None, control: None });
}

#[test]
fn what_is_not_given_has_its_default() {
    let host =
        parse("[[interface]]\nname = \"a\"\ndriver = \"wire\"\n[[interface]]\nname = \"b\"\ndriver = \"wire\"\n");
    let macs: Vec<String> = host.interfaces.iter().map(|interface| interface.mac.to_string()).collect();
    assert_eq!(macs, ["02:72:78:00:00:01", "02:72:78:00:00:02"]);
    assert!(host.interfaces.iter().all(|interface| interface.faults.is_none() && interface.addresses.is_empty()));
    assert!(host.routes.is_empty() && host.services.is_empty());
    assert_eq!(host.life.select, Selector::Off);
    assert_eq!(host.sysctls, Sysctls::default());
}

#[test]
fn all_values_reach_their_fields() {
    let host = parse(
        "[[interface]]\nname = \"eth0\"\ndriver = \"wire\"\naddresses = [\"10.9.0.1/24\", \"192.0.2.7/32\"]\nmtu = 9000\n\
         rx_usecs = 50\nrx_frames = 32\ngro = false\npromisc = true\nring = 256\n\
         faults = { loss = 0.01, duplicate = 0.02, reorder = 0.03, corrupt = 0.04, delay_ms = 5, rate = \"10 mbit\" }\n\
         [[route]]\nto = \"198.51.100.0/24\"\ndev = \"eth0\"\nmetric = 7\n\
         [[service]]\nlisten = \"192.0.2.7:7\"\napp = \"echo\"\n[[service]]\nlisten = \"0.0.0.0:9\"\napp = \"discard\"\n\
         [[service]]\nlisten = \"10.9.0.1:19\"\napp = \"chargen\"\n\
         [stack]\ncpus = 2\nseed = 18446744073709551615\ncontrol = \"/run/rxpath.sock\"\n",
    );
    let interface = &host.interfaces[0];
    assert_eq!((interface.driver, interface.mtu, interface.ring, interface.gro), (Driver::Wire, 9000, 256, false));
    assert_eq!((interface.rx_usecs, interface.rx_frames, interface.promisc), (50, 32, true));
    assert_eq!(interface.addresses.iter().map(Cidr::to_string).collect::<Vec<_>>(), ["10.9.0.1/24", "192.0.2.7/32"]);
    let faults =
        FaultsConfig { loss: 0.01, duplicate: 0.02, reorder: 0.03, corrupt: 0.04, delay_ms: 5, rate: 10_000_000 };
    assert_eq!(interface.faults, faults);
    let to = "198.51.100.0/24".parse().expect("a network");
    assert_eq!(host.routes, [RouteConfig { metric: 7, ..plain_route(to) }]);
    assert_eq!(
        host.services.iter().map(|service| service.app).collect::<Vec<_>>(),
        [App::Echo, App::Discard, App::Chargen]
    );
    let control = Some("/run/rxpath.sock".into());
    assert_eq!(host.stack, StackConfig { cpus: 2, seed: Some(u64::MAX), control });
}

#[test]
fn neighbours_and_proxies_are_on_interfaces_that_there_are() {
    let file = format!(
        "{MINIMAL}[[neighbour]]\naddress = \"10.9.0.7\"\n{LLADDR}[[neighbour]]\naddress = \
         \"10.9.0.8\"\n{LLADDR}state = \"noarp\"\n[[neighbour]]\naddress = \"10.8.0.7\"\ndev = \"eth0\"\nproxy = true\n"
    );
    let host = parse(&file);
    let mac = Some("02:00:00:00:aa:07".parse().expect("a hardware address"));
    let spec = |last: u8, state: Nud| NeighSpec { ifindex: 1, addr: Addr::from_v4([10, 9, 0, last]), mac, state };
    assert_eq!(host.neighbour_specs(), [spec(7, Nud::Permanent), spec(8, Nud::Noarp)]);
    assert_eq!(host.proxies(), [(1, Addr::from_v4([10, 8, 0, 7]))]);
    let wrong = |lines: &str| {
        let errors = HostConfig::parse("host.toml", &format!("{MINIMAL}[[neighbour]]\n{lines}\n")).expect_err("wrong");
        errors.to_string().split_once(": ").expect("a place").1.to_owned()
    };
    let address = "address = \"10.9.0.7\"\n";
    let on = "dev = \"eth0\"\n";
    for (lines, what) in [
        (
            format!("address = \"10.8.0.7\"\n{LLADDR}"),
            "10.8.0.7 is on the network of no interface; say with dev which one it is behind",
        ),
        (format!("{address}{LLADDR}dev = \"eth7\""), "no interface is named \"eth7\"; there is eth0"),
        (format!("{address}{on}"), "10.9.0.7 has no lladdr; add a line such as lladdr = \"02:00:00:00:aa:07\""),
        (format!("{address}{on}{LLADDR}proxy = true"), "a proxy answers with the interface's own; remove it"),
        (
            format!("{address}{on}{LLADDR}[[neighbour]]\n{address}{on}{LLADDR}"),
            "10.9.0.7 is given a second time for \"eth0\"; remove one",
        ),
    ] {
        assert_eq!(wrong(&lines), what);
    }
}

#[test]
fn sysctls_of_interfaces_are_for_interfaces_that_there_are() {
    let vlan = "[[vlan]]\nname = \"eth0.5\"\nlink = \"eth0\"\nid = 5\n";
    let host = parse(&format!(
        "{MINIMAL}{vlan}[sysctl]\nnet.ipv4.conf.eth0.rp_filter = 1\n\"net/ipv4/conf/eth0.5/rp_filter\" = 2\nnet.ipv4.ip_forward = 1\n"
    ));
    let of = |name: &str| host.sysctls.conf.effective(name);
    assert_eq!(["eth0", "eth0.5", "eth1"].map(|name| of(name).rp_filter), [1, 2, 0]);
    assert!(of("eth0").forwarding && host.sysctls.conf.all.forwarding);
    let wrong = |line: &str| {
        HostConfig::parse("host.toml", &format!("{MINIMAL}[sysctl]\n{line}\n")).expect_err("wrong").to_string()
    };
    let at = MINIMAL.lines().count() + 2;
    assert_eq!(
        wrong("net.ipv4.conf.eth1.rp_filter = 1"),
        format!("host.toml:{at}:20: no interface is named \"eth1\"; there is eth0, and all, and default")
    );
    assert_eq!(
        wrong("net.ipv4.ip_forward = 1\nnet.ipv4.conf.all.forwarding = 1"),
        format!("host.toml:{}:19: net.ipv4.conf.all.forwarding is set a second time; keep one of the two", at + 1)
    );
}

#[test]
fn sysctls_are_taken_in_all_spellings() {
    let host = parse(&format!(
        "{MINIMAL}[sysctl]\nnet.ipv4.tcp_sack = false\n\"net/core/somaxconn\" = 7\n\"net.ipv4.ip_local_port_range\" = \"1 2\"\n"
    ));
    assert!(!host.sysctls.tcp_sack);
    assert_eq!(host.sysctls.somaxconn, 7);
    assert_eq!(host.sysctls.ip_local_port_range.high, 2);
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = std::env::temp_dir().join(format!("rxpath-config-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for the files");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).expect("a file can be written");
        path
    };
    let said = |path: &Path| {
        HostConfig::load(path).expect_err("is not accepted").to_string().replace(&path.display().to_string(), "F")
    };
    assert!(said(&folder.join("none")).starts_with("F: cannot be read: No such file"));
    assert!(said(&folder).starts_with("F: cannot be read: "));
    assert_eq!(
        said(&write("latin", b"[life]\n# gr\xfc\xdfe\n")),
        "F:2:5: this byte is not UTF-8; save the file as UTF-8"
    );
    let large = "F: has more than 1048576 bytes; split what is generated, or write it shorter";
    assert_eq!(said(&write("large", &vec![b'\n'; MAX_BYTES + 1])), large);
    assert_eq!(said(&write("large", &vec![0xff; MAX_BYTES + 1])), large);
    assert_eq!(HostConfig::load(&write("good", EXAMPLE.as_bytes())).expect("is accepted"), parse(EXAMPLE));
    fs::remove_dir_all(&folder).expect("the folder can be removed");
}

#[test]
fn nonsense_in_bulk_is_cheap_and_counted() {
    let said = errors(&(0..20_000).map(|n| format!("key{n} = {n}\n")).collect::<String>());
    assert_eq!(said.lines().count(), 101);
    assert!(said.ends_with("\nand 19900 more"), "the empty document is not judged besides");
    let deep = format!("{}{}", "[".repeat(5000), "a".repeat(10));
    assert!(errors(&format!("interface = {deep}")).starts_with("host.toml:1:"));
}

/// All sections with a key of their own, those within others too.
fn sections() -> Vec<&'static Section> {
    SECTIONS.into_iter().chain([&FAULTS]).collect()
}

/// What a neighbour needs that is no proxy.
const LLADDR: &str = "lladdr = \"02:00:00:00:aa:07\"\n";

/// A file in which one key is given as the table's example has it.
fn file_with(section: &Section, key: &Key) -> String {
    let line = format!("{} = {}\n", key.name, key.example);
    let rest = |section: &Section| {
        let required = section.keys.iter().filter(|other| other.absent == Absent::Required && other.name != key.name);
        required.map(|other| format!("{} = {}\n", other.name, other.example)).collect::<String>()
    };
    let own = match section.name {
        name if name == INTERFACE.name => {
            return format!("{}\n{}{line}{}", INTERFACE.header, rest(section), usecs_of(key));
        }
        name if name == FAULTS.name => return format!("{MINIMAL}{}\n{line}", FAULTS.header),
        name if name == ROUTE.name && !matches!(key.name, "via" | "dev") => {
            // A gateway on the link is a gateway.
            let via = if key.name == "onlink" { "via = \"10.9.0.254\"\n" } else { "" };
            format!("dev = \"eth0\"\n{via}{}", rest(section))
        }
        name if name == NEIGHBOUR.name => {
            let lladdr = if matches!(key.name, "lladdr" | "proxy") { "" } else { LLADDR };
            let dev = if key.name == "dev" { "" } else { "dev = \"eth0\"\n" };
            // Behind an interface that only `dev` can tell.
            let rest = if key.name == "dev" { "address = \"10.8.0.7\"\n".to_owned() } else { rest(section) };
            format!("{dev}{lladdr}{rest}")
        }
        _ => rest(section),
    };
    format!("{MINIMAL}{}\n{line}{own}", section.header)
}

/// `rx_frames` needs the other half of moderation beside it.
fn usecs_of(key: &Key) -> &'static str {
    if key.name == "rx_frames" { "rx_usecs = 50\n" } else { "" }
}

#[test]
fn every_key_of_the_table_is_accepted() {
    for section in sections() {
        for key in section.keys {
            parse(&file_with(section, key));
        }
    }
    for name in names() {
        let default = Sysctls::default().show(&name).expect("a knob has a value");
        parse(&format!("{MINIMAL}[sysctl]\n{name} = \"{default}\"\n"));
    }
}

#[test]
fn every_example_differs_from_the_default_and_changes_the_host() {
    for section in sections() {
        for key in section.keys.iter().filter(|key| key.absent != Absent::Required) {
            let with = file_with(section, key);
            let without = with.replace(&format!("{} = {}\n", key.name, key.example), "");
            match HostConfig::parse("host.toml", &without) {
                Ok(without) => assert_ne!(parse(&with), without, "{} {}", section.header, key.name),
                // `via` and `dev` stand in for each other, and so do `lladdr` and `proxy`.
                Err(_) => assert!([ROUTE.name, NEIGHBOUR.name].contains(&section.name), "{}", key.name),
            }
        }
    }
}

#[test]
fn every_default_of_the_table_can_be_written_out() {
    for section in sections() {
        for key in section.keys {
            let Absent::Is(default) = key.absent else { continue };
            let example = format!("{} = {}\n", key.name, key.example);
            let more = if key.name == "proxy" { LLADDR } else { "" };
            let written = format!("{} = {default}\n{more}", key.name);
            let with = file_with(section, key).replace(&example, &written);
            let without = file_with(section, key).replace(&example, more);
            assert_eq!(parse(&with), parse(&without), "{} {}", section.header, key.name);
        }
    }
}

#[test]
fn the_reference_is_the_committed_one() {
    let now = reference();
    assert_eq!(now, committed(REFERENCE, &now), "run RXPATH_BLESS=1 cargo test -p rxpath the_reference");
}

#[test]
fn the_reference_has_every_section_and_key() {
    let text = reference();
    for section in sections() {
        assert!(text.contains(&format!("# `{}`\n", section.header)), "{}", section.header);
        for key in section.keys {
            assert!(text.contains(&format!("\n| `{}` | ", key.name)), "{}", key.name);
        }
    }
    for knob in KNOBS {
        assert!(text.contains(&format!("\n| `{}` | ", knob.name)), "{}", knob.name);
    }
    let conf = CONF_KNOBS.iter().map(|known| format!("net.ipv4.conf.NAME.{}", known.knob.name));
    let neigh = NEIGH_KNOBS.iter().map(|known| format!("net.ipv4.neigh.NAME.{}", known.knob.name));
    for name in conf.chain(neigh) {
        assert!(text.contains(&format!("\n| `{name}` | ")), "{name}");
    }
    let columns = |line: &str| line.replace("\\|", "").matches('|').count();
    let tables = text.lines().filter(|line| line.starts_with('|'));
    assert!(tables.clone().count() > 50);
    assert!(tables.into_iter().all(|line| matches!(columns(line), 5 | 7 | 8)), "a cell holds a bare |");
    assert!(SYSCTL.keys.is_empty(), "the core has the tunables");
}

/// Texts near to a good file: some lines of good files with some characters changed.
fn nearly_good() -> impl Strategy<Value = String> {
    let lines: Vec<String> = sections()
        .into_iter()
        .flat_map(|section| section.keys.iter().map(|key| file_with(section, key)))
        .flat_map(|file| file.lines().map(|line| format!("{line}\n")).collect::<Vec<_>>())
        .collect();
    let noise = prop_oneof![
        Just("\""),
        Just("["),
        Just("]"),
        Just("\n"),
        Just("="),
        Just("/"),
        Just("é"),
        Just("0"),
        Just(",")
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), noise, any::<bool>()), 0..4);
    (prop::collection::vec(prop::sample::select(lines), 0..12), edits).prop_map(|(lines, edits)| {
        let mut text: Vec<char> = lines.concat().chars().collect();
        for (at, noise, instead) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + usize::from(instead)).min(text.len());
            text.splice(at..end, noise.chars());
        }
        text.into_iter().collect()
    })
}

/// Nothing panics, and every finding has a place within the text.
fn judge(text: &str) -> Result<(), TestCaseError> {
    let Err(errors) = HostConfig::parse("host.toml", text) else { return Ok(()) };
    prop_assert!(!errors.errors().is_empty());
    for error in errors.errors() {
        let (line, column) = error.place.expect("findings in a text have a place");
        let line = text.split('\n').nth(line - 1);
        prop_assert!(line.is_some_and(|line| column <= line.chars().count() + 1), "{error} is outside {text:?}");
        prop_assert!(!error.what.is_empty() && !error.what.contains('\n'), "{error}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        judge(&text)?;
    }

    #[test]
    fn no_text_near_to_a_good_one_panics(text in nearly_good()) {
        judge(&text)?;
    }

    #[test]
    fn no_value_of_any_key_panics(index in any::<prop::sample::Index>(), value in "\\PC{0,40}", quoted in any::<bool>()) {
        let keys: Vec<_> = sections().into_iter().flat_map(|section| section.keys.iter().map(move |key| (section, key))).collect();
        let (section, key) = keys[index.index(keys.len())];
        let value = if quoted { format!("{value:?}") } else { value };
        let given = format!("{} = {}\n", key.name, key.example);
        judge(&file_with(section, key).replace(&given, &format!("{} = {value}\n", key.name)))?;
    }

    #[test]
    fn every_number_within_bounds_is_taken_and_no_other(index in any::<prop::sample::Index>(), number in any::<u32>()) {
        let keys: Vec<_> = sections()
            .into_iter()
            .flat_map(|section| section.keys.iter().map(move |key| (section, key)))
            .filter(|(_, key)| matches!(key.form, Form::Number { .. }) && !key.name.starts_with("rx_"))
            // A VLAN device's MTU is bounded by that of its link.
            .filter(|(section, key)| section.name != VLAN.name || key.name != "mtu")
            .collect();
        let (section, key) = keys[index.index(keys.len())];
        let Form::Number { least, most } = key.form else { unreachable!("filtered above") };
        let number = u64::from(number >> (number % 32));
        let given = format!("{} = {}\n", key.name, key.example);
        let text = file_with(section, key).replace(&given, &format!("{} = {number}\n", key.name));
        let taken = HostConfig::parse("host.toml", &text).is_ok();
        prop_assert_eq!(taken, (least..=most).contains(&number), "{}", text);
    }
}

#[test]
fn every_service_word_and_driver_word_has_its_meaning() {
    let words = |section: &Section, key: &str| match section.key(key).map(|key| key.form) {
        Some(Form::Choice(words)) => words,
        other => panic!("{key} is no choice: {other:?}"),
    };
    let apps = words(&SERVICE, "app")
        .iter()
        .map(|app| parse(&format!("{MINIMAL}[[service]]\nlisten = \"0.0.0.0:1\"\napp = \"{app}\"\n")).services[0].app);
    assert_eq!(apps.collect::<Vec<_>>(), [App::Http, App::Echo, App::Discard, App::Chargen]);
    let drivers = words(&INTERFACE, "driver")
        .iter()
        .map(|driver| parse(&MINIMAL.replace("\"wire\"", &format!("{driver:?}"))).interfaces[0].driver);
    assert_eq!(drivers.collect::<Vec<_>>(), [Driver::Wire, Driver::Tap, Driver::Pcap]);
}

/// A route by `eth0` with all else at its defaults.
fn plain_route(to: Cidr) -> RouteConfig {
    let (dev, kind) = (Some("eth0".to_owned()), RouteKind::Unicast);
    RouteConfig { to, via: None, dev, metric: 0, kind, src: None, onlink: false }
}

#[test]
fn routes_of_every_type() {
    let interface = "[[interface]]\nname = \"eth0\"\ndriver = \"wire\"\naddresses = [\"10.9.0.1/24\"]\n";
    let parse =
        |route: &str| HostConfig::parse("host.toml", &format!("{interface}[[route]]\nto = \"192.0.2.0/24\"\n{route}"));
    let to: Cidr = "192.0.2.0/24".parse().expect("a network");
    for (text, expected) in [
        ("type = \"blackhole\"", RouteConfig { kind: RouteKind::Blackhole, dev: None, ..plain_route(to) }),
        (
            "type = \"prohibit\"\nmetric = 3",
            RouteConfig { kind: RouteKind::Prohibit, dev: None, metric: 3, ..plain_route(to) },
        ),
        ("type = \"unreachable\"", RouteConfig { kind: RouteKind::Unreachable, dev: None, ..plain_route(to) }),
        ("type = \"local\"\ndev = \"eth0\"", RouteConfig { kind: RouteKind::Local, ..plain_route(to) }),
        ("type = \"broadcast\"\ndev = \"eth0\"", RouteConfig { kind: RouteKind::Broadcast, ..plain_route(to) }),
        ("dev = \"eth0\"\nsrc = \"10.9.0.1\"", RouteConfig { src: Some([10, 9, 0, 1].into()), ..plain_route(to) }),
        (
            "dev = \"eth0\"\nvia = \"9.9.9.9\"\nonlink = true",
            RouteConfig { via: Some([9, 9, 9, 9].into()), onlink: true, ..plain_route(to) },
        ),
    ] {
        let host = parse(text).unwrap_or_else(|errors| panic!("{text}: {errors}"));
        assert_eq!(host.routes, [expected], "{text}");
    }
    for (text, words) in [
        ("type = \"blackhole\"\ndev = \"eth0\"", "a route of type \"blackhole\" takes no dev; leave it out"),
        (
            "type = \"local\"\nvia = \"10.9.0.2\"\ndev = \"eth0\"",
            "a route of type \"local\" takes no via; leave it out",
        ),
        ("dev = \"eth0\"\nsrc = \"10.9.0.7\"", "10.9.0.7 is not an address of this host; name one of its own"),
        ("dev = \"eth0\"\nonlink = true", "give both, or leave it out"),
        ("type = \"local\"", "neither via nor dev"),
    ] {
        let errors = parse(text).expect_err(text).to_string();
        assert!(errors.contains(words), "{errors}");
    }
}

#[test]
fn priorities_are_pairs_within_bounds() {
    let says = |map: &str| {
        let text = format!("{MINIMAL}[[vlan]]\nname = \"five\"\nlink = \"eth0\"\nid = 5\negress_qos_map = {map}\n");
        HostConfig::parse("host.toml", &text).map_or_else(|errors| errors.to_string(), |_| "nothing".to_owned())
    };
    assert_eq!(says("[\"0:7\", \"15:0\"]"), "nothing");
    for (map, words) in [
        ("[\"6\"]", "is no pair of priorities"),
        ("[\"a:b\"]", "is no pair of priorities"),
        ("[\"16:0\"]", "has a priority that there is not"),
        ("[\"0:8\"]", "has a priority that there is not"),
        ("[6]", "does not fit"),
        ("6", "does not fit"),
    ] {
        assert!(says(map).contains(words), "{map}: {}", says(map));
    }
}

#[test]
fn vlans_are_interfaces_behind_those_with_a_driver() {
    let text = format!(
        "[[vlan]]\nname = \"eth1.5\"\nlink = \"eth1\"\nid = 5\naddresses = [\"10.5.0.1/24\"]\n{MINIMAL}\
         [[interface]]\nname = \"eth1\"\ndriver = \"wire\"\nmtu = 1400\n\
         [[vlan]]\nname = \"s9\"\nlink = \"eth0\"\nid = 9\nprotocol = \"802.1ad\"\negress_qos_map = [\"2:1\", \"6:5\"]\ningress_qos_map = [\"5:6\"]\nmac = \"02:00:00:00:00:09\"\n\
         [[route]]\nto = \"192.0.2.0/24\"\nvia = \"10.5.0.254\"\n\
         [[route]]\nto = \"default\"\ndev = \"s9\"\n\
         [[service]]\nlisten = \"10.5.0.1:80\"\napp = \"http\"\n"
    );
    let host = parse(&text);
    let devices: Vec<stack::VlanConfig> = host.vlans.iter().map(VlanConfig::device).collect();
    let (five, nine) = (&devices[0], &devices[1]);
    assert_eq!((five.name.as_str(), five.parent.as_str(), five.tpid, five.id), ("eth1.5", "eth1", EtherType::VLAN, 5));
    assert_eq!((five.mac, five.mtu, five.addresses.len()), (None, None, 1), "as the interface below it");
    assert_eq!((nine.tpid, nine.mac), (EtherType::QINQ, Some(MacAddr([2, 0, 0, 0, 0, 9]))));
    assert_eq!([0, 2, 6].map(|priority| nine.egress.tag_of(priority)), [0, 1, 5]);
    let tag = |priority: u16| rxpath_wire::VlanTag { tpid: EtherType::VLAN, tci: priority << 13 | 9 };
    assert_eq!([4, 5].map(|priority| nine.ingress.priority_of(tag(priority))), [0, 6]);
    let by: Vec<Option<u16>> = host.route_specs().iter().map(|route| route.ifindex).collect();
    assert_eq!(by, [Some(3), Some(4)]);
}
