//! The paths that a file of the core names outside its tests, from the crate's root.

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use crate::tree::Source;

/// A path in a file: its segments, resolved to begin with `crate` where they begin with `crate`, `self` or `super`.
pub struct Import {
    pub line: usize,
    pub segments: Vec<String>,
    /// It stands in a `pub use`: the file passes the item on and does not need it.
    pub is_reexport: bool,
    /// It stands in a `use` of any kind.
    pub is_use: bool,
    /// The name that a `use … as …` gives it.
    pub renamed: Option<String>,
    /// It names a type that the file gives methods to.
    pub is_extended: bool,
}

/// Where a file of the core stands below the crate's root.
pub fn module_of(path: &str) -> Vec<String> {
    let inside = path.strip_prefix("crates/core/src/").unwrap_or(path).trim_end_matches(".rs");
    let parts = inside.split('/').filter(|part| !matches!(*part, "mod" | "lib"));
    parts.map(str::to_owned).collect()
}

/// Whether a module is there for tests only, by its name.
pub fn is_for_tests(module: &[String]) -> bool {
    module.iter().any(|part| matches!(part.as_str(), "tests" | "testing"))
}

/// All paths of a file outside its tests.
pub fn imports(source: &Source) -> Result<Vec<Import>, String> {
    let module = module_of(&source.path);
    if is_for_tests(&module) {
        return Ok(Vec::new());
    }
    let file = syn::parse_file(&source.text)
        .map_err(|error| format!("{}:{}: {error}", source.path, error.span().start().line))?;
    let mut paths = Paths { module, found: Vec::new(), in_reexport: false, extended: Vec::new() };
    paths.visit_file(&file);
    for import in &mut paths.found {
        import.is_extended = import.segments.last().is_some_and(|last| paths.extended.contains(last));
    }
    Ok(paths.found)
}

struct Paths {
    module: Vec<String>,
    found: Vec<Import>,
    in_reexport: bool,
    /// Types that the file gives methods to.
    extended: Vec<String>,
}

impl Paths {
    fn found(&mut self, line: usize, segments: Vec<String>) {
        let segments = self.resolved(segments);
        self.found.push(Import {
            line,
            segments,
            is_reexport: false,
            is_use: false,
            renamed: None,
            is_extended: false,
        });
    }

    fn used(&mut self, line: usize, segments: Vec<String>, renamed: Option<String>) {
        let segments = self.resolved(segments);
        let is_reexport = self.in_reexport;
        self.found.push(Import { line, segments, is_reexport, is_use: true, renamed, is_extended: false });
    }

    /// `self::` and `super::` replaced by what they stand for, if that is at the crate's root or below.
    fn resolved(&self, segments: Vec<String>) -> Vec<String> {
        let supers = segments.iter().take_while(|segment| *segment == "super").count();
        let is_self = segments.first().is_some_and(|first| first == "self");
        if supers == 0 && !is_self {
            return segments;
        }
        let kept = self.module.len().saturating_sub(supers);
        let rest = segments.into_iter().skip(supers.max(usize::from(is_self)));
        ["crate".to_owned()].into_iter().chain(self.module[..kept].iter().cloned()).chain(rest).collect()
    }

    fn tree(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| prefix.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.used(name.span().start().line, with(&name.ident), None),
            syn::UseTree::Rename(name) => {
                self.used(name.span().start().line, with(&name.ident), Some(name.rename.to_string()));
            }
            syn::UseTree::Glob(glob) => self.used(glob.span().start().line, prefix.to_vec(), None),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(prefix, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.in_reexport = !matches!(item.vis, syn::Visibility::Inherited);
        self.tree(&[], &item.tree);
        self.in_reexport = false;
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.found(path.span().start().line, segments);
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.attrs.iter().any(is_cfg_test) {
            return;
        }
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let (None, syn::Type::Path(path)) = (&item.trait_, &*item.self_ty) {
            self.extended.extend(path.path.segments.last().map(|segment| segment.ident.to_string()));
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    list.path.is_ident("cfg")
        && list.tokens.to_string().split(|c: char| !c.is_alphanumeric()).any(|word| word == "test")
}
