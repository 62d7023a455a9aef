//! Walking a file's tokens: unlike its syntax tree they include what stands in macros; unlike its text they exclude
//! strings and comments.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What follows a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    Brace,
    Parenthesis,
    Bracket,
    Word(&'a str),
    Sign(char),
    Nothing,
}

/// Calls `see` with each identifier or keyword of the stream: what stood before it (in its group), the word, what
/// follows, and its line.
pub fn words(stream: TokenStream, see: &mut dyn FnMut(Next<'_>, &str, Next<'_>, usize)) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let texts: Vec<String> = trees.iter().map(word_text).collect();
    let near = |index: Option<usize>| match index.and_then(|index| Some((trees.get(index)?, texts.get(index)?))) {
        Some((tree, text)) => kind(tree, text),
        None => Next::Nothing,
    };
    for (index, tree) in trees.iter().enumerate() {
        match tree {
            TokenTree::Ident(word) => {
                see(near(index.checked_sub(1)), &texts[index], near(Some(index + 1)), word.span().start().line);
            }
            TokenTree::Group(group) => words(group.stream(), see),
            _ => {}
        }
    }
}

fn word_text(tree: &TokenTree) -> String {
    match tree {
        TokenTree::Ident(word) => word.to_string(),
        _ => String::new(),
    }
}

fn kind<'a>(tree: &TokenTree, text: &'a str) -> Next<'a> {
    match tree {
        TokenTree::Ident(_) => Next::Word(text),
        TokenTree::Punct(sign) => Next::Sign(sign.as_char()),
        TokenTree::Literal(_) => Next::Nothing,
        TokenTree::Group(group) => match group.delimiter() {
            Delimiter::Brace => Next::Brace,
            Delimiter::Parenthesis => Next::Parenthesis,
            Delimiter::Bracket => Next::Bracket,
            Delimiter::None => Next::Nothing,
        },
    }
}

/// The tokens of a file; an error names the file.
pub fn of(source: &crate::tree::Source) -> Result<TokenStream, String> {
    source.text.parse().map_err(|error| format!("{}: does not split into tokens: {error}", source.path))
}

#[test]
fn words_are_seen_in_macros_and_not_in_strings() {
    let stream: TokenStream = "a!(b { c(d) }, \"e\"); // f".parse().expect("tokens");
    let mut seen = Vec::new();
    words(stream, &mut |before, word, after, line| seen.push(format!("{before:?} {word} {after:?} {line}")));
    assert_eq!(seen, ["Nothing a Sign('!') 1", "Nothing b Brace 1", "Nothing c Parenthesis 1", "Nothing d Nothing 1"]);
}
