//! The reference of `host.toml`, from the table that the reader obeys.

use std::fmt::Write as _;

use rxpath_core::sysctl::{ALIASES, CONF_KNOBS, DeviceKnob, KNOBS, NEIGH_KNOBS, Sysctls};

use super::keys::{Absent, FAULTS, Key, SECTIONS, SYSCTL, Section};

/// A whole file, for the reference's beginning.
pub(super) const EXAMPLE: &str = r#"[[interface]]
name = "eth0"
driver = "tap"
mac = "02:00:00:00:aa:01"
addresses = ["10.9.0.1/24"]
queues = 2

[[route]]
to = "default"
via = "10.9.0.254"

[sysctl]
"net.ipv4.tcp_rmem" = "4096 131072 6291456"

[[service]]
listen = "0.0.0.0:80"
app = "http"

[life]
select = "1/100"
"#;

/// The reference of `host.toml` as Markdown: every section, every key, what it takes, its default, what it does.
pub fn reference() -> String {
    let mut text = String::from(
        "# host.toml\n\n\
         <!-- Generated from the table of keys in crates/rxpath/src/config/keys.rs: change that, then run\n     \
         RXPATH_BLESS=1 cargo test -p rxpath the_reference -->\n\n\
         What a host is: its interfaces, routes, tunables and services, as [TOML](https://toml.io). A whole file:\n\n",
    );
    let _ = write!(text, "```toml\n{EXAMPLE}```\n\n");
    text.push_str(
        "Sections in `[[double brackets]]` may be given several times. What is wrong with a file is told all at once,\n\
         each finding with its line, its column and the mend:\n\n\
         ```text\n\
         host.toml:12:1: unknown key \"adress\" in [[interface]]; did you mean \"addresses\"?\n\
         ```\n",
    );
    for section in SECTIONS {
        write_section(&mut text, section);
        if section.keys.iter().any(|key| key.name == FAULTS.name) {
            write_section(&mut text, &FAULTS);
        }
    }
    text
}

fn write_section(text: &mut String, section: &Section) {
    let level = if section.name == FAULTS.name { "###" } else { "##" };
    let _ = write!(text, "\n{level} `{}`\n\n{}\n\n", section.header, section.what);
    if section.name == SYSCTL.name {
        return write_sysctls(text);
    }
    text.push_str("| key | takes | default | meaning |\n|---|---|---|---|\n");
    for key in section.keys {
        let default = match key.absent {
            Absent::Required => "required".to_owned(),
            Absent::Is(value) => format!("`{value}`"),
            Absent::Means(words) => words.to_owned(),
        };
        let _ =
            writeln!(text, "| `{}` | {}, as in `{}` | {default} | {} |", key.name, takes(key), key.example, key.what);
    }
}

fn takes(key: &Key) -> String {
    key.form.describe().replace('|', "\\|")
}

fn write_sysctls(text: &mut String) {
    text.push_str(
        "Values are texts (`\"4096 131072 6291456\"`), numbers, or `true` and `false`; names may have dots or slashes, and\n\
         names with dots need no quotes. The defaults are Linux 6.18's.\n\n\
         | name | takes | each within | unit | default | meaning |\n|---|---|---|---|---|---|\n",
    );
    let defaults = Sysctls::default();
    for knob in KNOBS {
        let default = defaults.show(knob.name).unwrap_or_default();
        let _ = writeln!(
            text,
            "| `{}` | {} | {} to {} | {} | `{default}` | {} |",
            knob.name,
            knob.form.describe(),
            knob.least,
            knob.most,
            knob.unit,
            knob.what
        );
    }
    for (alias, name) in ALIASES {
        let default = defaults.show(alias).unwrap_or_default();
        let _ = writeln!(text, "| `{alias}` | 0 or 1 | 0 to 1 | switch | `{default}` | The same as `{name}`. |");
    }
    write_device_sysctls(text);
}

fn write_device_sysctls(text: &mut String) {
    text.push_str(
        "\nThe following are set for one interface by its name (`net.ipv4.conf.eth0.rp_filter`), for all of them\n\
         (`net.ipv4.conf.all.rp_filter`), or as what interfaces begin with (`net.ipv4.conf.default.rp_filter`). A dot in an\n\
         interface's name may be written as it is, or as a slash. Settings count in the order of the file.\n\n\
         | name | takes | each within | unit | default | meaning | what holds |\n|---|---|---|---|---|---|---|\n",
    );
    for known in CONF_KNOBS {
        write_device_sysctl(text, "net.ipv4.conf.NAME", known, &format!(" {} |", known.combine.describe()));
    }
    text.push_str(
        "\nAnd these for the neighbours of one interface (`net.ipv4.neigh.eth0.locktime`), or of those for which nothing else is\n\
         set (`net.ipv4.neigh.default.locktime`). The older names `base_reachable_time` (seconds), `retrans_time` (hundredths\n\
         of a second) and `unres_qlen` (packets) are understood, too.\n\n\
         | name | takes | each within | unit | default | meaning |\n|---|---|---|---|---|---|\n",
    );
    for known in NEIGH_KNOBS {
        write_device_sysctl(text, "net.ipv4.neigh.NAME", known, "");
    }
}

fn write_device_sysctl(text: &mut String, prefix: &str, known: &DeviceKnob, last: &str) {
    let (knob, name) = (&known.knob, format!("{prefix}.{}", known.knob.name));
    let default = Sysctls::default().show(&name).unwrap_or_default();
    let _ = writeln!(
        text,
        "| `{name}` | {} | {} to {} | {} | `{default}` | {} |{last}",
        knob.form.describe(),
        knob.least,
        knob.most,
        knob.unit,
        knob.what
    );
}
