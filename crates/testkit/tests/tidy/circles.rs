//! No circle between the files of the core: a file that needs another is never needed by it, not even over a third.
//!
//! What a file needs are the paths that it names, each followed through `pub use` to the file that defines the item.
//! What a file only passes on (other than by `*`) it does not need. Methods are no paths, and a type that a file gives
//! methods to is no need of it: files may share the work of one type. A file may name what the modules around it define
//! (a room's constants in its `mod.rs`): it stands within them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::paths::{self, Import};
use crate::rooms::SHARED;
use crate::tree::Source;

/// Rounds of `pub use` that a path is followed through.
const REEXPORTS: usize = 8;

pub fn findings(core: &[&Source]) -> Vec<String> {
    let files = match read(core) {
        Ok(files) => files,
        Err(error) => return vec![error],
    };
    let needs: Vec<BTreeSet<usize>> =
        files.list.iter().enumerate().map(|(index, file)| files.needs(index, file)).collect();
    circles(&needs).into_iter().map(|circle| files.tell(&circle, &needs)).collect()
}

struct File<'a> {
    path: &'a str,
    module: Vec<String>,
    imports: Vec<Import>,
    /// Names that the file passes on, with where they come from.
    reexports: HashMap<String, Vec<String>>,
}

struct Files<'a> {
    list: Vec<File<'a>>,
    by_module: HashMap<Vec<String>, usize>,
}

fn read<'a>(core: &[&'a Source]) -> Result<Files<'a>, String> {
    let mut files = Files { list: Vec::new(), by_module: HashMap::new() };
    for source in core {
        let module = paths::module_of(&source.path);
        let imports = paths::imports(source)?;
        let mut file = File { path: &source.path, module, imports, reexports: HashMap::new() };
        for import in file.imports.iter().filter(|import| import.is_reexport) {
            if let Some(last) = import.segments.last() {
                let name = import.renamed.clone().unwrap_or_else(|| last.clone());
                file.reexports.insert(name, import.segments.clone());
            }
        }
        files.by_module.insert(file.module.clone(), files.list.len());
        files.list.push(file);
    }
    Ok(files)
}

impl Files<'_> {
    /// The files that define what a file names, without itself, the modules that it stands in, and the shared ones.
    fn needs(&self, index: usize, file: &File<'_>) -> BTreeSet<usize> {
        if is_shared(file) {
            return BTreeSet::new();
        }
        let imports = file.imports.iter().filter(|import| !import.is_reexport && !import.is_extended);
        let found = imports.filter_map(|import| self.file_of(&self.absolute(file, &import.segments), REEXPORTS));
        let counts = |other: &File<'_>| !is_shared(other) && !file.module.starts_with(&other.module);
        found.filter(|found| *found != index && self.list.get(*found).is_some_and(counts)).collect()
    }

    /// A path that begins with a module beside or in the file (`tx::send`, after `use crate::tx`) from the root.
    fn absolute(&self, file: &File<'_>, segments: &[String]) -> Vec<String> {
        let Some(first) = segments.first().filter(|first| *first != "crate") else { return segments.to_vec() };
        let child: Vec<String> = file.module.iter().chain([first]).cloned().collect();
        if self.by_module.contains_key(&child) {
            return ["crate".to_owned()]
                .into_iter()
                .chain(file.module.iter().cloned())
                .chain(segments.iter().cloned())
                .collect();
        }
        let named = |import: &&Import| import.renamed.as_ref().or(import.segments.last()) == Some(first);
        match file.imports.iter().find(|import| import.is_use && named(import)) {
            Some(import) => import.segments.iter().chain(&segments[1..]).cloned().collect(),
            None => segments.to_vec(),
        }
    }

    /// The file that defines what a path from the root leads to; nothing for paths into other crates.
    fn file_of(&self, segments: &[String], rounds: usize) -> Option<usize> {
        let (root, inside) = segments.split_first()?;
        if root != "crate" || rounds == 0 {
            return None;
        }
        // The longest beginning of the path that is a file; the rest begins with an item of it.
        let depth = (0..=inside.len()).rev().find(|depth| self.by_module.contains_key(&inside[..*depth]))?;
        let index = *self.by_module.get(&inside[..depth])?;
        let Some(item) = inside.get(depth) else { return Some(index) };
        let file = self.list.get(index)?;
        match file.reexports.get(item) {
            Some(origin) => self.file_of(&self.absolute(file, origin), rounds - 1),
            None => Some(index),
        }
    }

    fn tell(&self, circle: &[usize], needs: &[BTreeSet<usize>]) -> String {
        let name = |index: &usize| self.list.get(*index).map_or("", |file| file.path);
        let mut text = "these files need each other; move what both need into a third:".to_owned();
        for index in circle {
            let others = needs.get(*index).into_iter().flatten().filter(|other| circle.contains(other));
            let others: Vec<&str> = others.map(name).collect();
            text.push_str(&format!("\n  {} needs {}", name(index), others.join(", ")));
        }
        text
    }
}

fn is_shared(file: &File<'_>) -> bool {
    file.module.first().is_some_and(|room| SHARED.contains(&room.as_str())) || file.module.is_empty()
}

/// Sets of more than one that reach each other: by taking away, again and again, what needs nothing that is left or is
/// needed by nothing that is left, then grouping the rest by what they reach.
fn circles(needs: &[BTreeSet<usize>]) -> Vec<Vec<usize>> {
    let reach: Vec<BTreeSet<usize>> = (0..needs.len()).map(|start| reached(start, needs)).collect();
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, reached) in reach.iter().enumerate() {
        let mutual =
            reached.iter().copied().filter(|other| reach.get(*other).is_some_and(|back| back.contains(&index)));
        if let Some(least) = mutual.min() {
            groups.entry(least.min(index)).or_default().push(index);
        }
    }
    groups.into_values().filter(|group| group.len() > 1).collect()
}

/// All that is needed by one, directly or over others.
fn reached(start: usize, needs: &[BTreeSet<usize>]) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open = vec![start];
    while let Some(index) = open.pop() {
        for next in needs.get(index).into_iter().flatten() {
            if found.insert(*next) {
                open.push(*next);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::sample(&format!("crates/core/src/{path}"), text)).collect();
        findings(&sources.iter().collect::<Vec<_>>())
    }

    #[test]
    fn two_files_that_need_each_other_are_found() {
        let found = of(&[("a.rs", "use crate::b::B;"), ("b.rs", "fn b() { crate::a::a() }")]);
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with(
            "\n  crates/core/src/a.rs needs crates/core/src/b.rs\n  crates/core/src/b.rs needs crates/core/src/a.rs"
        ));
    }

    #[test]
    fn a_circle_over_a_third_file_and_over_reexports_is_found() {
        let a = ("a/mod.rs", "mod x; pub use x::X; pub fn f() {}");
        let x = ("a/x.rs", "use crate::b; fn g() { b::f() }");
        let b = ("b.rs", "use crate::c::C;");
        assert_eq!(of(&[a, x, b, ("c.rs", "use crate::a::X;")]).len(), 1, "c needs the file behind the re-export");
        assert_eq!(of(&[a, x, b, ("c.rs", "use crate::a::f;")]), [""; 0], "a/mod.rs itself needs nothing");
    }

    #[test]
    fn files_that_need_one_way_are_no_circle() {
        assert_eq!(
            of(&[("a.rs", "use crate::b::B; use crate::c::C;"), ("b.rs", "use crate::c::C;"), ("c.rs", "")]),
            [""; 0]
        );
        assert_eq!(
            of(&[("a.rs", "use crate::cx::Cx;"), ("cx.rs", "use crate::a::A;")]),
            [""; 0],
            "the context is shared"
        );
        assert_eq!(of(&[("a.rs", "use crate::b::B;"), ("b.rs", "#[cfg(test)] mod t { use crate::a::A; }")]), [""; 0]);
    }

    #[test]
    fn a_file_may_name_what_the_module_around_it_defines() {
        let a = ("a/mod.rs", "mod x; pub const N: u8 = 1; fn f() { x::g() }");
        assert_eq!(of(&[a, ("a/x.rs", "use super::N; pub fn g() {}")]), [""; 0]);
    }

    #[test]
    fn a_file_may_give_methods_to_a_type_that_holds_its_own() {
        let sock = ("sock.rs", "use crate::queue::Queue; struct Sock(Queue);");
        assert_eq!(
            of(&[sock, ("queue.rs", "use crate::sock::Sock; struct Queue; impl Sock { fn f(&self) {} }")]),
            [""; 0]
        );
        assert_eq!(
            of(&[sock, ("queue.rs", "use crate::sock::Sock; struct Queue; impl Queue { fn f(_: Sock) {} }")]).len(),
            1
        );
    }

    #[test]
    fn names_through_super_and_renames_are_followed() {
        let a = ("a/mod.rs", "pub use y::Y as Z;");
        assert_eq!(of(&[a, ("a/x.rs", "use super::Z;"), ("a/y.rs", "use super::x;\nfn f() { x::g() }")]).len(), 1);
    }
}
