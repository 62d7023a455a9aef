//! Length of files and functions.

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use crate::tree::Source;

/// Lines of the longest file.
pub const FILE_LINES: usize = 900;
/// Lines of the longest function, from its signature to its closing brace.
pub const FUNCTION_LINES: usize = 110;

/// A function with its place and length.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub place: String,
    pub name: String,
    pub lines: usize,
}

pub fn long_files(sources: &[Source]) -> Vec<String> {
    let long = |source: &&Source| source.text.lines().count() > FILE_LINES;
    let finding = |source: &Source| {
        format!("{}: {} lines; split it: at most {FILE_LINES}", source.path, source.text.lines().count())
    };
    sources.iter().filter(long).map(finding).collect()
}

/// All functions of the files, those in functions included; those that macros make are not seen.
pub fn functions_of(sources: &[Source]) -> Result<Vec<Function>, String> {
    let mut functions = Vec::new();
    for source in sources {
        let file = syn::parse_file(&source.text)
            .map_err(|error| format!("{}:{}: {error}", source.path, error.span().start().line))?;
        let mut finder = Finder { path: &source.path, functions: &mut functions };
        finder.visit_file(&file);
    }
    Ok(functions)
}

pub fn long_functions(functions: &[Function]) -> Vec<String> {
    functions
        .iter()
        .filter(|function| function.lines > FUNCTION_LINES)
        .map(|f| format!("{}: fn {} has {} lines; split it: at most {FUNCTION_LINES}", f.place, f.name, f.lines))
        .collect()
}

/// The 99th percentile may not rise above the number, nor fall far below it without the number.
pub fn ratchet(functions: &[Function], number: usize, slack: usize) -> Vec<String> {
    let p99 = percentile_99(functions.iter().map(|function| function.lines).collect());
    if p99 > number {
        let mut longest: Vec<&Function> = functions.iter().filter(|function| function.lines > number).collect();
        longest.sort_by_key(|function| std::cmp::Reverse(function.lines));
        let list = longest.iter().map(|f| format!("\n  {}: fn {} has {}", f.place, f.name, f.lines));
        return vec![format!(
            "99 of 100 functions have at most {p99} lines; the ratchet stands at {number}; shorten some of:{}",
            list.collect::<String>()
        )];
    }
    if p99 + slack < number {
        return vec![format!("99 of 100 functions have at most {p99} lines; lower the ratchet from {number} to {p99}")];
    }
    Vec::new()
}

/// The least length that at least 99 of 100 do not exceed; 0 of none.
fn percentile_99(mut lengths: Vec<usize>) -> usize {
    lengths.sort_unstable();
    let rank = (lengths.len() * 99).div_ceil(100);
    rank.checked_sub(1).and_then(|index| lengths.get(index)).copied().unwrap_or(0)
}

struct Finder<'a> {
    path: &'a str,
    functions: &'a mut Vec<Function>,
}

impl Finder<'_> {
    fn found(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let last = block.span().end().line;
        self.functions.push(Function {
            place: format!("{}:{first}", self.path),
            name: signature.ident.to_string(),
            lines: last + 1 - first,
        });
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.found(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.found(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.found(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(lines: usize) -> Function {
        Function { place: "a.rs:1".into(), name: "f".into(), lines }
    }

    #[test]
    fn a_long_file_is_found() {
        let lines = |count| Source::sample("a.rs", &"//\n".repeat(count));
        assert_eq!(long_files(&[lines(900)]), [""; 0]);
        assert_eq!(long_files(&[lines(901)]), ["a.rs: 901 lines; split it: at most 900"]);
    }

    #[test]
    fn functions_are_found_wherever_they_stand() {
        let text = "fn a() {\n}\nimpl B { fn b() {\n\n} }\ntrait C { fn c(); fn d() { fn e() {\n } } }\n";
        let found = functions_of(&[Source::sample("a.rs", text)]).expect("parses");
        let found: Vec<_> = found.iter().map(|f| format!("{} {} {}", f.place, f.name, f.lines)).collect();
        assert_eq!(found, ["a.rs:1 a 2", "a.rs:3 b 3", "a.rs:6 d 2", "a.rs:6 e 2"]);
    }

    #[test]
    fn a_file_that_does_not_parse_is_an_error() {
        let error = functions_of(&[Source::sample("a.rs", "fn a() {}\nfn fn")]).expect_err("does not parse");
        assert!(error.starts_with("a.rs:2: "), "{error}");
    }

    #[test]
    fn a_long_function_is_found() {
        assert_eq!(long_functions(&[function(110)]), [""; 0]);
        assert_eq!(long_functions(&[function(111)]), ["a.rs:1: fn f has 111 lines; split it: at most 110"]);
    }

    #[test]
    fn the_ratchet_holds_both_ways() {
        let functions =
            |tail| (0..99).map(|_| function(10)).chain([function(tail), function(tail)]).collect::<Vec<_>>();
        assert_eq!(percentile_99(vec![]), 0);
        assert_eq!(percentile_99(vec![3]), 3);
        assert_eq!(percentile_99((1..=100).collect()), 99);
        assert_eq!(ratchet(&functions(70), 80, 15), [""; 0]);
        assert!(ratchet(&functions(81), 80, 15)[0].ends_with("fn f has 81"), "two of 101 are above");
        assert!(ratchet(&functions(64), 80, 15)[0].ends_with("lower the ratchet from 80 to 64"));
    }
}
