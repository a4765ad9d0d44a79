//! What flags mean together, and that a wrong command line is one line that names a way out.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;

use super::{Command, parse};
use crate::config::{Config, L1, L2, Layout, Poll};
use crate::load::stream::Target;
use crate::orchestrator::PortRole;
use crate::protocol::Binding;

fn parse_words(words: &str) -> Result<Command, String> {
    parse(words.split_whitespace().map(OsString::from))
}

fn config(words: &str) -> Config {
    match parse_words(words) {
        Ok(Command::Serve(config)) => *config,
        other => panic!("{words}: {other:?}"),
    }
}

fn printed(words: &str) -> String {
    match parse_words(words) {
        Ok(Command::Print(text)) => text,
        other => panic!("{words}: {other:?}"),
    }
}

/// The line that is said of wrong words.
fn refused(words: &str) -> String {
    let line = parse_words(words).expect_err(words).to_string();
    assert!(!line.contains(char::is_control) && !line.contains("  "), "{words}: {line}");
    line
}

#[test]
fn without_flags_it_is_memcached_on_loopback() {
    let config = config("serve");
    // The flags' defaults and those of the library are the same.
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    assert_eq!(config.poll(), Poll::Adaptive);
}

#[test]
fn a_device_has_an_address_and_spins() {
    let config = config("serve --device net_af_packet0,iface=veth0 --address 10.0.0.5/24");
    assert_eq!(config.devices, ["net_af_packet0,iface=veth0"]);
    assert_eq!(config.poll(), Poll::Busy);
}

#[test]
fn every_flag_that_changes_nothing_is_told_of_once() {
    let config = config(
        "serve -k -L -f 1.1 -n 96 -R 20 -b 2048 -C -r -P /run/x.pid \
         -o modern,no_hashexpand,ext_threads=2 -o lru_crawler,hashpower=20",
    );
    let said = config.notes.join("\n");
    for flag in ["-k", "-L", "-f", "-n", "-R", "-b", "-C", "-r", "-P", "-o"] {
        let lines = said.lines().filter(|line| line.starts_with(&format!("{flag}:"))).count();
        assert_eq!(lines, 1, "{flag}: {said}");
    }
    assert_eq!(config.notes.len(), 10, "{said}");
    let queue = format!("queue is {}", crate::base::limits::LISTEN_BACKLOG);
    assert!(said.contains(&queue), "{said}");
    for row in super::unneeded::rows() {
        let flag = row.letter.map_or("-".to_owned(), |letter| format!("-{letter}: "));
        assert!(row.note.starts_with(&flag), "{}", row.note);
    }
}

#[test]
fn a_wrong_network_is_told_with_a_way_out() {
    for (words, way) in [
        ("serve --allow 10.0.0.5/24", "--allow: got '10.0.0.5/24', expected 10.0.0.0/24"),
        ("serve --allow 10.0.0.0/33", "--allow: got '10.0.0.0/33', expected at most 32"),
        (
            "serve --proxy-protocol somewhere",
            "--proxy-protocol: got 'somewhere', expected comma-separated networks",
        ),
        (
            "serve --bp-allow somewhere",
            "--bp-allow: got 'somewhere', expected comma-separated networks",
        ),
    ] {
        let line = refused(words);
        assert!(line.contains(way), "{words}: {line}");
    }
}

#[test]
fn a_password_has_a_user_and_bounded_costs() {
    for (words, way) in [
        ("password", "USER"),
        ("password a:b", "<USER>: got 'a:b', expected a name of at most 255 bytes without a colon"),
        ("password alice --memory 1G", "--memory: got '1G', expected a size from 8K to 64M"),
        ("password alice --passes 0", "--passes: got '0'"),
    ] {
        let line = refused(words);
        assert!(line.contains(way), "{words}: {line}");
    }
}

#[test]
fn the_batch_port_speaks_what_the_main_port_does_unless_it_has_its_own() {
    let config_of = |rest: &str| config(&format!("serve --l2 rend,addr=unix:/x {rest}"));
    let of =
        |rest: &str| [PortRole::Main, PortRole::Batch].map(|port| config_of(rest).binding(port));
    assert_eq!(of(""), [Binding::Auto; 2]);
    assert_eq!(of("-B ascii"), [Binding::Ascii; 2]);
    assert_eq!(of("-B ascii --protocol binary"), [Binding::Binary; 2]);
    assert_eq!(of("--protocol ascii --bp-protocol auto"), [Binding::Ascii, Binding::Auto]);
    assert_eq!(of("--bp-protocol binary"), [Binding::Auto, Binding::Binary]);
    let unused = config("serve --bp-protocol ascii");
    assert_eq!(unused.notes, ["--bp-protocol: has no effect, because there is no batch port"]);
    for wrong in ["-B meta", "-B ASCII", "--protocol asc", "--bp-protocol text"] {
        let line = refused(&format!("serve {wrong}"));
        assert!(line.contains("protocol: got") && line.contains("expected auto, ascii"), "{line}");
    }
}

#[test]
fn failed_logins_are_limited_unless_said_otherwise() {
    assert_eq!(config("serve").login_attempts, 10);
    assert_eq!(config("serve -Y /x --login-attempts 0").login_attempts, 0);
    let line = refused("serve -Y /x --login-attempts ten");
    assert!(line.contains("--login-attempts: got 'ten', expected a whole number from 0"), "{line}");
    let line = refused("serve --login-attempts 5");
    assert!(line.contains("--auth-file"), "{line}");
}

#[test]
fn the_batch_port_has_the_rights_of_the_main_port_unless_it_has_its_own() {
    let config_of = |rest: &str| config(&format!("serve --l2 rend,addr=unix:/x {rest}"));
    let both = config_of("--rights no-flush,no-admin");
    assert_eq!(both.rights(PortRole::Batch), both.rights(PortRole::Main));
    assert!(!both.rights(PortRole::Main).may_flush() && both.rights(PortRole::Main).may_write());
    let own = config_of("--rights read-only --bp-rights all");
    assert!(!own.rights(PortRole::Main).may_write());
    assert!(!own.rights(PortRole::Batch).is_limited());
    let unused = config("serve --bp-rights read-only");
    assert_eq!(unused.notes, ["--bp-rights: has no effect, because there is no batch port"]);
    let line = refused("serve --rights read-write");
    assert!(line.contains("--rights: got 'read-write', expected all, or comma"), "{line}");
}

#[test]
fn the_batch_port_has_the_list_of_the_main_port_unless_it_has_its_own() {
    let [inside, near] = ["10.2.3.4", "127.0.0.1"].map(|text| text.parse().expect("an address"));
    let config_of = |rest: &str| config(&format!("serve --l2 rend,addr=unix:/x {rest}"));
    let may = |config: &Config, port, peer: IpAddr| config.allow(port).contains(peer);
    let unused = config("serve -s /run/s --allow ::1 --bp-allow ::1");
    assert_eq!(unused.notes.len(), 2, "{:?}", unused.notes);
    let config = config_of("--allow 10.0.0.0/8 --allow fd00::/8");
    for port in [PortRole::Main, PortRole::Batch] {
        assert!(may(&config, port, inside) && !may(&config, port, near));
    }
    let config = config_of("--allow 10.0.0.0/8 --bp-allow localhost");
    assert!(may(&config, PortRole::Main, inside) && !may(&config, PortRole::Main, near));
    assert!(may(&config, PortRole::Batch, near) && !may(&config, PortRole::Batch, inside));
    assert!(may(&config_of("--bp-allow localhost"), PortRole::Main, inside));
    assert!(config.notes.is_empty(), "{:?}", config.notes);
}

#[test]
fn a_whole_host_of_rends_runs_unchanged() {
    let config = config(
        "serve -chunked -l1-sock /run/l1.sock --l2-enabled -l2-sock=/run/l2.sock -p 12000 \
         -bp 12001 --locked --concurrency 10 --multi-reader=false",
    );
    let L1::Memcached(l1) = &config.l1 else { panic!("{:?}", config.l1) };
    assert_eq!(l1.layout, Layout::Chunked { chunk_bytes: 1184 });
    assert!(
        matches!(&config.l2, L2::Rend(link) if link.address.to_string() == "unix:/run/l2.sock")
    );
    assert_eq!((config.port, config.batch_port), (12000, Some(12001)));
    let flags: Vec<_> = config.notes.iter().filter_map(|note| note.split_once(':')).collect();
    let flags: Vec<_> = flags.iter().map(|(flag, _)| *flag).collect();
    assert_eq!(flags[..3], ["--locked", "--concurrency", "--multi-reader"]);
    assert!(config.notes[3].contains("--bind 0.0.0.0"), "{:?}", config.notes);
}

#[test]
fn what_is_wrong_is_one_line_that_names_the_flag() {
    for (words, way) in [
        ("serve --workers 0", "-t, --workers: got '0', expected a whole number from 1 to"),
        ("serve -p 99999", "-p, --port: got '99999'"),
        ("serve --device net_tap0", "--address"),
        ("serve --address 10.0.0.5/24", "--device"),
        ("serve --l1 disk", "--l1: got 'disk', expected memory"),
        ("serve --poll never", "--poll"),
        ("serve --sock-path /tmp/x", "--use-domain-socket"),
        ("serve --no-such-flag", "--no-such-flag"),
        ("serve --prot 1", "'--port'"),
        ("serve --workrs 1", "'--workers'"),
        ("srve", "'serve'"),
        ("serve --workers", "--workers"),
        ("serve --cores 0 --workers 2", "--cores"),
        ("serve --l1 memcached,addr=unix:/x --l2 memcached,addr=unix:/x", "--l2"),
        ("serve --l1-sock /x --l2-enabled --l2-sock /x", "--l2"),
        ("serve --l1 memory --l1 memory,size=1G", "--l1"),
        ("serve --l2 none --l2 none", "--l2"),
        ("serve --bind ::1 --bind ::1", "--bind: the same address is given twice"),
        ("serve --bind 127.0.0.1,0.0.0.0", "--bind: 0.0.0.0 includes 127.0.0.1; leave one"),
        ("serve -p 0", "--port: got '0'"),
        ("serve -m 64 --l1 memory", "--l1"),
        ("serve --l1 memory -m 64", "--l1"),
        ("serve -m 64 --l1-inmem", "--l1-inmem and -m"),
        ("serve --l1-inmem --l1 memory", "--l1-inmem and --l1"),
        ("-p 25000 -m 64", "give a command first: sunder serve -p 25000 -m 64"),
        ("", "requires a subcommand but one was not provided [subcommands: serve, blast,"),
        ("l2", "requires a subcommand but one was not provided [subcommands: check"),
        ("serve --bp 1 --bp-sock-path /x", "--bp-sock-path"),
        ("dance", "dance"),
        ("serve --chunked", "--l1-sock"),
        ("serve --l2-enabled", "--l2-sock"),
        ("serve --locked=maybe", "--locked: got 'maybe', expected true or false"),
        ("serve -l9-sock x", "-l"),
        ("serve -d", "service manager"),
        ("serve -S", "--auth-file"),
        ("serve -Z", "proxy"),
        ("serve -M", "evicts"),
        ("serve -e /x", "--l2 ssd"),
        ("serve -o ext_path=/x:1G", "--l2 ssd"),
        ("serve -o ssl_key=/x", "proxy"),
        ("serve -o nonsense", "nonsense"),
        ("serve -U 11211", "UDP"),
        ("serve -m 64m", "megabytes"),
        ("serve -l 127.0.0.1:x", "with or without a port"),
        ("serve -a 999", "octal"),
        ("blast -n many", "-n, --num-ops: got 'many'"),
        ("blast --numops 5", "'--num-ops'"),
        ("blast --step 1", "--step"),
        ("blast -kl 250 --prefix a", "--prefix"),
        ("fill --login /nothing/there", "--login: /nothing/there: "),
        ("bench --login /nothing/there", "--login: /nothing/there: "),
        ("blast stray:0", "got 'stray:0', expected HOST, HOST:PORT or unix:PATH"),
        ("bench --rate 10 --sweep auto", "--sweep"),
        ("bench --keys 257 --key-bytes 2", "--key-bytes"),
        ("bench 10.0.0.5:0x", "10.0.0.5:0x"),
        ("bench name --device d --address 10.0.0.2/24", "no resolver"),
        ("bench report", "RESULT.json"),
        ("bench report a.json -o a.json", "would be overwritten"),
    ] {
        let line = refused(words);
        assert!(line.contains(way), "{words}: {line}");
        let tool = words.split(' ').next().unwrap_or_default();
        let is_tool = ["serve", "blast", "bench", "l2"].contains(&tool);
        assert!(!is_tool || line.starts_with(&format!("sunder {tool}")), "{line}");
    }
    let line = parse(["serve".into(), OsString::from("\u{1b}[2J\n")]).expect_err("no flag");
    assert!(!line.to_string().contains(char::is_control), "{line}");
}

#[test]
fn a_command_that_is_missing_or_mistyped_is_suggested() {
    for (words, way) in [
        ("-n 5 setget", "give a command first: sunder setget -n 5 (see"),
        ("--rate 50k bench --keys 9", "give a command first: sunder bench --rate 50k --keys 9"),
        ("help serv", "'serve'"),
        ("help l2 chek", "'check'"),
    ] {
        let line = refused(words);
        assert!(line.contains(way), "{words}: {line}");
    }
}

#[test]
fn the_value_of_a_flag_is_never_respelt() {
    let options = |words: &str| match parse_words(words) {
        Ok(Command::Tool(_, options)) => *options,
        other => panic!("{words}: {other:?}"),
    };
    for value in ["-hello", "-h", "--h=x", "-b", "-seed=3", "--no-loss=false", "-binary"] {
        for tool in ["blast", "setget", "sizes", "fill", "setops"] {
            let line = format!("{tool} --prefix {value} -key-length 5");
            let options = options(&line);
            assert_eq!((&options.prefix[..], options.key_letters), (value, 5), "{line}");
            assert_eq!(options.target, Target::Tcp("127.0.0.1".into(), 11211), "{line}");
        }
    }
    let served = config("serve -P -chunked -vf -bp --use-domain-socket --sock-path -l1-inmem");
    assert_eq!(served.socket_path.as_deref(), Some(Path::new("-l1-inmem")));
    assert_eq!((served.l1, served.batch_port), (Config::default().l1, None));
}

#[test]
fn both_names_of_bind_take_the_same_words() {
    for flag in ["--bind", "--listen", "-l"] {
        let binds = |words: &str| format!("{:?}", config(&format!("serve {flag} {words}")).binds);
        assert_eq!(binds("localhost,[::1]"), "[127.0.0.1, ::1]");
        assert_eq!(binds("*,localhost:7"), "[::, 127.0.0.1:7]");
        let line = refused(&format!("serve {flag} nowhere"));
        assert!(line.contains("-l, --bind: got 'nowhere', expected") && line.contains("localhost"));
    }
}

#[test]
fn rends_hint_about_addresses_is_for_ports() {
    let hints = |words: &str| {
        let notes = config(words).notes;
        notes.into_iter().filter(|note| note.contains("--bind 0.0.0.0")).count()
    };
    assert_eq!(hints("serve --l1-inmem"), 1);
    assert_eq!(hints("serve --l1-inmem --bind ::1"), 0);
    assert_eq!(hints("serve --l1-inmem --use-domain-socket --sock-path /s"), 0);
}

#[test]
fn words_that_are_no_text_are_named() {
    use std::os::unix::ffi::OsStringExt;
    let byte = || OsString::from_vec(vec![b'a', 0xff]);
    for words in [
        vec!["serve".into(), "--device".into(), byte()],
        vec!["blast".into(), byte()],
        vec!["bench".into(), "--label".into(), byte()],
        vec!["l2".into(), byte()],
    ] {
        let line = parse(words).expect_err("not UTF-8").to_string();
        assert!(line.contains("'a\u{fffd}'"), "{line}");
    }
}

#[test]
fn help_is_short_or_long_and_grouped() {
    let (short, long) = (printed("serve -h"), printed("serve --help"));
    assert!(long.len() > 2 * short.len());
    for heading in ["Where clients come from:", "How it runs:", "What it stores:"] {
        assert!(short.contains(heading) && long.contains(heading), "{heading}");
    }
    for heading in ["memcached's flags:", "Rend's flags:"] {
        assert!(!short.contains(heading) && long.contains(heading), "{heading}");
    }
    assert_eq!(printed("help serve"), long);
    for tool in ["blast", "setget", "sizes", "fill", "setops", "bench", "l2", "l2 check"] {
        let help = printed(&format!("{tool} --help"));
        assert!(help.contains(&format!("Usage: sunder {tool}")), "{help}");
        assert!(tool.starts_with("l2") || help.contains("Exit status: 0"), "{tool}");
    }
    let all = printed("--help");
    for tool in ["serve", "blast", "setget", "sizes", "fill", "setops", "bench", "l2"] {
        assert!(all.contains(&format!("  {tool} ")), "{all}");
    }
}

#[test]
fn the_version_says_how_it_was_built() {
    assert_eq!(printed("--version"), crate::base::console::VERSION);
    for words in ["--version --verbose", "--verbose --version", "serve -V --verbose"] {
        let text = printed(words);
        for line in ["sunder ", "compiler: rustc ", "dpdk: ", "features: "] {
            assert!(text.lines().any(|it| it.starts_with(line)), "{words}: {text}");
        }
    }
    let has_dpdk = !printed("--version --verbose").contains("dpdk: none");
    assert_eq!(has_dpdk, cfg!(feature = "dpdk"));
}

/// The long flags of all subcommands, each with its subcommand.
fn all_flags() -> Vec<(String, String)> {
    fn collect(command: &clap::Command, path: &str, flags: &mut Vec<(String, String)>) {
        let longs = command.get_arguments().filter_map(clap::Arg::get_long);
        flags.extend(longs.map(|long| (path.to_owned(), long.to_owned())));
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            if below.get_name() != "help" {
                collect(below, format!("{path} {}", below.get_name()).trim(), flags);
            }
        }
    }
    let mut flags = vec![];
    let mut definition = super::definition();
    definition.build();
    collect(&definition, "", &mut flags);
    flags
}

#[test]
fn man_pages_and_completions_have_every_flag_that_is_parsed_and_no_other() {
    use std::collections::BTreeSet;
    let folder = std::env::temp_dir().join(format!("sunder-generated-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    for product in [super::Product::Man, super::Product::Completions] {
        super::generate(product, &folder).expect("written");
    }
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    let shells = ["sunder.bash", "_sunder", "sunder.fish"].map(read);
    let flags = all_flags();
    assert!(flags.len() > 150, "{}", flags.len());
    for (path, flag) in &flags {
        let page = read(&format!("{}.1", format!("sunder {path}").trim().replace(' ', "-")));
        assert!(page.replace("\\-", "-").contains(&format!("--{flag}")), "man {path}: {flag}");
        let name = format!("sunder {path}");
        assert!(page.contains(&format!(".SH SYNOPSIS\n{} ", name.trim())), "man {path}");
        let footer = format!(" 1 \"\" \"{}\"", crate::base::console::VERSION.trim_end());
        assert!(page.contains(&footer) && !page.contains("EXTRA"), "man {path}: {page}");
        // roff warns of a line that it cannot adjust or break.
        let longest = page.split_whitespace().max_by_key(|word| word.replace('\\', "").len());
        let longest = longest.expect("a word");
        assert!(longest.len() <= 66 && page.contains("\n.nh\n.ad l\n"), "man {path}: {longest}");
        let lines: Vec<&str> = page.lines().collect();
        let nameless = lines
            .windows(3)
            .find(|lines| lines[0] == ".TP" && (lines[2].is_empty() || lines[2].starts_with('.')));
        assert_eq!(nameless, None, "man {path}: a flag without a text");
        assert!(shells[0].contains(&format!("--{flag}")), "bash {path}: {flag}");
        assert!(shells[1].contains(&format!("--{flag}")), "zsh {path}: {flag}");
        let line = parse_words(&format!("{path} --{flag}")).map_err(|error| error.to_string());
        let is_known = !line.is_err_and(|line| line.contains("unexpected argument"));
        assert!(is_known, "sunder {path} --{flag}");
    }
    let words = |text: &str| -> BTreeSet<String> {
        let own = text.lines().filter(|line| line.starts_with("complete "));
        let behind = own.flat_map(|line| line.split(" -l ").skip(1));
        behind.filter_map(|rest| rest.split_whitespace().next()).map(str::to_owned).collect()
    };
    let mut parsed: BTreeSet<String> = flags.into_iter().map(|(_, flag)| flag).collect();
    // Other names of --key-length and --bind that help shows.
    parsed.extend(["kl", "listen"].map(str::to_owned));
    assert_eq!(words(&shells[2]), parsed);
    std::fs::remove_dir_all(&folder).expect("ours");
}
