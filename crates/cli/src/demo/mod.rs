//! `rxpath demo`: all of it in some seconds, without set-up.
//!
//! | file | holds |
//! |---|---|
//! | `stage.rs` | where it takes place: a TAP in a private namespace, or an in-memory cable |
//! | `acts.rs` | what clients do |
//! | `inject.rs` | frames that no sane sender sends |
//! | `books.rs` | whether lives, ledger and counters tell the same |
//! | `report.rs` | what is shown |

mod acts;
mod books;
mod inject;
mod report;
mod stage;

use rxpath_trace::Selector;

use crate::args::DemoArgs;
use crate::failure::Failure;
use crate::out::Out;
use acts::Act;
use books::Books;
use report::Report;
use stage::{Clients, Stage};

/// Of the bulk data's packets, one life in so many is recorded: all of them would overflow the rings.
const ONE_IN: u64 = 100;

/// `rxpath demo`.
///
/// # Errors
/// There is no stage at all; a client failed; the books do not balance or disagree; the output is not taken.
pub fn run(out: &mut Out, args: &DemoArgs, json: bool) -> Result<(), Failure> {
    let stage = Stage::set(args.wire)?;
    if !json {
        report::introduce(out, &stage)?;
    }
    perform(out, &stage, json)?.conclude(out, json)
}

/// All acts, each told as soon as it is over.
fn perform(out: &mut Out, stage: &Stage, json: bool) -> Result<Report, Failure> {
    let mut books = Books::open(&stage.stack);
    let names = stage.names();
    let http = acts::start_http(stage)?;
    let mut performed = Vec::new();
    let mut tell = |out: &mut Out, act: Act| -> Result<(), Failure> {
        if !json {
            report::tell(out, &act)?;
        }
        performed.push(act);
        Ok(())
    };
    tell(out, Act::perform("page", || acts::fetch_page(stage)))?;
    let turned = books.turn_over(Selector::OneIn(ONE_IN));
    tell(out, Act::perform("bulk", || turned.and_then(|()| acts::send_bulk(stage))))?;
    let turned = books.turn_over(Selector::All);
    tell(out, Act::perform("knock", || turned.and_then(|()| acts::knock(stage))))?;
    tell(out, Act::perform("inject", || acts::inject_around(stage, &mut || books.rcv_nxt())))?;
    let silent = books.turn_over(Selector::All);
    if let Err(error) = silent {
        tell(out, Act { name: "silence", what: format!("{error:#}"), ok: false, took_us: 0 })?;
    }
    stage.stack.shutdown();
    http.join();
    books.close();
    let far = match &stage.clients {
        Clients::Kernel => None,
        Clients::Stack(far) => {
            far.shutdown();
            Some(far.ledger())
        }
    };
    Ok(Report::new(stage, performed, &books, names, far))
}
