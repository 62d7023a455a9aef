//! The control socket: how one process looks into the stack of another.
//!
//! A Unix stream socket. A client sends one [`Ask`] as a line of JSON and gets one [`Reply`] as a line of JSON; then it
//! may ask again. After [`Ask::Lives`] and [`Ask::Dump`] replies come until either side closes. Requests are bounded in length, replies
//! in the number of lives, connections in number; what is malformed is answered with an error, and the connection stays.
//!
//! | file | holds |
//! |---|---|
//! | `server.rs` | the socket, its connections |
//! | `client.rs` | asking |
//! | `store.rs` | the lives that ended lately, out of the stack's event rings |
//! | `window.rs` | what is answered from: a stack and its store |
//! | `dump.rs` | packets, to a client that watches |

pub mod client;
pub mod dump;
pub mod server;
pub mod store;
pub mod window;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest request, in bytes, its line feed included.
pub const MAX_REQUEST: usize = 16 << 10;
/// The most that may wait for a client of [`Ask::Dump`], in kibibytes of truesize: packets that wait hold buffers that
/// devices want.
pub const MAX_DUMP_KIB: u32 = 8_192;
/// The most lives that one reply has.
pub const MAX_LIVES: usize = 1_000;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// [`CounterRow`](crate::views::CounterRow)s.
    Counters,
    /// [`SocketRow`](crate::views::SocketRow)s.
    Sockets,
    /// [`Drops`](crate::views::Drops).
    Drops,
    /// [`SoftnetRow`](crate::views::SoftnetRow)s.
    Softnet,
    /// [`CounterRow`](crate::views::CounterRow)s of an interface and its rings.
    Interface {
        /// Its name.
        name: String,
    },
    /// [`DumpStart`](crate::views::dump::DumpStart), then [`DumpBatch`](crate::views::dump::DumpBatch)es until either side
    /// closes.
    Dump {
        /// Packets of this interface; of all, if none is named.
        #[serde(default)]
        interface: Option<String>,
        /// Those that this filter matches.
        #[serde(default)]
        filter: Option<String>,
        /// Bytes of each that are kept.
        snaplen: u32,
        /// Kibibytes of truesize that may wait for the client.
        buffer_kib: u32,
    },
    /// [`RouteRow`](crate::views::route::RouteRow)s of all tables.
    Routes,
    /// [`NeighbourRow`](crate::views::neigh::NeighbourRow)s of all interfaces.
    Neighbours,
    /// [`ProxyRow`](crate::views::neigh::ProxyRow)s of all interfaces.
    Proxies,
    /// Changes a neighbour; answered with nothing, or why not by iproute2's words.
    SetNeighbour(crate::views::neigh::Change),
    /// [`ProcFiles`](crate::views::ProcFiles).
    Proc,
    /// [`Lives`](crate::views::Lives): the newest that ended.
    Lives {
        /// How many at the most.
        last: usize,
        /// Those that this filter matches.
        #[serde(default)]
        filter: Option<String>,
        /// Those that ended in a drop.
        #[serde(default)]
        dropped: bool,
        /// After that reply, a [`LifeRow`](crate::views::LifeRow) for each life that ends from now on.
        #[serde(default)]
        follow: bool,
    },
    /// Which lives are recorded from now on; answered with the selector as understood.
    Select {
        /// `all`, `off`, `1/N`, or a filter.
        lives: String,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// What was asked for.
    Ok(Value),
    /// Why not, with the mend.
    Error(String),
}

impl Reply {
    /// Plain data.
    fn of(value: &impl Serialize) -> Reply {
        match serde_json::to_value(value) {
            Ok(value) => Reply::Ok(value),
            Err(error) => Reply::Error(format!("the answer cannot be written as JSON: {error}")),
        }
    }
}

/// Where the control socket is if nothing says otherwise: the user's run-time folder; `/run` where there is none.
pub fn default_path() -> PathBuf {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    PathBuf::from(folder.unwrap_or_else(|| "/run".into())).join("rxpath.sock")
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A path for a test's socket, of this process alone.
    pub fn socket_path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("rxpath-{}-{name}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    #[test]
    fn requests_are_plain_lines() {
        for (ask, line) in [
            (Ask::Counters, r#"{"ask":"counters"}"#),
            (
                Ask::Dump { interface: Some("eth0".to_owned()), filter: None, snaplen: 64, buffer_kib: 512 },
                r#"{"ask":"dump","interface":"eth0","filter":null,"snaplen":64,"buffer_kib":512}"#,
            ),
            (Ask::Select { lives: "1/100".to_owned() }, r#"{"ask":"select","lives":"1/100"}"#),
            (
                Ask::Lives { last: 3, filter: Some("tcp".to_owned()), dropped: true, follow: false },
                r#"{"ask":"lives","last":3,"filter":"tcp","dropped":true,"follow":false}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&ask).expect("JSON"), line);
            assert_eq!(serde_json::from_str::<Ask>(line).expect("understood"), ask);
        }
        let short: Ask = serde_json::from_str(r#"{"ask":"lives","last":3}"#).expect("understood");
        assert_eq!(short, Ask::Lives { last: 3, filter: None, dropped: false, follow: false });
        assert!(serde_json::from_str::<Ask>(r#"{"ask":"lives","last":3,"more":1}"#).is_err());
    }

    #[test]
    fn replies_are_plain_lines() {
        assert_eq!(serde_json::to_string(&Reply::Ok(1.into())).expect("JSON"), r#"{"ok":1}"#);
        assert_eq!(serde_json::to_string(&Reply::Error("no".to_owned())).expect("JSON"), r#"{"error":"no"}"#);
    }
}
