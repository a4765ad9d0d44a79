//! The file of a store: whose it is, and what becomes of one that is not as it should be.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::super::mapping::{MadeStore, made};
use super::super::{Beginning, Opening, SegmentStore, SegmentStoreConfig, StartError, StoreFile};
use super::commands::{get, plain, set};
use super::{NOW, key};

const BYTES: usize = 1 << 20;

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("sunder-store-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.join("cache.0")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn start_as(
    path: &Path,
    (bytes, worker, workers): (usize, usize, usize),
    is_afresh: bool,
) -> Result<(SegmentStore, Opening), StartError> {
    let config = SegmentStoreConfig { bytes, worker, workers };
    let file = StoreFile { path, is_huge: true, is_afresh, key_seed: 5 };
    SegmentStore::start(config, &file, None, NOW)
}

fn start(path: &Path) -> Result<(SegmentStore, Opening), StartError> {
    start_as(path, (BYTES, 0, 1), false)
}

fn refusal(path: &Path) -> String {
    start(path).map(|(_, opening)| opening).expect_err("it is refused").to_string()
}

#[test]
fn a_file_keeps_what_was_set_until_the_next_start() {
    let folder = Folder::new("keeps");
    let path = folder.path();
    let (mut store, opening) = start(&path).unwrap();
    assert_eq!(opening.beginning, Beginning::New);
    set(&mut store, b"key", &plain(b"value"), NOW).unwrap();
    store.stop(NOW).unwrap();
    drop(store);
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.len(), meta.mode() & 0o777), (BYTES as u64, 0o600));
    assert!(meta.blocks() * 512 >= BYTES as u64, "all of it is there");
    assert_eq!(made(&path).unwrap(), Some(MadeStore { workers: 1, key_seed: 5 }));
    let (mut store, opening) = start(&path).unwrap();
    assert_eq!((opening.beginning, opening.items), (Beginning::Clean, 1));
    assert_eq!(get(&mut store, b"key", NOW).unwrap().value, b"value");
    set(&mut store, b"other", &plain(b"value"), NOW).unwrap();
    drop(store);
    let (store, opening) = start(&path).unwrap();
    assert_eq!((opening.beginning, opening.items), (Beginning::Rebuilt, 2));
    store.check();
}

#[test]
fn a_file_is_one_process_s_at_a_time() {
    let folder = Folder::new("lock");
    let path = folder.path();
    let (mut store, _) = start(&path).unwrap();
    set(&mut store, b"key", &plain(b"value"), NOW).unwrap();
    assert_eq!(refusal(&path), "another process uses it");
    assert!(matches!(start_as(&path, (BYTES, 0, 1), true), Err(StartError::InUse)));
    assert!(get(&mut store, b"key", NOW).is_some());
}

#[test]
fn files_that_others_may_have_written_are_refused() {
    let folder = Folder::new("others");
    let path = folder.path();
    drop(start(&path).unwrap());
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    assert_eq!(refusal(&path), "others may open it (mode 640)");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let link = folder.0.join("link");
    symlink(&path, &link).unwrap();
    assert_eq!(refusal(&link), "not a regular file");
    assert_eq!(refusal(&folder.0), "not a regular file");
    assert_eq!(refusal(Path::new("/dev/null")), "not a regular file");
    assert_eq!(refusal(&folder.0.join("none/cache.0")), "its folder does not exist");
}

#[test]
fn a_file_that_is_not_what_was_asked_for_is_left_as_it_is() {
    let folder = Folder::new("other");
    let path = folder.path();
    drop(start(&path).unwrap());
    let before = fs::read(&path).unwrap();
    let text = |config| start_as(&path, config, false).map(|it| it.1).unwrap_err().to_string();
    assert_eq!(text((BYTES, 0, 2)), "made with 1 worker, not 2");
    assert_eq!(text((2 * BYTES, 0, 1)), "made with 1048576 bytes a worker, not 2097152");
    assert!(fs::read(&path).unwrap() == before);
    OpenOptions::new().write(true).open(&path).unwrap().set_len(BYTES as u64 / 2).unwrap();
    assert_eq!(refusal(&path), "524288 bytes long, not 1048576");
    fs::write(&path, b"what somebody wrote").unwrap();
    assert_eq!(refusal(&path), "not a store of sunder's");
    assert_eq!(fs::read(&path).unwrap(), b"what somebody wrote");
    let (mut store, _) = start_as(&path, (BYTES, 0, 1), true).unwrap();
    assert!(set(&mut store, &key(1), &plain(b"value"), NOW).is_some());
}

#[test]
fn segments_of_another_store_are_not_taken_for_its_own() {
    let folder = Folder::new("spliced");
    let paths = [folder.path(), folder.0.join("cache.1")];
    for (worker, path) in paths.iter().enumerate() {
        let (mut store, _) = start_as(path, (BYTES, worker, 2), false).unwrap();
        for i in 0..1000 {
            set(&mut store, &key(i), &plain(&[worker as u8; 500]), NOW).unwrap();
        }
    }
    let mut spliced = fs::read(&paths[0]).unwrap();
    let other = fs::read(&paths[1]).unwrap();
    let half = BYTES / 2;
    spliced[half..].copy_from_slice(&other[half..]);
    fs::write(&paths[0], &spliced).unwrap();
    let (mut store, opening) = start_as(&paths[0], (BYTES, 0, 2), false).unwrap();
    assert!(opening.damaged > 0 && opening.items > 0, "{opening:?}");
    for i in 0..1000 {
        assert!(get(&mut store, &key(i), NOW).is_none_or(|item| item.value == [0; 500]));
    }
    store.check();
    let config = (BYTES, 0, 2);
    let error = start_as(&paths[1], config, false).map(|it| it.1).unwrap_err();
    assert_eq!(error.to_string(), "made for worker 1, not 0");
}
