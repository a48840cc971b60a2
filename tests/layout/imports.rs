//! The modules of the crate, the types they define and what they import, as `syn` reads them. Code that only tests compile
//! is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

/// The library, read.
pub(crate) struct Crate {
    /// By module path (`machine::model::job`; the root is empty).
    files: BTreeMap<String, syn::File>,
    /// What modules re-export: module and name, to the path of the item.
    exports: BTreeMap<(String, String), String>,
}

impl Crate {
    /// Reads every file of `src` but the programs' own and the tests.
    pub(crate) fn read(top: &Path) -> Self {
        let src = top.join("src");
        let mut files = BTreeMap::new();
        // The page's style and script lie in src, too.
        let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
        for path in super::files_below(&src).into_iter().filter(is_rust) {
            let name = path.strip_prefix(&src).expect("a file of src").with_extension("");
            let mut parts: Vec<&str> = name.iter().map(|part| part.to_str().expect("a name in UTF-8")).collect();
            if parts[0] == "bin" || parts.contains(&"tests") {
                continue;
            }
            if ["mod", "lib"].contains(parts.last().expect("a file name")) {
                parts.pop();
            }
            let parsed = syn::parse_file(&fs::read_to_string(&path).expect("a source file"));
            files.insert(parts.join("::"), parsed.unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        }
        let mut exports = BTreeMap::new();
        for (module, file) in &files {
            for item in &file.items {
                if let Item::Use(item) = item
                    && !matches!(item.vis, Visibility::Inherited)
                {
                    for (path, name) in leaves(&item.tree) {
                        if let Some(path) = absolute(&path, module, &files) {
                            exports.insert((module.clone(), name), path);
                        }
                    }
                }
            }
        }
        Self { files, exports }
    }

    /// The path of every module that is a file.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The name of every type, those that a derive makes and those of nested modules among them.
    pub(crate) fn types(&self) -> BTreeSet<String> {
        let mut types = Types::default();
        self.files.values().for_each(|file| types.visit_file(file));
        types.0
    }

    /// Which module's file imports which other's.
    pub(crate) fn imports(&self) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        for (module, file) in &self.files {
            let mut paths = Paths::default();
            paths.visit_file(file);
            for path in paths.0.iter().filter_map(|path| absolute(path, module, &self.files)) {
                let to = self.file_of(&path);
                if to != *module && !to.is_empty() {
                    found.insert((module.clone(), to));
                }
            }
        }
        found
    }

    /// The module whose file defines what stands at this path: re-exports are followed.
    fn file_of(&self, path: &str) -> String {
        let (module, rest) = longest_module(path, &self.files);
        let name = rest.split("::").next().unwrap_or_default();
        match self.exports.get(&(module.to_owned(), name.to_owned())) {
            Some(path) => self.file_of(path),
            None => module.to_owned(),
        }
    }
}

/// The longest module that is a prefix of the path, and what follows it.
fn longest_module<'a>(path: &'a str, files: &BTreeMap<String, syn::File>) -> (&'a str, &'a str) {
    let mut module = path;
    while !module.is_empty() && !files.contains_key(module) {
        module = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    }
    (module, path[module.len()..].trim_start_matches("::"))
}

/// A path as it stands in a module's file, from the root of the crate; none where it leads to another crate.
fn absolute(path: &[String], module: &str, files: &BTreeMap<String, syn::File>) -> Option<String> {
    let mut base: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        // A child of this module.
        child => {
            let path = base.iter().copied().chain([child]).collect::<Vec<_>>().join("::");
            files.contains_key(&path).then_some(())?;
        }
    }
    Some(base.into_iter().chain(rest.iter().map(String::as_str)).collect::<Vec<_>>().join("::"))
}

/// The paths of a `use`, each with the name that it brings in.
fn leaves(tree: &UseTree) -> Vec<(Vec<String>, String)> {
    match tree {
        UseTree::Path(path) => leaves(&path.tree)
            .into_iter()
            .map(|(rest, name)| ([path.ident.to_string()].into_iter().chain(rest).collect(), name))
            .collect(),
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
        UseTree::Name(name) if name.ident == "self" => vec![(Vec::new(), String::new())],
        UseTree::Name(name) => vec![(vec![name.ident.to_string()], name.ident.to_string())],
        UseTree::Rename(rename) => vec![(vec![rename.ident.to_string()], rename.rename.to_string())],
        UseTree::Glob(_) => vec![(Vec::new(), String::new())],
    }
}

/// Gathers the names of the types of a file.
#[derive(Default)]
struct Types(BTreeSet<String>);

impl<'ast> Visit<'ast> for Types {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.0.insert(item.ident.to_string());
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.0.insert(item.ident.to_string());
        // `#[strum_discriminants(name(StageName), ...)]`
        for attribute in item.attrs.iter().filter(|attribute| attribute.path().is_ident("strum_discriminants")) {
            let tokens = attribute.meta.require_list().map(|list| list.tokens.to_string()).unwrap_or_default();
            let name = tokens.split("name (").nth(1).or_else(|| tokens.split("name(").nth(1));
            self.0.extend(name.and_then(|rest| rest.split(')').next()).map(|name| name.trim().to_owned()));
        }
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.0.insert(item.ident.to_string());
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.0.insert(item.ident.to_string());
    }
}

/// Gathers the paths of a file, but those that only tests compile.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

fn only_in_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !only_in_tests(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !only_in_tests(&function.attrs) {
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !only_in_tests(&item.attrs) {
            self.0.extend(leaves(&item.tree).into_iter().map(|(path, _)| path));
        }
    }

    // What is written inside a macro call is tokens, not paths.
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let text = call.tokens.to_string().replace(' ', "");
        for (at, _) in text.match_indices("crate::") {
            let path =
                text[at..].split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next().unwrap_or_default();
            self.0.push(path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect());
        }
        visit::visit_macro(self, call);
    }

    // `pub(in crate::machine)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}
