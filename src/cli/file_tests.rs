//! The configuration file: what it says is what the same flags say, and what is wrong is told with
//! its line.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Command, parse};
use crate::config::Config;

/// A file that is removed with this.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, text: &[u8]) -> Written {
        // Two tests may choose the same name.
        static WRITTEN: AtomicU32 = AtomicU32::new(0);
        let n = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let name = format!("sunder-config-{}-{n}-{name}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).expect("a file");
        Written(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("plain")
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("it is there");
    }
}

fn said(words: &[&str]) -> Result<Command, String> {
    parse(words.iter().map(OsString::from))
}

fn config(words: &[&str]) -> Config {
    match said(words) {
        Ok(Command::Serve(config)) => *config,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn printed(words: &[&str]) -> String {
    match said(words) {
        Ok(Command::Print(text)) => text,
        other => panic!("{words:?}: {other:?}"),
    }
}

/// The config without the way it was read.
fn plain(config: &Config) -> String {
    format!("{:#?}", Config { reread: None, ..config.clone() })
}

#[test]
fn a_key_means_what_its_flag_means() {
    let text = b"port = 11300\nbind = ['127.0.0.1', '::1']\nl1 = 'memory,size=1G'\nworkers = 2\n\
                 rights = ['read-only', 'no-admin']\nallow = '10.0.0.0/8,::1'\n\
                 idle-timeout = 0x1e\nenable-shutdown = true\ndisable-flush-all = false\n";
    let file = Written::new("same", text);
    let flags = "serve --port 11300 --bind 127.0.0.1,::1 --l1 memory,size=1G --workers 2 --rights \
                 read-only,no-admin --allow 10.0.0.0/8,::1 --idle-timeout 30 --enable-shutdown";
    let flags: Vec<&str> = flags.split_whitespace().collect();
    assert_eq!(plain(&config(&["serve", "--config", file.path()])), plain(&config(&flags)));
    let listed = Written::new("list", b"cores = [0, '2-3']\nl1-inmem = true\n");
    let flags = ["serve", "--cores", "0,2-3", "--l1-inmem"];
    assert_eq!(plain(&config(&["serve", "--config", listed.path()])), plain(&config(&flags)));
    let empty = Written::new("empty", b"# nothing\n");
    assert_eq!(plain(&config(&["serve", "--config", empty.path()])), plain(&config(&["serve"])));
}

#[test]
fn flags_take_precedence_over_the_file() {
    let file = Written::new(
        "before",
        b"port = 11300\nbind = ['127.0.0.2', '::1']\nl1 = 'memory,size=1G'\n\
          enable-shutdown = true\n",
    );
    let words = ["serve", "--l1", "memory,size=2G", "--config", file.path(), "--bind", "127.0.0.3"];
    let both = config(&words);
    assert_eq!((both.port, both.is_shutdown_enabled), (11300, true));
    assert_eq!(both.binds.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.3"]);
    assert_eq!(both.l1.to_string(), config(&["serve", "--l1", "memory,size=2G"]).l1.to_string());
}

#[test]
fn what_cannot_be_used_with_a_flag_is_left_out_of_the_file() {
    for (text, flags, same) in [
        ("l1 = 'memory,size=1G'", "-m 32", "-m 32"),
        ("memory-limit = 32", "--l1 memory,size=1G", "--l1 memory,size=1G"),
        ("l1-inmem = true", "-m 32", "-m 32"),
        ("l1 = 'memory'", "--l1-sock /x --chunked", "--l1-sock /x --chunked"),
        ("l1-sock = '/x'", "--chunked", "--l1-sock /x --chunked"),
        ("l1 = 'memory,size=1G'", "--l1-inmem=false", "--l1 memory,size=1G --l1-inmem=false"),
        ("l2 = 'memcached,addr=unix:/x'", "--l2-enabled --l2-sock /y", "--l2-enabled --l2-sock /y"),
        ("workers = 3", "--cores 0-1", "--cores 0-1"),
        ("cores = '0-1'", "--workers 3", "--workers 3"),
        (
            "bp = 5\nl2 = 'rend,addr=unix:/x'",
            "--bp-sock-path /y",
            "--l2 rend,addr=unix:/x --bp-sock-path /y",
        ),
        (
            "use-domain-socket = true\nsock-path = '/x'",
            "--device net_tap0 --address 10.0.0.2/8",
            "--device net_tap0 --address 10.0.0.2/8",
        ),
        ("device = 'net_tap0'\naddress = '10.0.0.1/8'", "--bind ::1", "--bind ::1"),
        (
            "bind = '::1'\nport = 9",
            "--device net_tap0 --address 10.0.0.2/8",
            "--device net_tap0 --address 10.0.0.2/8 -p 9",
        ),
        ("use-domain-socket = true\nsock-path = '/x'", "--use-domain-socket=false", ""),
        ("extended = 'idle_timeout=5'", "--idle-timeout 7", "--idle-timeout 7"),
        ("enable-shutdown = true", "--enable-shutdown=false", ""),
        ("enable-shutdown = true\ndisable-dumping = true", "-A=0", "-X"),
        ("disable-flush-all = false", "-FA", "-F -A"),
    ] {
        let file = Written::new("left-out", text.as_bytes());
        let serve = |flags: &str| {
            let words = ["serve"].into_iter().chain(flags.split_whitespace());
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        let own = [&serve(flags)[..], &["--config".into(), file.path().into()]].concat();
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let same = serve(same);
        let same: Vec<&str> = same.iter().map(String::as_str).collect();
        assert_eq!(plain(&config(&own)), plain(&config(&same)), "{text}, {flags}");
    }
    let file = Written::new("twice", b"port = 1");
    let twice = ["serve", "--config", file.path(), "--config", file.path()];
    let line = said(&twice).expect_err("two files");
    assert!(line.contains("--config <FILE>' cannot be used multiple times"), "{line}");
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, expected) in [
        ("prot = 1", ":1: unknown key 'prot'; a similar one is 'port'"),
        ("\n# so\nzzz = 1", ":3: unknown key 'zzz'; the keys are the flags"),
        ("config = 'x'", ":1: unknown key 'config'"),
        ("help = true", ":1: unknown key 'help'"),
        ("l1 = 'mem'", ":1: l1: got 'mem', expected memory,"),
        ("port = 'x'", ":1: port: got 'x', expected a whole number"),
        ("poll = 'x'", ":1: poll: invalid value 'x'"),
        ("port = 99999999999999999999", ":1: port: the number is too large"),
        ("workers = [1, 2]", ":1: workers: expected one value"),
        ("enable-shutdown = 'yes'", ":1: enable-shutdown: expected true or false"),
        ("allow = []", ":1: allow: expected at least one value"),
        ("bind = 1.5", ":1: bind: got '1.5', expected comma-separated IPv4"),
        ("max-connections = 1.5", ":1: max-connections: got '1.5', expected a whole number"),
        ("bind = 1970-01-01", ":1: bind: expected a string"),
        ("bind = [['::1']]", ":1: bind: expected one value"),
        ("allow = [\n'::1',\n'x']", ":3: allow: got 'x'"),
        ("cores = [\n0,\n'x']", ":3: cores: got 'x'"),
        ("[l1]\nkind = 'memory'", ":1: l1: expected a value and no table: l1 = \"..\""),
        (
            "\n[serve]\nport = 1",
            ":2: unknown key 'serve'; there are no tables, keys stand by themselves",
        ),
        ("[serve]\nport = 1", ":1: unknown key 'serve'; there are no tables"),
        ("zzz = 1\naaa = 1", ":1: unknown key 'zzz'"),
        ("zzz = 1\nport =", ":1: unknown key 'zzz'"),
        ("port = \nzzz = 1", ":1: "),
        ("l1 = memory,size=1G", "; text needs quotes: l1 = \"memory,size=1G\""),
        ("port = 1\nbind = 10.0.0.5 # so", "; text needs quotes: bind = \"10.0.0.5\""),
        ("allow = [10.0.0.0/8]", ":1: "),
        ("allow = [10.0.0.0/8]", "; text needs quotes"),
        ("daemon = true", "--daemon is in"),
        ("address = '10.0.0.1/8'", "--address is in"),
        ("port = 0", "--port is in"),
        ("port = 1\nport = 2", ":2: duplicate key"),
        ("port", ":1: "),
        ("port = 1\n\u{0}", ":2: "),
        ("device = 'net_tap0'\nsock-path = '/x'", "--device is in"),
        ("use-domain-socket = true", "--use-domain-socket is in"),
    ] {
        let file = Written::new("wrong", text.as_bytes());
        for words in [["serve", "--config", file.path()], ["config", "check", file.path()]] {
            let line = said(&words).expect_err(text);
            assert!(line.contains(expected), "{text:?}: {line}");
            assert!(!line.contains(char::is_control), "{line:?}");
            assert!(line.contains(&format!("{}:", file.path())), "{line}");
            let is_check = words[0] == "config";
            let name = if is_check { "sunder config check: " } else { "sunder serve: " };
            assert!(line.starts_with(name) && line.matches("sunder serve:").count() < 2, "{line}");
            assert!(line.ends_with("(see sunder serve --help)"), "{line}");
        }
    }
}

#[test]
fn a_file_that_is_too_long_or_no_text_is_refused() {
    for (text, expected) in [
        (format!("allow = [{}]", vec!["'::1'"; 1025].join(",")), "at most 1024"),
        (format!("l1 = '{}'", "x".repeat(100_000)), ".."),
        (format!("a = {}", "[".repeat(100_000)), ":1: "),
    ] {
        let file = Written::new("hostile", text.as_bytes());
        let line = said(&["config", "check", file.path()]).expect_err("it is refused");
        assert!(line.len() < 600 && line.contains(expected), "{line}");
    }
    let long = Written::new("long", &vec![b'#'; (1 << 20) + 1]);
    let bytes = Written::new("bytes", b"\xff");
    let empty = Written::new("empty", b"");
    // One that has no writer, for which nobody waits.
    let fifo = Written::new("fifo", b"");
    fs::remove_file(&fifo.0).expect("it is there");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo.0, kind, mode, 0).expect("made");
    for (path, expected) in [
        ("/nonexistent", "does not exist"),
        (long.path(), "mebibyte"),
        (bytes.path(), "UTF-8"),
        (fifo.path(), "not a regular file"),
        (empty.path(), "is empty"),
        ("/dev/zero", "not a regular file"),
        ("/", "not a regular file"),
    ] {
        let line = said(&["serve", "--config", path]).expect_err(path);
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
fn what_is_in_force_is_shown_with_where_it_comes_from_and_can_be_read_again() {
    let file = Written::new("shown", b"l1 = 'memory,size=1G'\nport = 11300\nallow = ['::1']\n");
    let words = ["config", "show", "--config", file.path(), "-p", "11400", "--bind", "::1"];
    let shown = printed(&words);
    let line = |key: &str| {
        let mut lines = shown.lines().filter(|line| line.starts_with(&format!("{key} = ")));
        let (value, from) = lines.next().expect(key).split_once('#').expect("where from");
        (value.trim().to_owned(), from.trim().to_owned())
    };
    let place = |n: usize| format!("{}:{n}", file.path());
    assert_eq!(line("port"), ("port = 11400".into(), "command line".into()));
    assert_eq!(line("bind"), ("bind = \"::1\"".into(), "command line".into()));
    assert_eq!(line("l1"), ("l1 = \"memory,size=1G\"".into(), place(1)));
    assert_eq!(line("allow"), ("allow = \"::1\"".into(), place(3)));
    assert_eq!(line("max-connections"), ("max-connections = 1024".into(), "default".into()));
    assert!(shown.contains("# l2: none"), "{shown}");

    let again = Written::new("again", shown.as_bytes());
    let given = ["serve", "--config", file.path(), "-p", "11400", "--bind", "::1"];
    assert_eq!(plain(&config(&["serve", "--config", again.path()])), plain(&config(&given)));
    let checked = printed(&["config", "check", again.path()]);
    assert!(checked.ends_with(" settings, all understood\n"), "{checked}");
}

#[test]
fn a_switch_that_is_given_more_than_once_is_shown_as_often() {
    for (text, expected) in [("verbose = true", "true"), ("verbose = 2", "2")] {
        let file = Written::new("verbose", text.as_bytes());
        let shown = printed(&["config", "show", "--config", file.path()]);
        let line = shown.lines().find(|line| line.starts_with("verbose = ")).expect("it is shown");
        assert_eq!(line.split(['=', '#']).nth(1).map(str::trim), Some(expected), "{line}");
    }
}

#[test]
fn every_setting_is_shown() {
    let shown = printed(&["config", "show"]);
    let mut definition = super::definition();
    definition.build();
    let serve = definition.find_subcommand("serve").expect("it is one");
    for arg in serve.get_arguments().filter(|arg| !arg.is_hide_short_help_set()) {
        let name = arg.get_long().expect("each has a name");
        let is_line = |line: &str| {
            let line = line.trim_start_matches("# ");
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', ':']))
        };
        let is_setting = !["help", "version", "config"].contains(&name);
        assert_eq!(shown.lines().any(is_line), is_setting, "{name}: {shown}");
    }
}
