//! A process that is killed in a storm of sets leaves every item as it was set last, or none.
//!
//! `SUNDER_KILLS` says how often it is killed, 10 times if it is not set.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sunder::base::clock::{Expiry, Now};
use sunder::base::random::Random;
use sunder::tier::segments::{
    Beginning, NewRecord, Opening, PieceCursor, SegmentStore, SegmentStoreConfig, StoreFile,
};

const NOW: Now = Now { uptime_us: 0, unix_s: 1_800_000_000 };
const FOLDER: &str = "SUNDER_STORM_FOLDER";
const BYTES: &str = "SUNDER_STORM_BYTES";
const KEYS: u64 = 3000;

/// The number that a command makes its value of; its key, and what it does.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Set { bytes: usize, is_counter: bool },
    Count,
    Delete,
    Touch,
}

/// What is done as the `n`th thing, and to which key.
fn deed(n: u64) -> (Vec<u8>, Deed) {
    let mut random = Random::new(n);
    let key = format!("key:{}", random.below(KEYS)).into_bytes();
    let deed = match random.below(20) {
        0 => Deed::Delete,
        1 => Deed::Touch,
        2..5 => Deed::Count,
        5 => Deed::Set { bytes: 8, is_counter: true },
        6 => Deed::Set { bytes: random.below(60_000) as usize, is_counter: false },
        _ => Deed::Set { bytes: random.below(700) as usize, is_counter: false },
    };
    (key, deed)
}

fn value(n: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(!n);
    (0..bytes).map(|_| random.draw() as u8).collect()
}

/// What each key has.
type Model = HashMap<Vec<u8>, Vec<u8>>;

/// What the deed makes of it.
fn imagine(n: u64, model: &mut Model) {
    match deed(n) {
        (key, Deed::Set { bytes, .. }) => {
            model.insert(key, value(n, bytes));
        }
        (key, Deed::Count) => {
            // Only what was made for it is changed in place; that has 8 bytes.
            model.entry(key).and_modify(|old| {
                if old.len() == 8 {
                    *old = value(n, 8);
                }
            });
        }
        (key, Deed::Delete) => {
            model.remove(&key);
        }
        (_, Deed::Touch) => {}
    }
}

fn start(folder: &Path, bytes: usize) -> (SegmentStore, Opening) {
    let config = SegmentStoreConfig { bytes, worker: 0, workers: 1 };
    let file =
        StoreFile { path: &folder.join("cache.0"), is_huge: true, is_afresh: false, key_seed: 0 };
    SegmentStore::start(config, &file, None, NOW).expect("the file is ours")
}

fn set(store: &mut SegmentStore, key: &[u8], value: &[u8], is_counter: bool) {
    let hash = store.hash(key);
    let expiry = Expiry::from_unix_s(NOW.unix_s + 1000);
    let new = NewRecord { key, hash, flags: 3, expiry, value_bytes: value.len(), is_counter };
    let old = store.find(key, hash, NOW);
    let Some(made) = store.make(&new, old.as_ref(), NOW) else {
        if let Some(old) = store.find(key, hash, NOW) {
            store.kill(&old);
        }
        return;
    };
    store.write_value(made, PieceCursor::default(), 0, value);
    let old = store.find(key, hash, NOW);
    store.publish(made, hash, old.as_ref());
}

fn carry_out(store: &mut SegmentStore, n: u64) {
    let (key, deed) = deed(n);
    let hash = store.hash(&key);
    let found = store.find(&key, hash, NOW);
    match (deed, found) {
        (Deed::Set { bytes, is_counter }, _) => {
            set(store, &key, &value(n, bytes), is_counter);
        }
        (Deed::Count, Some(found)) if store.value_bytes(&found) == 8 => {
            let counted = store.set_counter(&found, &value(n, 8));
            if counted.is_none() {
                set(store, &key, &value(n, 8), true);
            }
        }
        (Deed::Delete, Some(found)) => store.kill(&found),
        (Deed::Touch, Some(found)) => {
            store.touch(found, (&key, hash), Expiry::from_unix_s(NOW.unix_s + 500), NOW);
        }
        _ => {}
    }
    store.turn(NOW);
}

/// The process that is killed, if a test of this file started it, which then says where; else a
/// short storm that ends by itself.
#[test]
fn storm() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        let storm = Storm::new("short", 2 << 20);
        let (mut store, _) = start(&storm.folder, storm.bytes);
        (0..300).for_each(|n| carry_out(&mut store, n));
        assert!(store.check().items > 100);
        return;
    };
    let bytes = std::env::var(BYTES).ok().and_then(|text| text.parse().ok()).expect("a size");
    rage(Path::new(&folder), bytes);
}

/// Goes on where the process before it was, until it is killed.
fn rage(folder: &Path, bytes: usize) {
    let (mut store, _) = start(folder, bytes);
    let progress = progress(folder);
    for n in read(&progress).. {
        // Said before it is done: of all that was said only the last may be undone.
        progress.write_all_at(&n.to_le_bytes(), 0).expect("a file");
        carry_out(&mut store, n);
    }
}

fn progress(folder: &Path) -> File {
    let mut options = fs::OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    options.open(folder.join("progress")).expect("a folder of ours")
}

/// The number of what is being done.
fn read(progress: &File) -> u64 {
    let mut bytes = [0; 8];
    match progress.read_exact_at(&mut bytes, 0) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => 0,
    }
}

/// A folder in memory, and the process that stirs it.
struct Storm {
    folder: PathBuf,
    bytes: usize,
}

impl Storm {
    fn new(name: &str, bytes: usize) -> Storm {
        let folder = PathBuf::from(format!("/dev/shm/sunder-{name}-{}", std::process::id()));
        fs::create_dir(&folder).expect("/dev/shm");
        Storm { folder, bytes }
    }

    /// Lets the storm go on for so many deeds, or a few more, and kills it; which one it was at.
    fn kill_after(&self, deeds: u64) -> u64 {
        let progress = progress(&self.folder);
        let end = read(&progress) + deeds;
        let mut child = self.begin();
        let deadline = Instant::now() + Duration::from_secs(60);
        while read(&progress) < end {
            assert!(child.try_wait().expect("a child").is_none(), "the storm ended by itself");
            assert!(Instant::now() < deadline, "the storm does not go on");
            thread::sleep(Duration::from_millis(1));
        }
        child.kill().expect("a child");
        child.wait().expect("a child");
        read(&progress)
    }

    fn begin(&self) -> Child {
        Command::new(std::env::current_exe().expect("this test"))
            .args(["store_killed::storm", "--exact"])
            .env(FOLDER, &self.folder)
            .env(BYTES, self.bytes.to_string())
            .stdout(Stdio::null())
            .spawn()
            .expect("this test")
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).expect("it is ours");
    }
}

fn get(store: &mut SegmentStore, key: &[u8]) -> Option<Vec<u8>> {
    let hash = store.hash(key);
    let found = store.find(key, hash, NOW)?;
    let opened = store.open(&found).expect("few readers");
    let (mut value, mut cursor) = (Vec::new(), PieceCursor::default());
    while value.len() < opened.value_bytes() {
        let (bytes, next) = store.value_at(&opened, cursor, value.len());
        assert!(!bytes.is_empty(), "a value is as long as it says");
        value.extend_from_slice(bytes);
        cursor = next;
    }
    assert_eq!(store.flags(&found), 3);
    store.close(&opened);
    Some(value)
}

fn kills() -> u64 {
    std::env::var("SUNDER_KILLS").map_or(10, |text| text.parse().expect("a number"))
}

/// Kills it so often; `lost_max`: of so many items each time it may know nothing.
fn kill_often(storm: &Storm, lost_max: usize) {
    let mut model = Model::new();
    let mut next = 0;
    let mut random = Random::new(1);
    for round in 0..kills() {
        let at = storm.kill_after(100 + random.below(4000));
        (next..at).for_each(|n| imagine(n, &mut model));
        let mut after = model.clone();
        imagine(at, &mut after);
        let (mut store, opening) = start(&storm.folder, storm.bytes);
        if round > 0 || opening.items > 0 {
            assert_eq!(opening.beginning, Beginning::Rebuilt);
        }
        assert!(opening.damaged <= 1, "only what was being changed: {opening:?}");
        store.check();
        let mut lost = 0;
        for i in 0..KEYS {
            let key = format!("key:{i}").into_bytes();
            let found = get(&mut store, &key);
            match &found {
                None => lost += usize::from(model.contains_key(&key) && after.contains_key(&key)),
                Some(_) => assert!(
                    found.as_ref() == model.get(&key) || found.as_ref() == after.get(&key),
                    "a wrong value of {} after kill {round} at {at}",
                    key.escape_ascii()
                ),
            }
        }
        assert!(lost <= lost_max, "{lost} of {} items are lost", model.len());
        // What was being done is done again, by the next one.
        model.retain(|key, value| {
            let found = get(&mut store, key);
            if let Some(found) = &found {
                value.clone_from(found);
            }
            found.is_some()
        });
        for i in 0..KEYS {
            let key = format!("key:{i}").into_bytes();
            if let Some(value) = get(&mut store, &key) {
                model.insert(key, value);
            }
        }
        next = at;
    }
}

#[test]
fn kills_in_a_storm_of_sets_lose_nothing_but_what_was_being_set() {
    // There is room for everything.
    kill_often(&Storm::new("roomy", 64 << 20), 1);
}

#[test]
fn kills_while_items_are_evicted_leave_no_wrong_value() {
    kill_often(&Storm::new("evicting", 2 << 20), KEYS as usize);
}
