//! The page that the http service gives: the stack, seen from inside.

use std::fmt::Write as _;
use std::sync::Arc;

use rxpath::Stack;

use super::running::Page;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
                     td,th{text-align:left;padding-right:2rem}code,pre{font-size:.9em}";

/// What makes the page of this stack.
pub fn of(stack: &Stack) -> Page {
    let core = stack.core().clone();
    Arc::new(move || {
        let (snapshot, ledger) = (core.snapshot(), core.ledger());
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>rxpath</title>\n<style>{STYLE}</style>\n\
             <h1>rxpath</h1>\n<p>This page came out of a TCP/IP stack in user space. Its account of all packets so \
             far:</p>\n<pre>{ledger}</pre>\n<table>\n<tr><th>counter<th>value\n"
        );
        for (counter, value) in snapshot.nonzero() {
            // Writing to a String cannot fail.
            let _ = writeln!(page, "<tr><td><code>{counter}</code><td>{}", value.cast_signed());
        }
        page.push_str("</table>\n</html>\n");
        page
    })
}
