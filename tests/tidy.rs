//! Rules of the code that no compiler checks: layers, sizes, words that must not be used, fenced
//! unsafe.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/source.rs"]
mod source;

use source::sources;

const COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 800;

/// From left to right in the picture of lib.rs. A file imports only from later rows, or its own
/// folder. The longest matching prefix decides.
const LAYERS: &[&[&str]] = &[
    &["lib", "main"],
    &["cli"],
    &["doctor"],
    &["serve", "load", "top"],
    &["admin"],
    &["remedies"],
    &["worker"],
    &["config"],
    &["net/nic"],
    &["net/tcp", "net/kernel"],
    &["connection", "mailbox"],
    &["net"],
    &["protocol"],
    &["orchestrator"],
    &["tier"],
    &["report"],
    &["base"],
    &["base/limits"],
];

/// Where unsafe code may be.
const UNSAFE_FENCE: &[&str] = &[
    "src/base/account.rs",
    "src/base/buffer.rs",
    "src/net/nic/",
    "src/tier/segments/line.rs",
    "src/tier/shm/",
    "src/tier/ssd/disk/buffer.rs",
    "src/tier/ssd/disk/ring.rs",
    "src/base/usage.rs",
    "dpdk/",
];

fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn lines_functions_and_files_are_short() {
    let mut complaints = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            // A string that is a row of a table cannot be split.
            let is_row = source.path.starts_with("tests/") && line.contains('"');
            if line.chars().count() > COLUMNS_MAX && !is_row {
                complaints.push(format!(
                    "{}:{}: over {COLUMNS_MAX} columns",
                    source.path,
                    number + 1
                ));
            }
        }
        let lines = source.code().count();
        if lines > FILE_LINES_MAX {
            complaints.push(format!("{}: {lines} lines of code", source.path));
        }
        let mut open: Option<(usize, String, &str)> = None;
        for (number, line) in source.code() {
            let indent = &line[..line.len() - line.trim_start().len()];
            let is_function = ["fn ", "async fn ", "const fn ", "unsafe fn "].iter().any(|word| {
                let head = line.trim_start();
                let head = head.strip_prefix("pub(super) ").unwrap_or(head);
                let head = head.strip_prefix("pub(crate) ").unwrap_or(head);
                head.strip_prefix("pub ").unwrap_or(head).starts_with(word)
            });
            if is_function && open.is_none() {
                open = Some((number, format!("{indent}}}"), line.trim()));
            }
            if let Some((start, end, head)) = &open
                && line == end
            {
                if number - start + 1 > FUNCTION_LINES_MAX {
                    let lines = number - start + 1;
                    complaints.push(format!("{}:{start}: {lines} lines: {head}", source.path));
                }
                open = None;
            } else if open.as_ref().is_some_and(|(start, _, _)| {
                *start == number && (line.ends_with(';') || line.ends_with('}'))
            }) {
                open = None;
            }
        }
    }
    assert_none(complaints);
}

#[test]
fn a_module_imports_only_from_its_right() {
    let layer = |module: &str| {
        LAYERS
            .iter()
            .enumerate()
            .flat_map(|(rank, names)| names.iter().map(move |name| (rank, *name)))
            .filter(|(_, name)| module == *name || module.starts_with(&format!("{name}/")))
            .max_by_key(|(_, name)| name.len())
    };
    let mut complaints = Vec::new();
    for source in sources() {
        let Some(module) = source.path.strip_prefix("src/") else { continue };
        let module = module.trim_end_matches(".rs").trim_end_matches("/mod");
        let Some((rank, own)) = layer(module) else {
            complaints.push(format!("{}: is in no layer", source.path));
            continue;
        };
        for (number, line) in source.code() {
            for import in line.split("crate::").skip(1) {
                if line.trim_start().starts_with("//") {
                    continue;
                }
                let target: String = import
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_' || *c == ':')
                    .collect();
                let target = target.trim_end_matches(':').replace("::", "/");
                match layer(&target) {
                    Some((other, name)) if other > rank || name == own => {}
                    _ => complaints.push(format!("{}:{number}: {}", source.path, line.trim())),
                }
            }
        }
    }
    assert_none(complaints);
}

/// Modules that the tools may import: themselves, base, the syntax of values on a command line,
/// and, for a client on a device, the network stack.
const LOAD_IMPORTS: &[&str] = &[
    "load",
    "base::clock",
    "config",
    "base::limits",
    "protocol",
    "base::random",
    "net::nic",
    "net::tcp",
    "net::Admission",
    "net::ConnectionId",
    "net::Handler",
    "net::Remedies",
    "remedies",
    "net::Stream",
    "net::Transport",
    "base::buffer",
    "base::console",
    "base::secret",
    "base::stats",
];

#[test]
fn the_tools_know_the_server_only_by_the_wire() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src/load/")) {
        for (number, line) in source.code().filter(|(_, line)| !line.trim().starts_with("//")) {
            for import in line.split("crate::").skip(1) {
                let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric());
                let is_allowed = |name: &&&str| import.strip_prefix(**name).is_some_and(is_end);
                if LOAD_IMPORTS.iter().find(is_allowed).is_none() {
                    complaints.push(format!("{}:{number}: {}", source.path, line.trim()));
                }
            }
        }
    }
    assert_none(complaints);
}

/// Names that the product's code must not use, and their replacements.
const BANNED: &[(&str, &str)] = &[
    ("dbg", "nothing: it is for debugging"),
    ("eprint", "console or report"),
    ("eprintln", "console or report"),
    ("helper", "a name that says what it is for"),
    ("helpers", "a name that says what it is for"),
    ("lazy_static", "std::sync::OnceLock"),
    ("misc", "a name that says what it is for"),
    ("nix", "rustix, or libc behind the fence"),
    ("once_cell", "std::sync::OnceLock"),
    ("unwrap", "expect, with the invariant"),
    ("util", "a name that says what it is for"),
    ("utils", "a name that says what it is for"),
];

#[test]
fn banned_names_have_a_replacement() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src/")) {
        let tests = ["/tests", "_tests.rs", "/testing.rs", "disk/suite.rs"];
        if tests.iter().any(|part| source.path.contains(part)) {
            continue;
        }
        for (number, line) in source.bare_code() {
            let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            for (banned, instead) in BANNED.iter().filter(|(banned, _)| words.contains(banned)) {
                let at = format!("{}:{number}", source.path);
                complaints.push(format!("{at}: {banned}; use {instead}"));
            }
        }
    }
    assert_none(complaints);
}

/// The macros of std panic when the reader has closed the pipe.
#[test]
fn output_for_the_operator_goes_through_console() {
    let mut complaints = Vec::new();
    let is_product = |path: &str| path.starts_with("src/") && !path.contains("/tests");
    for source in sources().iter().filter(|source| is_product(&source.path)) {
        // Measurements of a disk's own tests.
        if source.path == "src/tier/ssd/disk/suite.rs" {
            continue;
        }
        for (number, line) in source.code() {
            if ["println!(", "print!("].iter().any(|word| line.contains(word)) {
                complaints.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none(complaints);
}

/// Code without a command line: flags and scripts are named by `cli`, `serve`, `load` and
/// `remedies`.
const WITHOUT_FLAGS: &[&str] = &[
    "src/connection/",
    "src/mailbox.rs",
    "src/net/",
    "src/orchestrator/",
    "src/protocol/",
    "src/report.rs",
    "src/tier/",
    "src/worker/",
];

/// DPDK's own arguments.
const OF_DPDK: &str = "src/net/nic/eal.rs";

#[test]
fn what_knows_no_command_line_names_no_flag_and_no_script() {
    let is_flag = |at: usize, text: &str| {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !text[..at].ends_with(is_word)
            && text[at + 2..].starts_with(|c: char| c.is_ascii_lowercase())
    };
    let mut complaints = Vec::new();
    for source in sources() {
        let is_without = WITHOUT_FLAGS.iter().any(|path| source.path.starts_with(path));
        let is_test = source.path.contains("/tests") || source.path.ends_with("disk/suite.rs");
        if !is_without || is_test || source.path == OF_DPDK {
            continue;
        }
        for (number, text) in source.strings() {
            let has_flag = text.match_indices("--").any(|(at, _)| is_flag(at, text));
            if has_flag || text.contains("scripts/") {
                complaints.push(format!("{}:{number}: {text}", source.path));
            }
        }
    }
    assert_none(complaints);
}

#[test]
fn nothing_unfinished_stays() {
    let words = [["FIX", "ME"], ["TO", "DO"], ["XX", "X"], ["todo", "!("], ["unimple", "mented!("]];
    let mut complaints = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            for word in words.map(|parts| parts.concat()) {
                if line.contains(&word) {
                    complaints.push(format!("{}:{}: {word}", source.path, number + 1));
                }
            }
            let ignored = ["#[ign", "ore"].concat();
            if line.trim_start().starts_with(&ignored) {
                complaints.push(format!("{}:{}: a skipped test", source.path, number + 1));
            }
        }
    }
    assert_none(complaints);
}

#[test]
fn an_allow_has_a_reason_and_unsafe_is_fenced_and_explained() {
    let mut complaints = Vec::new();
    for source in sources() {
        let is_fenced = UNSAFE_FENCE.iter().any(|fence| source.path.starts_with(fence));
        let is_product = source.path.starts_with("src/") || source.path.starts_with("dpdk/");
        let lines: Vec<&str> = source.text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let at = format!("{}:{}", source.path, i + 1);
            if line.contains("allow(") && line.trim_start().starts_with("#") {
                let rest = lines[i..lines.len().min(i + 7)].concat();
                if !rest.contains("reason") {
                    complaints.push(format!("{at}: an allow without a reason"));
                }
            }
            let block = ["unsa", "fe {"].concat();
            let is_block = line.contains(&block) || line.contains(&["unsafe im", "pl "].concat());
            if is_block && !line.trim_start().starts_with("//") {
                if is_product && !is_fenced {
                    complaints.push(format!("{at}: unsafe outside its fence"));
                }
                let before = lines[i.saturating_sub(8)..=i].concat();
                if !before.contains("SAFETY") {
                    complaints.push(format!("{at}: unsafe without its SAFETY"));
                }
            }
        }
    }
    assert_none(complaints);
}

#[test]
fn dpdk_names_stay_at_the_edge() {
    let mut complaints = Vec::new();
    for source in sources() {
        let is_edge = source.path.starts_with("src/net/nic") || source.path.starts_with("dpdk/");
        if is_edge || source.path == "tests/tidy.rs" {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            if line.contains("rte_") {
                complaints.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert_none(complaints);
}

#[test]
fn only_one_file_reads_the_clock() {
    let mut complaints = Vec::new();
    for source in sources() {
        if !source.path.starts_with("src/") || source.path == "src/base/clock.rs" {
            continue;
        }
        for (number, line) in source.code() {
            if line.contains("Instant::now") || line.contains("SystemTime::now") {
                complaints.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none(complaints);
}

#[test]
fn every_file_begins_with_its_purpose() {
    let complaints = sources()
        .iter()
        .filter(|source| !source.text.starts_with("//!"))
        .map(|source| format!("{}: does not begin with its purpose", source.path))
        .collect();
    assert_none(complaints);
}
