//! A server that cannot use its SSD: one line that names the flag and the remedy, and an exit
//! status that says who can fix it. Also the output of the log inspection.

use super::LogFile;
use super::client::Client;
use crate::support::{SUNDER, free_port, run_sunder};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};

/// Wrong command line, a problem of the host, or a temporary one.
const WORDS: i32 = 2;
const HOST: i32 = 1;
const PASSING: i32 = 75;

fn refused(flags: &[&str], words: &[&str]) {
    failed(flags, HOST, words);
}

fn failed(flags: &[&str], status: i32, words: &[&str]) {
    let port = free_port().to_string();
    let ended = run_sunder(&[&["serve", "-p", &port][..], flags].concat()).expect("it ends");
    let line = ended.stderr.trim_end();
    assert_eq!(ended.status, status, "{flags:?}: {line}");
    assert_eq!(line.lines().count(), 1, "{flags:?}: {line}");
    for word in words {
        assert!(line.contains(word), "{flags:?} does not print '{word}': {line}");
    }
}

/// A server that has stored 1 as "a" on its SSD.
fn with_a(workers: &str, tier: &str) -> Client {
    let mut c = Client::start(&["--workers", workers, "--l1", tier]);
    assert_eq!(c.store("set", "a", 0, b"1"), "STORED");
    c
}

#[test]
fn invalid_ssd_arguments() {
    failed(&["--l2", "ssd"], WORDS, &["--l2", "path="]);
    failed(&["--l1", "ssd,path=/x,size=1"], WORDS, &["--l1", "size=1"]);
    failed(&["--l1", "ssd,path=/x,object=1"], WORDS, &["--l1", "object=1"]);
    failed(&["--l2", "ssd,path=/x,admit=some"], WORDS, &["--l2", "admit=some", "second-touch"]);
    failed(&["--l2", "ssd,path=/x,flush=0"], WORDS, &["--l2", "flush=0", "milliseconds"]);
    failed(&["--l1", "ssd,path=/x", "--l2", "ssd,path=/y"], WORDS, &["--l2"]);
    failed(
        &["--l2", "ssd,path=/x,siez=1G"],
        WORDS,
        &["--l2", "'siez=1G'", "size=SIZE", "flush=MS"],
    );
}

#[test]
fn invalid_paths() {
    let place = LogFile::new();
    failed(&["--l2", &place.tier("")], WORDS, &["--l2", place.text(), "size=SIZE"]);
    failed(&["--l1", "ssd,path=/tmp"], WORDS, &["--l1", "directory"]);
    let nowhere = format!("ssd,path={}/nowhere/log,size=600M", place.text());
    failed(&["--l1", &nowhere], PASSING, &["--l1", "folder", "mounted?"]);
    let device = "ssd,path=/dev/sunder-none";
    failed(&["--l1", device], PASSING, &["--l1", "no such device"]);
    failed(&["--l1", "ssd,path=/dev/null"], WORDS, &["--l1", "block device"]);
    let one = ["--workers", "2", "--l1", &place.tier(",size=100M")];
    failed(&one, WORDS, &["--l1", "too small", "100 MiB", "2 workers"]);
    assert!(!place.0.exists(), "a refused file is not created");
    File::create(&place.0).expect("a file");
    failed(&["--l1", &place.tier("")], WORDS, &["--l1", "empty", "size=SIZE"]);
    // No disk is that large.
    let vast = place.tier(",size=900T");
    failed(&["--l1", &vast], WORDS, &["--l1", place.text(), "no room", "altogether"]);
}

#[test]
fn a_limit_on_the_size_of_files() {
    let place = LogFile::new();
    let (port, tier) = (free_port(), place.tier(",size=300M"));
    let serve = format!("ulimit -f 102400; exec \"$0\" serve -p {port} --workers 1 --l1 {tier}");
    let ended = std::process::Command::new("bash").args(["-c", &serve, SUNDER]).output();
    let ended = ended.expect("bash runs");
    let line = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(HOST), "{line}");
    assert!(line.contains("300 MiB") && line.contains("100 MiB; raise"), "{line}");
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    assert!(!place.0.exists(), "a refused file is not created");
}

#[test]
fn an_item_larger_than_a_segment() {
    let place = LogFile::new();
    let flags = ["--max-item-size", "64M", "--l1", &place.tier(",size=600M")];
    failed(&flags, WORDS, &["--max-item-size", "64 MiB", "at most 16 MiB"]);
}

#[test]
fn a_disk_that_holds_something_else() {
    let place = LogFile::new();
    let file = File::create(&place.0).expect("a file");
    file.write_all_at(b"what somebody else keeps", 100).expect("room");
    file.set_len(600 << 20).expect("room");
    let words = ["--l1", "is no log of sunder", "another path", "overwrite all that is there"];
    refused(&["--l1", &place.tier("")], &words);
    let read = fs::read(&place.0).expect("readable");
    assert!(read[100..].starts_with(b"what somebody else keeps"), "it was not touched");
    not_looked_at(place.text(), &["something else, or a damaged log"]);
    let mut c = Client::start(&["--workers", "2", "--l1", &place.tier(",format")]);
    let said = c.server.stderr();
    assert!(said.contains("\"format\" has started it afresh, and will at every start"), "{said}");
    assert_eq!(c.server.terminate(), Ok(0));
    let mut c = Client::start(&["--workers", "2", "--l1", &place.tier("")]);
    assert!(!c.server.stderr().contains("format"), "{}", c.server.stderr());
    assert_eq!(c.server.terminate(), Ok(0));
}

/// The output of an inspection that is refused, which never suggests what only a server can do.
fn not_looked_at(path: &str, words: &[&str]) {
    not_looked_at_with(WORDS, path, words);
}

fn not_looked_at_with(status: i32, path: &str, words: &[&str]) {
    let ended = run_sunder(&["l2", "check", path]).expect("it ends");
    let line = ended.stderr.trim_end();
    assert_eq!((ended.status, ended.stdout.as_str()), (status, ""), "{path}: {line}");
    assert_eq!(line.lines().count(), 1, "{path}: {line}");
    assert!(line.starts_with(&format!("sunder l2 check: {path}: ")), "{line}");
    for word in words {
        assert!(line.contains(word), "{path} does not print '{word}': {line}");
    }
    for word in ["size=", "format", "write"] {
        assert!(!line.contains(word), "{path} is told '{word}': {line}");
    }
}

/// A figure of an inspection, by its name.
fn counted(said: &str, name: &str) -> u64 {
    let row = said.lines().find(|line| line.split_whitespace().next() == Some(name));
    let mut words = row.unwrap_or_else(|| panic!("no {name}: {said}")).split_whitespace().skip(1);
    words.next().and_then(|count| count.parse().ok()).expect("a count")
}

#[test]
fn a_superblock_that_is_damaged_is_noted_by_an_inspection() {
    let place = LogFile::new();
    let mut c = with_a("1", &place.tier(",size=300M"));
    assert_eq!(c.server.terminate(), Ok(0));
    let file = File::options().read(true).write(true).open(&place.0).expect("ours");
    let look = || run_sunder(&["l2", "check", place.text()]).expect("it ends");
    let whole = look().stdout;
    assert!(whole.contains(" of 2 used, generation ") && !whole.contains("note"), "{whole}");
    for (at, bad, used) in [(0, 1, 2), (4096, 2, 1)] {
        let mut before = [0; 4096];
        file.read_exact_at(&mut before, at).expect("there");
        file.write_all_at(&[7; 100], at).expect("room");
        let looked_at = look();
        assert_eq!(looked_at.status, 0, "{}", looked_at.stdout);
        let note = format!("note: superblock {bad} cannot be read");
        let line = format!("superblock {used} of 2 used");
        for words in [note, line] {
            assert!(looked_at.stdout.contains(&words), "{words}: {}", looked_at.stdout);
        }
        file.write_all_at(&before, at).expect("room");
    }
    assert_eq!(look().stdout, whole);
}

#[test]
fn paths_that_cannot_be_inspected() {
    let place = LogFile::new();
    not_looked_at(place.text(), &["there is no such file"]);
    not_looked_at("/tmp", &["is a directory"]);
    not_looked_at("/dev/null", &["neither a regular file nor a block device"]);
    let file = File::create(&place.0).expect("a file");
    not_looked_at(place.text(), &["holds no log", "0 bytes"]);
    file.set_len(600 << 20).expect("room");
    not_looked_at(place.text(), &["holds no log"]);
    file.set_len(0).expect("room");
    not_looked_at(&format!("{}/below", place.text()), &["Not a directory"]);
}

#[test]
fn an_inspection_needs_no_write_permission_and_changes_nothing() {
    let place = LogFile::new();
    let mut c = with_a("1", &place.tier(",size=300M"));
    c.server.kill();
    let before = fs::read(&place.0).expect("readable");
    let is_immutable = |flag: &str| {
        std::process::Command::new("chattr")
            .args([flag, place.text()])
            .status()
            .is_ok_and(|it| it.success())
    };
    fs::set_permissions(&place.0, fs::Permissions::from_mode(0o400)).expect("ours");
    // This also keeps root from writing, if the file system supports it.
    let was_set = is_immutable("+i");
    let looked_at = run_sunder(&["l2", "check", place.text()]).expect("it ends");
    assert!(!was_set || is_immutable("-i"), "the flag is removed again");
    assert_eq!(looked_at.status, 0, "{}{}", looked_at.stdout, looked_at.stderr);
    // A kill loses what was not flushed.
    assert!(counted(&looked_at.stdout, "items") <= 1, "{}", looked_at.stdout);
    assert!(before == fs::read(&place.0).expect("readable"), "it has changed");
}

#[test]
fn a_truncated_log_is_not_extended() {
    let place = LogFile::new();
    let tier = place.tier(",size=600M");
    let mut c = with_a("2", &tier);
    assert_eq!(c.server.terminate(), Ok(0));
    let whole = fs::read(&place.0).expect("readable");
    let file = File::options().write(true).open(&place.0).expect("ours");
    for has_bytes in [575 << 20, 100 << 20, 20 << 20, 1 << 20] {
        file.set_len(has_bytes).expect("ours");
        let has = format!("it has {} MiB", has_bytes >> 20);
        let words = ["--l2", "cut off", &has, "576 MiB", "put back", "format"];
        refused(&["--workers", "2", "--l2", &tier], &words);
        refused(&["--workers", "2", "--l2", &place.tier("")], &words);
        not_looked_at(place.text(), &["cut off", &has, "576 MiB"]);
        assert_eq!(fs::metadata(&place.0).expect("there").len(), has_bytes, "it has grown");
    }
    drop(file);
    fs::write(&place.0, whole).expect("room");
    let mut c = Client::start(&["--workers", "2", "--l1", &tier]);
    assert_eq!(c.get("a"), Some((0, b"1".to_vec())), "the restored item is there");
}

#[test]
fn items_above_a_lowered_limit_are_reported() {
    let place = LogFile::new();
    let tier = place.tier(",size=300M");
    let start = |limit| Client::start(&["--workers", "1", "--max-item-size", limit, "--l1", &tier]);
    let mut c = start("4M");
    assert_eq!(c.store("set", "large", 0, &vec![b'x'; 3 << 20]), "STORED");
    assert_eq!(c.store("set", "small", 0, b"1"), "STORED");
    assert_eq!(c.server.terminate(), Ok(0));
    let mut c = start("1M");
    let said = c.server.stderr();
    assert!(said.contains(" 1 item found"), "{said}");
    assert!(said.contains("1 more items are too large for --max-item-size 1048576"), "{said}");
    assert_eq!(c.stat("ssd_items").expect("it answers"), 1);
    assert_eq!((c.get("large"), c.get("small")), (None, Some((0, b"1".to_vec()))));
    assert_eq!(c.stat("ssd_too_large").expect("it answers"), 1);
    assert_eq!(c.stat("ssd_corrupt").expect("it answers"), 0);
    assert_eq!(c.server.terminate(), Ok(0));
    let mut c = start("4M");
    assert_eq!(c.get("large"), Some((0, vec![b'x'; 3 << 20])));
}

#[test]
fn a_log_damaged_beyond_repair_is_reported() {
    let place = LogFile::new();
    let tier = place.tier(",size=300M");
    let mut c = with_a("1", &tier);
    assert_eq!(c.server.terminate(), Ok(0));
    let file = File::options().write(true).open(&place.0).expect("ours");
    // Both headers of the first segment.
    file.write_all_at(&[7; 8192], 64 << 10).expect("room");
    drop(file);
    let looked_at = run_sunder(&["l2", "check", place.text()]).expect("it ends");
    let line = "damaged beyond repair: a start discards all that this part holds";
    assert_eq!(looked_at.stdout.trim_end().lines().last(), Some(line), "{}", looked_at.stdout);
    let mut c = Client::start(&["--workers", "1", "--l1", &tier]);
    let said = c.server.stderr();
    assert!(said.contains("1 of 1 parts were damaged beyond repair"), "{said}");
    assert_eq!(c.get("a"), None);
}

#[test]
fn a_log_with_a_missing_part_is_reported() {
    let place = LogFile::new();
    let flags = ["--workers", "2", "--l1", &place.tier(",size=600M")];
    let mut c = Client::start(&flags);
    assert_eq!(c.server.terminate(), Ok(0));
    let file = File::options().write(true).open(&place.0).expect("ours");
    // As if someone truncated it and noticed.
    file.set_len(288 << 20).expect("ours");
    file.set_len(600 << 20).expect("ours");
    drop(file);
    let mut c = Client::start(&flags);
    let said = c.server.stderr();
    assert!(said.contains("1 of 2 parts were damaged beyond repair"), "{said}");
    assert_eq!(c.server.terminate(), Ok(0));
    let c = Client::start(&flags);
    assert!(!c.server.stderr().contains("damaged"), "{}", c.server.stderr());
}

#[test]
fn a_disk_with_data_after_zeros() {
    let place = LogFile::new();
    // The last block of a segment's header, and the superblocks of file systems.
    for at in [9_000, 64 << 10, 255 << 10] {
        let file = File::create_new(&place.0).expect("a file");
        file.set_len(600 << 20).expect("room");
        file.write_all_at(b"what somebody else keeps", at).expect("room");
        for flags in ["", ",size=600M", ",size=620M"] {
            refused(&["--l1", &place.tier(flags)], &["--l1", "something else", "format"]);
        }
        not_looked_at(place.text(), &["something else"]);
        assert_eq!(file.metadata().expect("there").len(), 600 << 20);
        let kept = fs::read(&place.0).expect("readable");
        assert!(kept[at as usize..].starts_with(b"what somebody else keeps"), "it was not touched");
        fs::remove_file(&place.0).expect("ours");
    }
}

#[test]
fn a_disk_with_data_in_a_later_part() {
    let place = LogFile::new();
    let file = File::create_new(&place.0).expect("a file");
    file.set_len(600 << 20).expect("room");
    // The second worker's part.
    file.write_all_at(b"what somebody else keeps", 288 << 20).expect("room");
    let before = fs::read(&place.0).expect("readable");
    refused(&["--workers", "2", "--l1", &place.tier("")], &["--l1", "something else", "format"]);
    assert!(fs::read(&place.0).expect("readable") == before, "it was not touched");
}

#[test]
fn a_log_of_another_version() {
    let place = LogFile::new();
    let tier = place.tier(",size=300M");
    let mut c = Client::start(&["--workers", "1", "--l1", &tier]);
    assert_eq!(c.server.terminate(), Ok(0));
    let file = File::options().read(true).write(true).open(&place.0).expect("ours");
    for at in [0, 4096] {
        let mut block = [0; 4096];
        file.read_exact_at(&mut block, at).expect("there");
        block[12..16].copy_from_slice(&99_u32.to_le_bytes());
        let checksum = crc32c::crc32c(&block[4..]).to_le_bytes();
        block[..4].copy_from_slice(&checksum);
        file.write_all_at(&block, at).expect("ours");
    }
    refused(&["--workers", "1", "--l1", &tier], &["--l1", "version 99", "format"]);
    not_looked_at(place.text(), &["version 99"]);
}

#[test]
fn impossible_numbers() {
    let place = LogFile::new();
    let tier = place.tier(",size=300M");
    let mut c = Client::start(&["--workers", "1", "--l1", &tier]);
    assert_eq!(c.server.terminate(), Ok(0));
    let file = File::options().read(true).write(true).open(&place.0).expect("ours");
    // Segments used, of 18; bytes of each.
    for (field, number) in [(88, 1_000_u32), (56, 65_536)] {
        let mut before = [0; 8192];
        file.read_exact_at(&mut before, 0).expect("there");
        let mut blocks = before;
        for block in blocks.chunks_mut(4096) {
            block[field..field + 4].copy_from_slice(&number.to_le_bytes());
            let checksum = crc32c::crc32c(&block[4..]).to_le_bytes();
            block[..4].copy_from_slice(&checksum);
        }
        file.write_all_at(&blocks, 0).expect("ours");
        refused(&["--workers", "1", "--l1", &tier], &["--l1", "format"]);
        not_looked_at(place.text(), &["something else, or a damaged log"]);
        file.write_all_at(&before, 0).expect("ours");
    }
    let looked_at = run_sunder(&["l2", "check", place.text()]).expect("it ends");
    assert_eq!(looked_at.status, 0, "{}{}", looked_at.stdout, looked_at.stderr);
}

#[test]
fn a_file_of_another_user_does_not_grow() {
    let place = LogFile::new();
    for has_bytes in [10, 100 << 20] {
        let file = File::create(&place.0).expect("a file");
        file.write_all_at(b"kept notes", 0).expect("room");
        file.set_len(has_bytes).expect("room");
        drop(file);
        refused(&["--l1", &place.tier(",size=600M")], &["--l1", "something else", "format"]);
        assert_eq!(fs::metadata(&place.0).expect("it is there").len(), has_bytes);
    }
}

#[test]
fn a_log_with_other_settings_or_in_use() {
    let place = LogFile::new();
    let tier = place.tier(",size=600M");
    let mut c = with_a("2", &tier);
    failed(&["--workers", "2", "--l2", &tier], PASSING, &["--l2", "in use by another sunder"]);
    not_looked_at_with(PASSING, place.text(), &["in use by another sunder"]);
    assert_eq!(c.server.terminate(), Ok(0));
    let one = ["--workers", "1", "--l1", &tier];
    failed(&one, WORDS, &["--l1", "--workers 2", "--workers 1", "format"]);
    let other = ["--workers", "2", "--l1", &place.tier(",size=560M")];
    let words = ["--l1", "a log of 600 MiB", "this is 560 MiB", "size=600M", "format"];
    failed(&other, WORDS, &words);
    let had_bytes = fs::metadata(&place.0).expect("it is there").len();
    let larger = place.tier(",size=900M");
    for workers in ["2", "3"] {
        failed(&["--workers", workers, "--l1", &larger], WORDS, &["--l1", "format"]);
    }
    assert_eq!(fs::metadata(&place.0).expect("it is there").len(), had_bytes, "it did not grow");
    let mut c = Client::start(&["--workers", "2", "--l1", &tier]);
    assert_eq!(c.get("a"), Some((0, b"1".to_vec())), "none of that has changed it");
    let said = c.server.stderr();
    assert!(said.contains(": 600 MiB, room for 544 MiB of items, "), "{said}");
    assert_eq!(c.stat("ssd_size_bytes").expect("it answers"), 544 << 20);
}

#[test]
fn damage_is_found_by_an_inspection_and_is_a_miss() {
    let place = LogFile::new();
    let flags = ["--workers", "1", "--l1", &place.tier(",size=300M")];
    let mut c = Client::start(&flags);
    assert_eq!(c.store("set", "a", 0, &[b'x'; 20_000]), "STORED");
    assert_eq!(c.store("set", "b", 0, b"whole"), "STORED");
    assert_eq!(c.server.terminate(), Ok(0));
    let look = || run_sunder(&["l2", "check", place.text()]).expect("it ends");
    assert_eq!(look().status, 0);
    let bytes = fs::read(&place.0).expect("readable");
    let at = bytes.windows(100).position(|it| it == [b'x'; 100]).expect("it is on the disk");
    let file = File::options().write(true).open(&place.0).expect("ours");
    file.write_all_at(b"y", at as u64 + 10_000).expect("room");
    drop(file);
    let looked_at = look();
    assert_eq!(looked_at.status, 1, "{}{}", looked_at.stdout, looked_at.stderr);
    assert_eq!(counted(&looked_at.stdout, "damaged"), 1, "{}", looked_at.stdout);
    let mut c = Client::start(&flags);
    assert_eq!(c.get("a"), None);
    assert_eq!(c.stat("ssd_corrupt").expect("it answers"), 1);
    assert_eq!(c.get("b"), Some((0, b"whole".to_vec())));
}

#[test]
fn a_file_that_others_can_open_is_used_but_not_one_that_they_own() {
    let place = LogFile::new();
    let flags = ["--workers", "1", "--l2", &place.tier(",size=300M")];
    let mode = || fs::metadata(&place.0).expect("there").permissions().mode() & 0o777;
    File::create(&place.0).expect("a file");
    fs::set_permissions(&place.0, fs::Permissions::from_mode(0o666)).expect("ours");
    let mut c = Client::start(&flags);
    let said = c.server.stderr();
    assert!(said.contains("others could open it (mode 0666)"), "{said}");
    assert_eq!(mode(), 0o600);
    assert_eq!(c.server.terminate(), Ok(0));
    let mut c = Client::start(&flags);
    assert!(!c.server.stderr().contains("others"), "{}", c.server.stderr());
    assert_eq!(c.server.terminate(), Ok(0));
    let was_given_away = std::os::unix::fs::chown(&place.0, Some(4711), None).is_ok();
    assert_eq!(was_given_away, rustix::process::geteuid().is_root());
    if was_given_away {
        refused(&flags, &["--l2", place.text(), "belongs to user 4711", "chown"]);
    }
    // A file refused for its content is not touched.
    let notes = LogFile::new();
    fs::write(&notes.0, "kept notes").expect("a file");
    fs::set_permissions(&notes.0, fs::Permissions::from_mode(0o644)).expect("ours");
    refused(&["--l1", &notes.tier(",size=600M")], &["something else"]);
    assert_eq!(fs::metadata(&notes.0).expect("there").permissions().mode() & 0o777, 0o644);
}
