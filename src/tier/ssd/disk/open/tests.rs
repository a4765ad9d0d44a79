//! Every path that is refused, with its line.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::tier::ssd::disk::suite::{Loop, Scratch, left_out, run_command};

const SEGMENT: u64 = SSD_SEGMENT_BYTES as u64;

fn request(path: &Path, size_bytes: Option<u64>) -> Request<'_> {
    Request { path, size_bytes, workers: 2, segments_min: 2 }
}

/// What is said of a path that is refused, without the path.
fn line(path: &Path, size_bytes: Option<u64>) -> String {
    let error = open(&request(path, size_bytes)).expect_err("refused").to_string();
    assert_eq!(error.lines().count(), 1);
    let path = format!("{}: ", path.display());
    error.strip_prefix(&path).expect("it begins with its path").to_owned()
}

fn file_of(bytes: u64) -> Scratch {
    let file = Scratch::new();
    let made = File::create(file.path()).and_then(|file| file.set_len(bytes));
    made.expect("a file");
    file
}

#[test]
fn a_file_is_made_made_longer_and_divided_into_whole_segments() {
    let file = Scratch::new();
    let opened = open(&request(file.path(), Some(5 * SEGMENT))).expect("made");
    assert_eq!((opened.kind(), opened.size_bytes()), (Kind::File, 4 * SEGMENT));
    let part = opened.part(1);
    assert_eq!((part.start_bytes(), part.size_bytes()), (2 * SEGMENT, 2 * SEGMENT));
    let metadata = fs::metadata(file.path()).expect("there");
    assert_eq!((metadata.len(), metadata.blocks() * 512 >= 5 * SEGMENT), (5 * SEGMENT, true));
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    drop((opened, part));
    fs::write(file.path(), [vec![7; 4096], vec![0; 4 * SEGMENT as usize]].concat()).expect("there");
    let opened = open(&request(file.path(), Some(6 * SEGMENT))).expect("made longer");
    assert_eq!(opened.size_bytes(), 6 * SEGMENT);
    drop(opened);
    let bytes = fs::read(file.path()).expect("there");
    assert!(bytes[..4096].iter().all(|byte| *byte == 7), "what was there stays");
    let opened = open(&request(file.path(), None)).expect("as long as it is");
    assert_eq!(opened.size_bytes(), 6 * SEGMENT);
    drop(opened);
    let opened = open(&request(file.path(), Some(4 * SEGMENT))).expect("a part of it");
    assert_eq!(opened.size_bytes(), 4 * SEGMENT);
    assert_eq!(fs::metadata(file.path()).expect("there").len(), 6 * SEGMENT);
}

#[test]
fn what_is_missing_or_of_another_kind_is_said() {
    let file = Scratch::new();
    assert!(line(file.path(), None).starts_with("there is no such file; with size="));
    let below = file.path().join("below");
    assert!(line(&below, Some(4 * SEGMENT)).starts_with("its folder does not exist"));
    assert!(line(file.path().parent().expect("one"), None).starts_with("is a directory"));
    assert!(line(Path::new("/dev/null"), None).starts_with("is neither a regular file nor"));
    let nowhere = file.path().to_str().expect("text");
    let link = Scratch::new();
    std::os::unix::fs::symlink(nowhere, link.path()).expect("a link");
    for size_bytes in [None, Some(4 * SEGMENT)] {
        assert_eq!(
            line(link.path(), size_bytes),
            "is a symbolic link to a file that does not exist"
        );
    }
    assert!(!file.path().exists());
    // One that nobody writes to would keep who opens it waiting.
    run_command("mkfifo", &[file.path().to_str().expect("text")]).expect("a fifo");
    assert!(line(file.path(), None).starts_with("is neither a regular file nor"));
}

#[test]
fn what_is_too_small_is_said_and_nothing_is_left_of_it() {
    let file = file_of(0);
    assert!(line(file.path(), None).starts_with("is an empty file; say with size="));
    let file = file_of(4 * SEGMENT - 1);
    let expected = "is too small: it has 63 MiB, and 2 workers need 32 MiB each";
    assert_eq!(line(file.path(), None), expected);
    assert_eq!(fs::metadata(file.path()).expect("there").len(), 4 * SEGMENT - 1);
    let file = Scratch::new();
    assert!(line(file.path(), Some(SEGMENT)).starts_with("is too small: it has 16 MiB"));
    assert!(!file.path().exists());
}

#[test]
fn a_full_file_system_is_said_and_nothing_is_left_of_the_attempt() {
    let free = {
        let status = rustix::fs::statvfs(env!("CARGO_MANIFEST_DIR")).expect("a file system");
        status.f_bavail * status.f_frsize
    };
    let file = Scratch::new();
    let wants = (free + (64 << 30)).next_multiple_of(SEGMENT);
    let told = line(file.path(), Some(wants));
    assert!(told.starts_with("no room for ") && told.contains("its file system has"), "{told}");
    assert!(!file.path().exists());
    assert!(line(file.path(), Some(1 << 62)).starts_with("no room for 4194304.0 TiB"));
    assert!(!file.path().exists());
    let file = file_of(4 * SEGMENT);
    line(file.path(), Some(wants));
    assert_eq!(fs::metadata(file.path()).expect("there").len(), 4 * SEGMENT);
    // All of it is a hole.
    let file = file_of(wants);
    assert!(line(file.path(), None).starts_with("no room for "));
    let metadata = fs::metadata(file.path()).expect("there");
    assert_eq!((metadata.len(), metadata.blocks()), (wants, 0));
}

#[test]
fn what_another_has_is_said_until_it_lets_go() {
    let file = file_of(4 * SEGMENT);
    let first = open(&request(file.path(), None)).expect("free");
    assert_eq!(line(file.path(), None), "is in use by another sunder");
    let part = first.part(0);
    drop(first);
    assert_eq!(line(file.path(), None), "is in use by another sunder", "by a part of it");
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(part);
    });
    open(&request(file.path(), None)).expect("waited for");
    later.join().expect("it only sleeps");
}

#[test]
fn a_file_without_direct_io_is_said() {
    // A file of the kernel's that everybody may write to.
    assert!(line(Path::new("/proc/self/comm"), None).contains("(O_DIRECT)"));
}

#[test]
fn a_file_that_may_not_be_written_is_said() {
    let file = file_of(4 * SEGMENT);
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o400)).expect("ours");
    match open(&request(file.path(), None)) {
        Err(error) => assert!(error.to_string().ends_with("no permission to read and write it")),
        // Nothing is forbidden to root.
        Ok(_) => assert!(rustix::process::geteuid().is_root()),
    }
    let read_only =
        OpenError { path: "/x".into(), cause: opening(Errno::ROFS.into()), is_look: false };
    assert_eq!(read_only.to_string(), "/x: is read-only");
}

#[test]
fn a_block_device_in_use_read_only_or_too_small_is_said() {
    let Some(device) = Loop::new(5 * SEGMENT as usize, &[]) else { return };
    let opened = open(&request(device.path(), None)).expect("free");
    assert_eq!((opened.kind(), opened.size_bytes()), (Kind::BlockDevice, 4 * SEGMENT));
    assert!(line(device.path(), None).starts_with("is in use by another sunder, a mounted"));
    drop(opened);
    let told = line(device.path(), Some(6 * SEGMENT));
    assert_eq!(told, "is too small: it has 80 MiB, and size= asks for 96 MiB");
    let read_only = Loop::new(5 * SEGMENT as usize, &["--read-only"]).expect("another");
    assert_eq!(line(read_only.path(), None), "is read-only");
}

#[test]
fn a_block_device_that_is_mounted_or_swap_is_said() {
    let Some(device) = Loop::new(5 * SEGMENT as usize, &[]) else { return };
    let path = device.path().to_str().expect("text");
    run_command("mkfs.ext4", &["-q", path]).expect("a file system");
    let folder = Scratch::new();
    fs::create_dir(folder.path()).expect("a folder");
    let on = folder.path().to_str().expect("text");
    if run_command("mount", &[path, on]).is_none() {
        left_out("nothing can be mounted: a mounted device is not tested");
        return;
    }
    let told = line(device.path(), None);
    run_command("umount", &[on]).expect("mounted above");
    assert_eq!(told, format!("is mounted on {on}; unmount it first"));
    open(&request(device.path(), None)).expect("unmounted");
    run_command("mkswap", &[path]).expect("a swap area");
    if run_command("swapon", &[path]).is_none() {
        left_out("nothing can be swapped to: a device with swap is not tested");
        return;
    }
    let told = line(device.path(), None);
    run_command("swapoff", &[path]).expect("swapped to above");
    assert_eq!(told, "is in use as swap; swapoff it first");
}
