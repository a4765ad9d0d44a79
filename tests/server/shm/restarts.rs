//! `sunder l1d --path`: items are there after a stop and after kill -9 of the daemon, for its
//! clients too; and what it refuses.

use super::{PATIENT_MS, ask, sunder, until};
use crate::kept::Place;
use crate::support::chaos::Memcached;
use crate::support::client::Client;
use crate::support::{free_port, free_socket_path, run_sunder, runtime_directory};
use std::fs;
use std::process::Command;

const ITEMS: u32 = 200;

fn value(i: u32) -> Vec<u8> {
    (0..i * 97 % 5_000).map(|at| (at * (i + 1)) as u8).collect()
}

#[test]
fn items_are_there_after_a_stop_and_after_a_kill_of_the_daemon() {
    for flags in [&["--huge", "off"][..], &["--workers", "2"]] {
        let files = Place::new();
        let path = files.path("cache");
        let flags = [&["--path", &path], flags].concat();
        let mut l1d = Memcached::start_l1d_with(64, 1, &flags).expect("it starts");
        let (_server, address) = sunder(&l1d, PATIENT_MS, &["--poll", "adaptive"]);
        let mut client = Client::connect(address);
        for i in 0..ITEMS {
            client.set(&format!("k{i}"), &value(i));
        }
        client.set("gone", b"x");
        client.send(b"delete gone\r\n");
        assert_eq!(client.line(), "DELETED\r\n");
        for round in 0..4 {
            let end = if round % 2 == 0 { Memcached::terminate } else { Memcached::kill };
            end(&mut l1d).expect("it ends");
            l1d.restart().expect("it starts again");
            until("it is attached again", || client.get("k1").as_deref() == Ok(&value(1)[..]));
            for i in 0..ITEMS {
                assert_eq!(client.get(&format!("k{i}")).as_ref(), Ok(&value(i)), "k{i}, {round}");
            }
            assert_eq!(client.get("gone"), Err("END\r\n".into()));
            assert_eq!(ask(l1d.path(), "get k0"), "VALUE k0 0 0\r\n\r\nEND\r\n");
            client.set("gone", round.to_string().as_bytes());
            client.send(b"delete gone\r\n");
            assert_eq!(client.line(), "DELETED\r\n");
        }
        client.send(b"flush_all\r\n");
        assert_eq!(client.line(), "OK\r\n");
        l1d.kill().expect("killed");
        l1d.restart().expect("it starts again");
        until("it is attached again", || client.get("k1") == Err("END\r\n".into()));
    }
}

/// A client that could not tell the daemon does so when it is back: its items are the old ones.
#[test]
fn what_l2_replaced_while_the_daemon_was_down_is_not_served_when_it_is_back() {
    let (files, l2) = (Place::new(), Memcached::start(64, 1).expect("it starts"));
    let flags = ["--path", &files.path("cache")];
    let mut l1d = Memcached::start_l1d_with(64, 1, &flags).expect("it starts");
    let l2_flag = format!("memcached,addr={}", l2.address());
    let batch_port = free_port().to_string();
    let (_server, address) = sunder(&l1d, PATIENT_MS, &["--l2", &l2_flag, "--bp", &batch_port]);
    let mut client = Client::connect(address);
    client.set("replaced", b"old");
    client.set("kept", b"kept");
    for end in [Memcached::kill, Memcached::terminate] {
        assert_eq!(ask(l1d.path(), "get kept"), "VALUE kept 0 4\r\nkept\r\nEND\r\n");
        end(&mut l1d).expect("it ends");
        client.set("replaced", b"new");
        assert_eq!(client.get("replaced").as_deref(), Ok(&b"new"[..]));
        l1d.restart().expect("it starts again");
        until("the old one is gone", || {
            assert_eq!(client.get("replaced").as_deref(), Ok(&b"new"[..]));
            !ask(l1d.path(), "get replaced").contains("old")
        });
        until("L1 has it", || {
            client.set("replaced", b"old");
            ask(l1d.path(), "get replaced").contains("old")
        });
    }
}

/// The name of the daemon is not its store.
#[test]
fn a_store_that_is_back_after_another_serves_nothing_that_was_replaced_meanwhile() {
    let (files, l2) = (Place::new(), Memcached::start(64, 1).expect("it starts"));
    let path = files.path("cache");
    let mut l1d = Memcached::start_l1d_with(64, 1, &["--path", &path]).expect("it starts");
    let l2_flag = format!("memcached,addr={}", l2.address());
    let batch_port = free_port().to_string();
    let flags = ["--l2", &l2_flag, "--bp", &batch_port, "--poll", "adaptive"];
    let (_server, address) = sunder(&l1d, PATIENT_MS, &flags);
    let mut client = Client::connect(address);
    client.set("key", b"old");
    assert!(ask(l1d.path(), "get key").contains("old"));
    l1d.kill().expect("killed");
    l1d.set_flags(&[]);
    l1d.restart().expect("it starts again");
    until("the other one is used", || {
        client.set("key", b"new");
        ask(l1d.path(), "get key").contains("new")
    });
    l1d.terminate().expect("it ends");
    l1d.set_flags(&["--path", &path]);
    l1d.restart().expect("it starts again");
    until("it is emptied", || {
        assert_eq!(client.get("key").as_deref(), Ok(&b"new"[..]));
        !ask(l1d.path(), "get key").contains("old")
    });
}

#[test]
fn what_the_daemon_refuses_is_said_in_one_line_with_its_own_flags() {
    let files = Place::new();
    let path = files.path("cache");
    let l1d = Memcached::start_l1d_with(64, 1, &["--path", &path]).expect("it starts");
    let other = format!("test-{}-{}", std::process::id(), free_port());
    let refused = |flags: &[&str], status: i32, words: &[&str]| {
        let socket = free_socket_path();
        let mut command = Command::new(crate::support::SUNDER);
        command.env("RUNTIME_DIRECTORY", runtime_directory()).args(["l1d", "--name", &other]);
        let ended = command.arg("--sock").arg(&socket).args(flags).output().expect("it runs");
        let line = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(status), "{flags:?}: {line}");
        assert_eq!(line.trim_end().lines().count(), 1, "{flags:?}: {line}");
        for word in words {
            assert!(line.contains(word), "{flags:?} does not print '{word}': {line}");
        }
    };
    refused(&["--path", &path], 75, &["--path: ", "cache.0: another process uses it"]);
    // Its workers have made their files.
    assert_eq!(ask(l1d.path(), "get k"), "END\r\n");
    drop(l1d);
    refused(&["--path", &path, "--workers", "2"], 2, &["--workers 1 continues it, --format"]);
    refused(&["--path", &path, "--size", "128M"], 2, &["--size 64M", "--size 128M", "--format"]);
    refused(&["--path", "cache"], 2, &["--path", "absolute"]);
    refused(&["--format"], 2, &["--path"]);
    refused(&["--huge", "off"], 2, &["--path"]);
    refused(&["--path", "/dev/shm/none/cache"], 75, &["--path: /dev/shm/none/cache.0: its folder"]);
    fs::write(format!("{path}.0"), b"what somebody wrote").expect("a file");
    refused(&["--path", &path], 1, &["not a store", "with --format"]);
    let l1d = Memcached::start_l1d_with(64, 1, &["--path", &path, "--format"]).expect("afresh");
    assert_eq!(ask(l1d.path(), "get k"), "END\r\n");
    let ended = run_sunder(&["l1d", "--name", "x", "--path", "/x", "--huge", "on"]);
    assert_eq!(ended.expect("it ends").status, 2);
}
