//! Rend's format, written and read by separate code.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use sunder::base::clock::Expiry;
use sunder::base::stats::Counter;
use sunder::tier::{Outcome, Store, StoreMode, Tier};

use super::rig::{REND, Raw, Server, chunk_name, value};
use crate::memcached_tier::fixture::key;

/// Data bytes of one of Rend's chunks.
fn rend_data_bytes(name: &[u8]) -> usize {
    1184 - 71 - name.len() - 16
}

/// The 40 bytes of metadata.
fn rend_metadata(len: usize, flags: u32, data: usize, times: (u32, u32), token: &[u8]) -> Vec<u8> {
    let words = [len as u32, flags, len.div_ceil(data) as u32, data as u32, times.0, times.1];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.extend_from_slice(token);
    bytes
}

/// Writes an item like Rend's last version.
fn rend_set(raw: &mut Raw, name: &[u8], flags: u32, exptime: u32, now_s: u32, value: &[u8]) {
    set_by_hand(raw, (name, b"-0"), flags, (exptime, now_s), value);
}

/// Writes an item, the first chunk with this suffix: metadata first, each item with the client's
/// flags and exptime.
pub fn set_by_hand(
    raw: &mut Raw,
    (name, first_suffix): (&[u8], &[u8]),
    flags: u32,
    (exptime, now_s): (u32, u32),
    value: &[u8],
) {
    static ITEMS: AtomicU32 = AtomicU32::new(0);
    let data = rend_data_bytes(name);
    let mut token = *b"\x00\xffRend's \0\0\0\0en\r";
    token[9..13].copy_from_slice(&ITEMS.fetch_add(1, Relaxed).to_be_bytes());
    let expires_s = if exptime == 0 { 0 } else { now_s + exptime };
    let metadata = rend_metadata(value.len(), flags, data, (now_s, expires_s), &token);
    raw.binary_set(&[name, b"-meta"].concat(), flags, exptime, &metadata);
    for (i, piece) in value.chunks(data).enumerate() {
        let mut chunk = [&token[..], piece].concat();
        chunk.resize(16 + data, 0);
        let suffix = if i == 0 { first_suffix } else { &format!("-{i}").into_bytes() };
        raw.binary_set(&[name, suffix].concat(), flags, exptime, &chunk);
    }
}

#[test]
fn items_written_by_rend_are_read() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    let mut names: Vec<Vec<u8>> = [1, 7, 100, 245].map(|n| vec![b'k'; n]).into();
    names.extend([b"caf\xc3\xa9".to_vec(), b"a b\0c\r\nd".to_vec(), vec![b' '; 181]]);
    for name in &names {
        let data = rend_data_bytes(name);
        for len in [0, 1, data - 1, data, data + 1, 2 * data, 10 * 1024, 100 * 1024 + 7] {
            let value = value(len as u8, len);
            rend_set(&mut raw, name, 0xfeed_beef, 100, rig.now().unix_s, &value);
            let shown = name.escape_ascii();
            let Outcome::Hit(hit) = rig.get(name) else { panic!("{shown} {len}") };
            assert!(hit.value.to_vec() == value, "{shown} {len}");
            assert_eq!(hit.flags, 0xfeed_beef);
            let left_s = hit.expiry.unix_s() - rig.now().unix_s;
            assert!((98..=100).contains(&left_s), "{left_s}");
        }
    }
    rend_set(&mut raw, b"never", 0, 0, rig.now().unix_s, b"x");
    let Outcome::Hit(hit) = rig.get(b"never") else { panic!("a hit") };
    assert_eq!(hit.expiry, Expiry::NEVER);
    assert_eq!(rig.count(Counter::ChunkMetadataBad), 0);
}

#[test]
fn items_written_by_rend_are_changed_and_deleted_completely() {
    let server = Server::start(&[]);
    let rig = server.tier(16 * 1024);
    // A connection speaks one protocol.
    let (mut raw, mut rend) = (server.raw(), server.raw());
    let value = value(1, 10_000);
    rend_set(&mut rend, b"k", 5, 0, rig.now().unix_s, &value);
    assert_eq!(raw.items(), 11);
    assert!(matches!(rig.store(StoreMode::Append, b"k", b"tail", 0), Outcome::Stored { .. }));
    assert_eq!(rig.value(b"k").expect("a hit"), [&value[..], b"tail"].concat());
    assert_eq!(raw.items(), 11);
    // A rewrite is in chunks of our size.
    assert!(matches!(rig.store(StoreMode::Prepend, b"k", b"head", 0), Outcome::Stored { .. }));
    assert_eq!(rig.value(b"k").expect("a hit"), [b"head", &value[..], b"tail"].concat());
    assert_eq!(raw.items(), 2);
    let Outcome::Hit(hit) = rig.get(b"k") else { panic!("a hit") };
    assert_eq!(hit.flags, 5);
    rend_set(&mut rend, b"k", 5, 0, rig.now().unix_s, &value);
    assert!(matches!(rig.run(rig.tier.delete(&key(b"k"), 0, rig.now())), Outcome::Deleted));
    assert_eq!(raw.items(), 0);
}

/// Checks every byte of an item; `name` is its name, `behind` follows the metadata.
fn check_item(raw: &mut Raw, name: &str, behind: &[u8], data: usize, store: Store, value: &[u8]) {
    let (flags, metadata) = raw.get(&format!("{name}-meta")).expect("metadata");
    assert_eq!(flags, store.flags);
    assert_eq!(metadata.len(), 40 + behind.len());
    let stored_s = u32::from_be_bytes(metadata[16..20].try_into().expect("four"));
    let times = (stored_s, store.expiry.unix_s());
    let token = &metadata[24..40];
    let expected = rend_metadata(value.len(), store.flags, data, times, token);
    assert_eq!(metadata, [&expected[..], behind].concat());
    let left_s = raw.left_s(&format!("{name}-meta"));
    for (i, piece) in value.chunks(data).enumerate() {
        let chunk_name = chunk_name(name, i);
        let (flags, chunk) = raw.get(&chunk_name).expect("a chunk");
        assert_eq!(flags, store.flags);
        let mut expected = [token, piece].concat();
        expected.resize(16 + data, 0);
        assert!(chunk == expected, "chunk {i}");
        assert!((left_s - raw.left_s(&chunk_name)).abs() <= 1);
    }
}

#[test]
fn items_are_written_like_rends() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    for name in ["k".to_owned(), "movie:1234".to_owned(), "x".repeat(245)] {
        let data = rend_data_bytes(name.as_bytes());
        for len in [0, 1, data - 1, data, data + 1, 10 * 1024, 50_000] {
            let value = value(len as u8, len);
            let expiry = Expiry::from_unix_s(rig.now().unix_s + 1000);
            let store = Store { mode: StoreMode::Set, flags: 77, expiry, cas: 0 };
            let outcome = rig.store_as(store, name.as_bytes(), &value);
            assert!(matches!(outcome, Outcome::Stored { .. }));
            check_item(&mut raw, &name, b"", data, store, &value);
            assert_eq!(raw.items(), 1 + len.div_ceil(data), "there are no other items");
        }
        rig.run(rig.tier.delete(&key(name.as_bytes()), 0, rig.now()));
        assert_eq!(raw.items(), 0);
    }
}

#[test]
fn stored_and_expiry_times_are_unix_seconds() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    rig.set(b"never", b"v");
    let (_, metadata) = raw.get("never-meta").expect("metadata");
    let stored_s = u32::from_be_bytes(metadata[16..20].try_into().expect("four"));
    assert!(rig.now().unix_s - stored_s <= 2);
    assert_eq!(metadata[20..24], [0; 4]);
    assert_eq!(raw.left_s("never-0"), -1);
    // Beyond 30 days memcached gets a Unix time.
    let expiry = Expiry::from_unix_s(rig.now().unix_s + 40 * 86_400);
    let store = Store { mode: StoreMode::Set, flags: 0, expiry, cas: 0 };
    rig.store_as(store, b"far", b"v");
    let (_, metadata) = raw.get("far-meta").expect("metadata");
    assert_eq!(metadata[20..24], expiry.unix_s().to_be_bytes());
    assert!((raw.left_s("far-meta") - 40 * 86_400).abs() <= 2);
}

#[test]
fn two_writes_have_different_tokens() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    rig.set(b"k", b"v");
    let first = raw.get("k-meta").expect("metadata").1;
    rig.set(b"k", b"v");
    assert_ne!(raw.get("k-meta").expect("metadata").1[24..], first[24..]);
}

#[test]
fn items_of_another_chunk_size_are_read() {
    let server = Server::start(&[]);
    let rigs = [REND, 16 * 1024, 512, 512 * 1024].map(|chunk_bytes| server.tier(chunk_bytes));
    let mut raw = server.raw();
    for writer in &rigs {
        let written = value(writer.now().uptime_us as u8, 40_000);
        writer.set(b"k", &written);
        for reader in &rigs {
            assert!(reader.value(b"k").expect("a hit") == written);
        }
    }
    // 40,000 bytes in one chunk, and the metadata: the last writer left no smaller chunks.
    assert_eq!(raw.items(), 2);
}

#[test]
fn keys_that_leave_no_room_for_a_suffix_are_stored_under_a_hash() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    for name in [vec![b'k'; 246], vec![b'k'; 250], vec![0x07; 250], vec![b' '; 182]] {
        let value = value(9, 5_000);
        let expiry = Expiry::from_unix_s(rig.now().unix_s + 500);
        let store = Store { mode: StoreMode::Set, flags: 3, expiry, cas: 0 };
        rig.store_as(store, &name, &value);
        assert!(rig.value(&name).expect("a hit") == value);
        assert!(matches!(rig.store(StoreMode::Append, &name, b"!", 0), Outcome::Stored { .. }));
        assert!(rig.value(&name).expect("a hit") == [&value[..], b"!"].concat());
        let mut neighbour = name.clone();
        neighbour[0] ^= 1;
        assert_eq!(rig.value(&neighbour), None);
        assert!(matches!(rig.run(rig.tier.delete(&key(&name), 0, rig.now())), Outcome::Deleted));
        assert_eq!(raw.items(), 0);
    }
}

/// The key of the only metadata of `server`.
fn only_metadata_name(server: &Server) -> String {
    let dump = server.memcached.request("lru_crawler metadump all\r\n", "END\r\n");
    let names = dump.lines().filter_map(|line| line.strip_prefix("key=")?.split(' ').next());
    let name = names.filter_map(|name| name.strip_suffix("-meta")).next().expect("one");
    name.to_owned()
}

#[test]
fn a_hashed_keys_metadata_contains_the_key() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    let name = vec![b'k'; 250];
    let value = value(3, 3_000);
    rig.set(&name, &value);
    let hashed = only_metadata_name(&server);
    assert_eq!(hashed.len(), 39);
    let store = Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 0 };
    check_item(&mut raw, &hashed, &name, rend_data_bytes(hashed.as_bytes()), store, &value);
    // The key that equals the hash has no item, and deleting it removes nothing.
    assert_eq!(rig.value(hashed.as_bytes()), None);
    assert!(matches!(
        rig.run(rig.tier.delete(&key(hashed.as_bytes()), 0, rig.now())),
        Outcome::Miss
    ));
    // Another key's item under the same hash is not ours, and stays.
    let (_, mut metadata) = raw.get(&format!("{hashed}-meta")).expect("metadata");
    metadata[40] ^= 1;
    raw.set(&format!("{hashed}-meta"), 0, 0, &metadata);
    assert_eq!(rig.value(&name), None);
    assert!(raw.get(&format!("{hashed}-meta")).is_some());
    assert!(matches!(rig.store(StoreMode::Replace, &name, b"v", 0), Outcome::NotStored));
    assert!(matches!(rig.store(StoreMode::Add, &name, b"v", 0), Outcome::Stored { .. }));
    assert_eq!(rig.value(&name).expect("a hit"), b"v");
}
