//! What a server that cannot have its SSD says: one line that names the flag and the way out, and
//! exit status 2. What a look at a log says.

use crate::Place;
use crate::client::Client;
use crate::support::{free_port, run_sunder};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

fn refused(flags: &[&str], words: &[&str]) {
    let port = free_port().to_string();
    let ended = run_sunder(&[&["serve", "-p", &port][..], flags].concat()).expect("it ends");
    let line = ended.stderr.trim_end();
    assert_eq!(ended.status, 2, "{flags:?}: {line}");
    assert_eq!(line.lines().count(), 1, "{flags:?}: {line}");
    for word in words {
        assert!(line.contains(word), "{flags:?} is not told '{word}': {line}");
    }
}

#[test]
fn words_that_make_no_ssd() {
    refused(&["--l2", "ssd"], &["--l2", "path="]);
    refused(&["--l1", "ssd,path=/x,size=1"], &["--l1", "size=1"]);
    refused(&["--l1", "ssd,path=/x,object=1"], &["--l1", "object=1"]);
    refused(&["--l2", "ssd,path=/x,admit=some"], &["--l2", "admit=some", "second-touch"]);
    refused(&["--l2", "ssd,path=/x,flush=0"], &["--l2", "flush=0", "milliseconds"]);
    refused(&["--l1", "ssd,path=/x", "--l2", "ssd,path=/y"], &["--l2"]);
}

#[test]
fn paths_that_are_none() {
    let place = Place::new();
    refused(&["--l2", &place.tier("")], &["--l2", place.text(), "size=SIZE"]);
    refused(&["--l1", "ssd,path=/tmp"], &["--l1", "directory"]);
    let nowhere = format!("ssd,path={}/nowhere/log,size=600M", place.text());
    refused(&["--l1", &nowhere], &["--l1", "folder"]);
    refused(&["--l1", "ssd,path=/dev/null"], &["--l1", "block device"]);
    let one = ["--workers", "2", "--l1", &place.tier(",size=100M")];
    refused(&one, &["--l1", "too small", "100 MiB", "2 workers"]);
    assert!(!place.0.exists(), "what was refused is not made");
    File::create(&place.0).expect("a file");
    refused(&["--l1", &place.tier("")], &["--l1", "empty", "size=SIZE"]);
    // There is no disk for that.
    refused(&["--l1", &place.tier(",size=900T")], &["--l1", place.text()]);
}

#[test]
fn an_item_larger_than_a_segment() {
    let place = Place::new();
    let flags = ["--max-item-size", "64M", "--l1", &place.tier(",size=600M")];
    refused(&flags, &["--max-item-size", "67108864", "up to"]);
}

#[test]
fn a_disk_that_holds_something_else() {
    let place = Place::new();
    let file = File::create(&place.0).expect("a file");
    file.write_all_at(b"what somebody else keeps", 100).expect("room");
    file.set_len(600 << 20).expect("room");
    refused(&["--l1", &place.tier("")], &["--l1", "something else", "format"]);
    let read = fs::read(&place.0).expect("readable");
    assert!(read[100..].starts_with(b"what somebody else keeps"), "it was not touched");
    let looked_at = run_sunder(&["l2", "check", place.text()]).expect("it ends");
    assert_eq!(looked_at.status, 2, "{}", looked_at.stderr);
    let mut c = Client::start(&["--workers", "2", "--l1", &place.tier(",format")]);
    assert_eq!(c.server.terminate(), Ok(0));
}

#[test]
fn a_file_of_somebody_else_does_not_grow() {
    let place = Place::new();
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
fn a_log_that_was_made_otherwise_or_is_in_use() {
    let place = Place::new();
    let tier = place.tier(",size=600M");
    let mut c = Client::start(&["--workers", "2", "--l1", &tier]);
    assert_eq!(c.store("set", "a", 0, b"1"), "STORED");
    refused(&["--workers", "2", "--l2", &tier], &["--l2", "in use by another sunder"]);
    let looked_at = run_sunder(&["l2", "check", place.text()]).expect("it ends");
    assert_eq!(looked_at.status, 2, "{}", looked_at.stderr);
    assert_eq!(c.server.terminate(), Ok(0));
    refused(&["--workers", "1", "--l1", &tier], &["--l1", "--workers 2", "--workers 1", "format"]);
    let other = place.tier(",size=560M");
    refused(&["--workers", "2", "--l1", &other], &["--l1", "544 MiB", "size=576M", "format"]);
    let had_bytes = fs::metadata(&place.0).expect("it is there").len();
    let larger = place.tier(",size=900M");
    for workers in ["2", "3"] {
        refused(&["--workers", workers, "--l1", &larger], &["--l1", "format"]);
    }
    assert_eq!(fs::metadata(&place.0).expect("it is there").len(), had_bytes, "it did not grow");
    let mut c = Client::start(&["--workers", "2", "--l1", &tier]);
    assert_eq!(c.get("a"), Some((0, b"1".to_vec())), "nothing of that has changed it");
}

#[test]
fn damage_is_found_by_a_look_and_is_a_miss() {
    let place = Place::new();
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
    assert!(looked_at.stdout.contains("damaged 1"), "{}", looked_at.stdout);
    let mut c = Client::start(&flags);
    assert_eq!(c.get("a"), None);
    assert_eq!(c.stat("ssd_corrupt").expect("it answers"), 1);
    assert_eq!(c.get("b"), Some((0, b"whole".to_vec())));
}
