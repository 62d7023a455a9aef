//! The files of the tree, read once.

use std::fs;
use std::path::{Path, PathBuf};

/// One text file; the path is relative to the root, with slashes.
#[derive(Clone, Debug)]
pub struct Source {
    pub path: String,
    pub text: String,
}

impl Source {
    /// A sample for a check's own tests.
    #[cfg(test)]
    pub fn sample(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }
}

/// What the checks look at.
pub struct Tree {
    pub root: PathBuf,
    /// All Rust files.
    pub sources: Vec<Source>,
    /// `Cargo.toml` of the root and of every crate.
    pub manifests: Vec<Source>,
    /// Markdown files, and the files at the root that checks read.
    pub documents: Vec<Source>,
}

impl Tree {
    /// Reads the tree around this crate.
    pub fn load() -> Tree {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the root is there");
        let mut tree = Tree { root: root.clone(), sources: Vec::new(), manifests: Vec::new(), documents: Vec::new() };
        tree.walk(&root);
        assert!(tree.sources.len() > 10, "found only {} Rust files below {root:?}", tree.sources.len());
        assert!(tree.manifests.len() > 5, "found only {} crates below {root:?}", tree.manifests.len());
        tree
    }

    /// The text of a file at the root.
    #[track_caller]
    pub fn document(&self, path: &str) -> &str {
        let found = self.documents.iter().find(|document| document.path == path);
        &found.unwrap_or_else(|| panic!("{path} is missing")).text
    }

    /// Whether a file or folder of this path is in the tree.
    pub fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    fn walk(&mut self, folder: &Path) {
        let mut entries: Vec<PathBuf> = fs::read_dir(folder)
            .expect("a folder of the tree can be read")
            .map(|entry| entry.expect("an entry of the tree can be read").path())
            .collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                // Built and fetched files, and those of tools (.git; .ci has no file of a kind that is checked).
                if !name.starts_with('.') && !name.starts_with("target") && name != "corpus" {
                    self.walk(&path);
                }
                continue;
            }
            let list = match name {
                "Cargo.toml" => &mut self.manifests,
                "deny.toml" => &mut self.documents,
                _ if name.ends_with(".rs") => &mut self.sources,
                _ if name.ends_with(".md") => &mut self.documents,
                _ => continue,
            };
            // A file may be gone between listing and reading while an editor writes.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let relative = path.strip_prefix(&self.root).expect("below the root").to_string_lossy().replace('\\', "/");
            list.push(Source { path: relative, text });
        }
    }
}
