//! No files of src/ import each other in a circle.
//!
//! Children may use anything that their module declares: they are its parts, and that does not
//! count as an import here. Using a file beside it, or in another folder, does.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Source, sources};

type Module = Vec<String>;

/// The product's modules and their files: those declared by lib.rs, recursively.
struct Tree<'a> {
    files: BTreeMap<Module, &'a Source>,
}

impl<'a> Tree<'a> {
    fn new(sources: &'a [Source]) -> Tree<'a> {
        let mut tree = Tree { files: BTreeMap::new() };
        let root = sources.iter().find(|source| source.path == "src/lib.rs").expect("a crate");
        tree.add(sources, Vec::new(), root);
        tree
    }

    fn add(&mut self, sources: &'a [Source], module: Module, source: &'a Source) {
        for (_, line) in source.bare_code() {
            let declared = line.split_once("mod ").and_then(|(_, rest)| rest.strip_suffix(';'));
            let Some(name) = declared else { continue };
            let child = [&module[..], &[name.to_owned()]].concat();
            let path = format!("src/{}", child.join("/"));
            let paths = [format!("{path}.rs"), format!("{path}/mod.rs")];
            let file = sources.iter().find(|source| paths.contains(&source.path));
            self.add(sources, child, file.unwrap_or_else(|| panic!("no file of {path}")));
        }
        self.files.insert(module, source);
    }

    /// The module that a path leads to or through; None: it belongs to another crate, or is this
    /// one or a parent.
    fn resolve(&self, module: &Module, path: &[&str]) -> Option<Module> {
        let (mut at, mut rest) = (module.clone(), path);
        match rest[0] {
            "crate" => (at, rest) = (Vec::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first() == Some(&"super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            child if !self.files.contains_key(&[&at[..], &[child.to_owned()]].concat()) => {
                return None;
            }
            _ => {}
        }
        for segment in rest {
            let child = [&at[..], &[(*segment).to_owned()]].concat();
            if !self.files.contains_key(&child) {
                break;
            }
            at = child;
        }
        (!module.starts_with(&at)).then_some(at)
    }

    /// The modules that each imports from.
    fn imports(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let of = |(module, source): (&'_ Module, &&Source)| {
            let code: Vec<&str> = source.bare_code().map(|(_, line)| line).collect();
            let code = code.join("\n");
            let paths = paths(&tokens(&code));
            paths.iter().filter_map(|path| self.resolve(module, path)).collect()
        };
        self.files.iter().map(|entry| (entry.0, of(entry))).collect()
    }
}

/// Words, `::`, and every other character by itself.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let bytes = match first {
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        tokens.push(&rest[..bytes]);
        rest = rest[bytes..].trim_start();
    }
    tokens
}

/// Every path of two segments or more, those in the braces of an import written out.
fn paths<'a>(tokens: &[&'a str]) -> Vec<Vec<&'a str>> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = at.checked_sub(1).map_or("", |before| tokens[before]);
        let starts = tokens[at].starts_with(|c: char| c.is_ascii_lowercase());
        // `pub(in PATH)` imports nothing; `$crate` is used in macros.
        if starts && !matches!(before, "::" | "." | "$" | "in") {
            at = path(tokens, at, &[], &mut paths);
        } else {
            at += 1;
        }
    }
    paths
}

/// Reads the path at `at`, after `prefix`; returns its end.
fn path<'a>(
    tokens: &[&'a str],
    mut at: usize,
    prefix: &[&'a str],
    paths: &mut Vec<Vec<&'a str>>,
) -> usize {
    let mut segments = prefix.to_vec();
    segments.push(tokens[at]);
    at += 1;
    while tokens.get(at) == Some(&"::") {
        match tokens.get(at + 1).copied() {
            Some("{") => {
                at += 2;
                while tokens[at] != "}" {
                    at = path(tokens, at, &segments, paths);
                    while !matches!(tokens[at], "," | "}") {
                        at += 1;
                    }
                    at += usize::from(tokens[at] == ",");
                }
                return at + 1;
            }
            Some(word) if word == "*" || word.starts_with(|c: char| c.is_alphabetic()) => {
                segments.push(word);
                at += 2;
            }
            _ => break,
        }
    }
    if segments.len() > 1 {
        paths.push(segments);
    }
    at
}

/// `FROM -> TO` of each import from which a chain of imports leads back to its start.
fn circles(imports: &BTreeMap<&Module, BTreeSet<Module>>) -> Vec<(Module, Module)> {
    let leads_to = |from: &Module, to: &Module| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(module) = open.pop() {
            if module == to {
                return true;
            }
            if seen.insert(module) {
                open.extend(&imports[module]);
            }
        }
        false
    };
    let edges = imports.iter().flat_map(|(from, all)| all.iter().map(move |to| (*from, to)));
    let circular = edges.filter(|(from, to)| leads_to(to, from));
    circular.map(|(from, to)| (from.clone(), to.clone())).collect()
}

#[test]
fn no_file_joins_a_circle_of_imports() {
    let sources = sources();
    let tree = Tree::new(sources);
    assert!(tree.files.len() > 100, "the crate has more files than {}", tree.files.len());
    let name = |module: &Module| tree.files[module].path.trim_start_matches("src/").to_owned();
    let found = circles(&tree.imports());
    let complaint = |(from, to): &(Module, Module)| {
        format!("in a circle: {} -> {}; move what both need", name(from), name(to))
    };
    crate::assert_none(found.iter().map(complaint).collect());
}

#[test]
fn an_import_that_can_be_followed_back_is_in_a_circle() {
    let module = |name: &str| vec![name.to_owned()];
    let (a, b, c) = (module("a"), module("b"), module("c"));
    let to = |modules: &[&Module]| modules.iter().map(|it| (*it).clone()).collect();
    let mut imports = BTreeMap::from([(&a, to(&[&b])), (&b, to(&[&c])), (&c, to(&[]))]);
    assert!(circles(&imports).is_empty());
    imports.insert(&c, to(&[&b]));
    assert_eq!(circles(&imports), [(b.clone(), c.clone()), (c.clone(), b.clone())]);
}

#[test]
fn paths_are_read_as_the_compiler_reads_them() {
    let code = "use crate::a::{B, c::{self, D}, e::*};\nlet x = super::f::<T>(self::g::H, i.j);\n\
                pub(in crate::k) fn l() -> std::io::Result<()> { $crate::m!() }";
    let paths: Vec<String> = paths(&tokens(code)).iter().map(|path| path.join("::")).collect();
    let expected = [
        "crate::a::B",
        "crate::a::c::self",
        "crate::a::c::D",
        "crate::a::e::*",
        "super::f",
        "self::g::H",
        "std::io::Result",
    ];
    assert_eq!(paths, expected);
}
