//! The input of the rules: each file's text, the same without comments and strings, and which of
//! its lines belong to the product. Knows no rule.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub struct Source {
    pub path: String,
    pub text: String,
    /// The text with blanks for comments and for what stands in quotes: words and braces in it are
    /// code.
    pub bare: String,
    /// Where the strings stand in the text, quotes included.
    strings: Vec<Range<usize>>,
    /// For each line, whether it belongs to an unindented item for tests.
    is_test: Vec<bool>,
}

impl Source {
    pub fn new(path: String, text: String) -> Source {
        let (bare, strings) = bare(&text);
        let is_test = test_lines(&text, &bare);
        Source { path, text, bare, strings, is_test }
    }

    /// The lines outside of the file's tests, with their numbers.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.outside_tests(&self.text)
    }

    /// The same without comments and strings.
    pub fn bare_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.outside_tests(&self.bare)
    }

    /// The strings outside of the file's tests, each with the number of its first line. One that
    /// continues after a backslash is one.
    pub fn strings(&self) -> Vec<(usize, &str)> {
        let line_of = |at: usize| self.text[..at].matches('\n').count();
        let strings = self.strings.iter().map(|it| (line_of(it.start), &self.text[it.clone()]));
        strings.filter(|(i, _)| !self.is_test[*i]).map(|(i, text)| (i + 1, text)).collect()
    }

    fn outside_tests<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        let lines = text.lines().enumerate().filter(|(i, _)| !self.is_test[*i]);
        lines.map(|(i, line)| (i + 1, line))
    }
}

/// All files, read once.
pub fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(read)
}

fn read() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "dpdk", "tests", "benches", "examples", "fuzz"] {
        collect(&root.join(folder), &mut files);
    }
    let source = |file: &PathBuf| {
        let path = file.strip_prefix(root).expect("below root").display().to_string();
        Source::new(path, fs::read_to_string(file).expect("readable"))
    };
    let mut sources: Vec<Source> = files.iter().map(source).collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 20, "the rules look at the whole tree");
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("readable").path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("corpus") {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// The lines of each item after an unindented `#[cfg(test)]`: up to its semicolon, or to its
/// closing brace.
fn test_lines(text: &str, bare: &str) -> Vec<bool> {
    let mut is_test = vec![false; text.lines().count()];
    let (mut is_inside, mut depth) = (false, 0_usize);
    for (i, (line, bare)) in text.lines().zip(bare.lines()).enumerate() {
        if !is_inside && line == "#[cfg(test)]" {
            (is_inside, is_test[i]) = (true, true);
            continue;
        }
        is_test[i] = is_inside;
        for c in bare.chars().filter(|_| is_inside) {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth = depth.checked_sub(1).expect("braces match"),
                _ => {}
            }
            if depth == 0 && matches!(c, '}' | ';') {
                is_inside = false;
                break;
            }
        }
    }
    assert!(!is_inside, "an item for tests has an end");
    is_test
}

/// Blanks for comments and for what stands in quotes; lines stay lines. And where the strings are.
fn bare(text: &str) -> (String, Vec<Range<usize>>) {
    let mut strings = Vec::new();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let before = out.chars().next_back();
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let bytes = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            'r' if !before.is_some_and(|c| is_word(c) && c != 'b' && c != 'c') => raw_string(rest),
            '"' => quoted(rest, '"'),
            // A lifetime has no second quote, a character is immediately followed by one.
            '\'' if rest[1..].starts_with('\\') => quoted(rest, '\''),
            '\'' if rest.chars().nth(2) == Some('\'') => quoted(rest, '\''),
            _ => 0,
        };
        if bytes > 0 && matches!(first, '"' | 'r') {
            let at = text.len() - rest.len();
            strings.push(at..at + bytes);
        }
        if bytes == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.extend(rest[..bytes].chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = &rest[bytes..];
        }
    }
    (out, strings)
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let rest = &text.as_bytes()[at..];
        match rest {
            [] => return at,
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
}

/// Length of a raw string; 0: it is none.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].len() - text[1..].trim_start_matches('#').len();
    let Some(inside) = text[1 + hashes..].strip_prefix('"') else { return 0 };
    let end = format!("\"{}", "#".repeat(hashes));
    let len = inside.find(&end).expect("a raw string has an end");
    1 + hashes + 1 + len + end.len()
}

fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn only_the_item_for_tests_is_left_out() {
    let text = "\
fn a() {}
#[cfg(test)]
mod tests;
fn b() { let c = '{'; }
#[cfg(test)]
#[path = \"x\"]
mod inline {
    fn c<'a>() -> &'a str { \"}\" } // }
    const RAW: &str = r#\"
}
\"#;
    /* } /* } */ */
}
fn d() {}
#[cfg(test)]
use e::{F, G};
fn h() {}
";
    let source = Source::new("x.rs".to_owned(), text.to_owned());
    let code: Vec<&str> = source.code().map(|(_, line)| line).collect();
    assert_eq!(code, ["fn a() {}", "fn b() { let c = '{'; }", "fn d() {}", "fn h() {}"]);
    assert_eq!(source.bare_code().nth(1), Some((4, "fn b() { let c =    ; }")));
    assert!(source.strings().is_empty());
}

#[test]
fn strings_are_found_whole() {
    let text = "// \"a\"\nconst A: &str = \"b \\\n  c\";\nconst B: &str = r#\"d\"#; // \"e\"\n";
    let source = Source::new("x.rs".to_owned(), text.to_owned());
    assert_eq!(source.strings(), [(2, "\"b \\\n  c\""), (4, "r#\"d\"#")]);
}
