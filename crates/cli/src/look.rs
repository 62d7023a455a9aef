//! The commands that look into a running stack over its control socket.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::args::{
    ControlArgs, DropsArgs, EthtoolArgs, LifeArgs, NeighArgs, NstatArgs, ProcArgs, RouteArgs, SoftnetArgs, SsArgs,
};
use crate::control::Ask;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::out::{Out, note};
use crate::views::neigh::{Change, NeighbourRow, ProxyRow, Verb};
use crate::views::route::RouteRow;
use crate::views::ss::{Services, Show, Summary};
use crate::views::{
    CounterRow, Drops, LifeRow, Lives, ProcFiles, SocketRow, SoftnetRow, drops as drops_view, ethtool as ethtool_view,
    lives, neigh as neigh_view, nstat as nstat_view, route as route_view, softnet as softnet_view, ss as ss_view,
};

/// Lives that are shown if nothing says how many.
const LAST: u16 = 10;

fn client(args: &ControlArgs) -> anyhow::Result<Client> {
    Client::connect(args.control.as_deref())
}

/// `rxpath life`.
///
/// # Errors
/// No stack answers, or it refuses, or the output is not taken; so for all functions here.
pub fn life(out: &mut Out, args: &LifeArgs, json: bool) -> Result<(), Failure> {
    let mut client = client(&args.control)?;
    if let Some(selector) = &args.select {
        let selected: String = client.ask(&Ask::Select { lives: selector.to_string() })?;
        return match json {
            true => out.json(&serde_json::json!({ "selected": selected })),
            false => out.line(format_args!("recorded from now on: {selected}")),
        };
    }
    let last = usize::from(args.last.unwrap_or(if args.follow { 0 } else { LAST }));
    let filter = args.filter.as_ref().map(ToString::to_string);
    let answer: Lives = client.ask(&Ask::Lives { last, filter, dropped: args.dropped, follow: args.follow })?;
    if !args.follow {
        return lives::print_all(out, &answer, json);
    }
    answer.lives.iter().try_for_each(|life| lives::print(out, life, json))?;
    out.flush()?;
    if answer.selected == "off" {
        note(lives::NONE_RECORDED);
    }
    // The stack says nothing at times to learn whether somebody listens: a moment to see whether somebody listens to us.
    while let Some(life) = client.next::<Option<LifeRow>>()? {
        match life {
            Some(life) => lives::print(out, &life, json)?,
            None => out.check_reader()?,
        }
        out.flush()?;
    }
    Ok(())
}

/// `rxpath drops`.
pub fn drops(out: &mut Out, args: &DropsArgs, json: bool) -> Result<(), Failure> {
    let drops: Drops = client(&args.control)?.ask(&Ask::Drops)?;
    if json { out.json(&drops) } else { drops_view::print(out, &drops) }
}

/// `rxpath ss`.
pub fn ss(out: &mut Out, args: &SsArgs, json: bool) -> Result<(), Failure> {
    let mut client = client(&args.control)?;
    if args.summary {
        let summary = Summary::of(&client.ask(&Ask::Proc)?);
        return if json { out.json(&summary) } else { out.text(summary) };
    }
    let rows: Vec<SocketRow> = client.ask(&Ask::Sockets)?;
    let &SsArgs { tcp, udp, raw, numeric, listening, all, no_header, memory, info, options, .. } = args;
    let show = Show { tcp, udp, raw, numeric, listening, all, no_header, memory, info, options };
    if json {
        return out.json(&rows.iter().filter(|row| show.shows(row)).collect::<Vec<_>>());
    }
    let names = if numeric { String::new() } else { fs::read_to_string("/etc/services").unwrap_or_default() };
    ss_view::print(out, &rows, show, &Services::parse(&names))
}

/// `rxpath nstat`.
pub fn nstat(out: &mut Out, args: &NstatArgs, json: bool) -> Result<(), Failure> {
    let rows: Vec<CounterRow> = client(&args.control)?.ask(&Ask::Counters)?;
    nstat_view::print(out, &rows, nstat_view::Wanted { zeros: args.zeros, patterns: &args.patterns }, json)
}

/// `rxpath softnet`.
pub fn softnet(out: &mut Out, args: &SoftnetArgs, json: bool) -> Result<(), Failure> {
    let mut client = client(&args.control)?;
    let rows: Vec<SoftnetRow> = client.ask(&Ask::Softnet)?;
    if json {
        return out.json(&rows);
    }
    let counters: Vec<CounterRow> = client.ask(&Ask::Counters)?;
    softnet_view::print(out, &rows, &counters)
}

/// `rxpath ethtool -S`.
pub fn ethtool(out: &mut Out, args: &EthtoolArgs, json: bool) -> Result<(), Failure> {
    let rows: Vec<CounterRow> = client(&args.control)?.ask(&Ask::Interface { name: args.statistics.clone() })?;
    if json { out.json(&rows) } else { ethtool_view::print(out, &rows) }
}

/// `rxpath route`.
pub fn route(out: &mut Out, args: &RouteArgs, json: bool) -> Result<(), Failure> {
    let mut rows: Vec<RouteRow> = client(&args.control)?.ask(&Ask::Routes)?;
    if json {
        return out.json(&rows);
    }
    rows.retain(|row| row.table == args.table);
    route_view::print(out, &rows)
}

/// `rxpath neigh`.
pub fn neigh(out: &mut Out, args: &NeighArgs, json: bool) -> Result<(), Failure> {
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    let verb = Verb::parse(&words, args.dev.as_deref()).map_err(Failure::Usage)?;
    let mut client = client(&args.control)?;
    match verb {
        Verb::Change(change) => {
            let refused: Option<String> = client.ask(&Ask::SetNeighbour(change))?;
            refused.map_or(Ok(()), |why| Err(Failure::Failed(anyhow::Error::msg(why))))
        }
        Verb::ShowProxies => {
            let rows: Vec<ProxyRow> = client.ask(&Ask::Proxies)?;
            if json { out.json(&rows) } else { neigh_view::print_proxies(out, &rows) }
        }
        Verb::Show(chosen) => {
            let mut rows: Vec<NeighbourRow> = client.ask(&Ask::Neighbours)?;
            rows.retain(|row| chosen.chooses(row));
            if json { out.json(&rows) } else { neigh_view::print(out, &rows, chosen.dev.is_some()) }
        }
        Verb::Flush(chosen) => {
            let rows: Vec<NeighbourRow> = client.ask(&Ask::Neighbours)?;
            let mut gone = 0;
            for row in rows.into_iter().filter(|row| chosen.chooses(row)) {
                let refused: Option<String> = client.ask(&Ask::SetNeighbour(Change::delete(row.dst, row.dev)))?;
                // What is gone meanwhile need not be flushed.
                gone += usize::from(refused.is_none());
            }
            match (json, gone) {
                (true, _) => out.json(&serde_json::json!({ "flushed": gone })),
                (false, 0) => out.line("Nothing to flush."),
                (false, _) => Ok(()),
            }
        }
    }
}

/// `rxpath proc`.
pub fn proc(out: &mut Out, args: &ProcArgs, json: bool) -> Result<(), Failure> {
    let files: ProcFiles = client(&args.control)?.ask(&Ask::Proc)?;
    write_tree(&args.dir, &files)?;
    if json {
        return out.json(&files.keys().map(|path| args.dir.join(path)).collect::<Vec<_>>());
    }
    files.keys().try_for_each(|path| out.line(args.dir.join(path).display()))
}

/// Writes files below a folder, which is made if it is not there.
fn write_tree(folder: &Path, files: &ProcFiles) -> anyhow::Result<()> {
    for (path, text) in files {
        // The other side names the files: only plain names, so that none leaves the folder.
        let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        anyhow::ensure!(path.split('/').all(plain), "the stack names a file {path:?}; that is not rxpath");
        let file = folder.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).with_context(|| format!("making the folder {}", parent.display()))?;
        }
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_below_their_folder() {
        let folder = std::env::temp_dir().join(format!("rxpath-tree-{}", std::process::id()));
        let files = |path: &str| ProcFiles::from([(path.to_owned(), "x\n".to_owned())]);
        write_tree(&folder, &files("net/tcp")).expect("written");
        assert_eq!(fs::read_to_string(folder.join("net/tcp")).expect("there"), "x\n");
        for path in ["../x", "/etc/x", "net//x", "net/./x", ""] {
            write_tree(&folder, &files(path)).expect_err(path);
        }
        fs::remove_dir_all(&folder).expect("removed");
    }
}
