//! Every path that is refused, with its line.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::tier::ssd::disk::suite::{Loop, Scratch, left_out, run_command};

const SEGMENT: u64 = SSD_SEGMENT_BYTES as u64;

fn request(path: &Path, size_bytes: Option<u64>) -> OpenRequest<'_> {
    OpenRequest { path, size_bytes, workers: 2, segments_min: 2 }
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
fn what_only_the_request_can_mend_is_told_apart_from_what_the_host_has_to() {
    let is_of_request = |path: &Path, size_bytes| {
        open(&request(path, size_bytes)).expect_err("refused").is_of_request()
    };
    let file = Scratch::new();
    assert!(is_of_request(file.path(), None), "it is missing, and size= makes one");
    assert!(is_of_request(file.path(), Some(SEGMENT)), "it is too small");
    assert!(is_of_request(file.path(), Some(1 << 62)), "no disk is so large");
    assert!(is_of_request(Path::new("/tmp"), None), "a directory");
    assert!(is_of_request(Path::new("/dev/null"), None), "no disk");
    assert!(is_of_request(file_of(0).path(), None), "it is empty");
    assert!(!is_of_request(&file.path().join("below"), Some(4 * SEGMENT)), "no folder");
    assert!(!is_of_request(Path::new("/dev/sunder-none"), None), "it may come");
    let file = file_of(4 * SEGMENT);
    let _held = open(&request(file.path(), None)).expect("ours");
    assert!(!is_of_request(file.path(), None), "it is in use");
}

/// An empty file may be a mark of somebody's, with a mode and an owner, or lie where a link leads.
#[test]
fn what_was_there_before_stays_though_it_is_empty() {
    let file = file_of(0);
    let link = Scratch::new();
    std::os::unix::fs::symlink(file.path(), link.path()).expect("a link");
    for path in [file.path(), link.path()] {
        // Too small, and too large for any file system.
        for size_bytes in [SEGMENT, 1 << 62] {
            line(path, Some(size_bytes));
            assert_eq!(fs::metadata(file.path()).expect("there").len(), 0);
            assert!(fs::symlink_metadata(link.path()).expect("there").is_symlink());
        }
    }
}

#[test]
fn a_file_is_removed_only_where_it_was_made() {
    let (made, other) = (file_of(0), file_of(0));
    let held = File::open(made.path()).expect("there");
    remove(other.path(), &held);
    assert!(other.path().exists());
    remove(made.path(), &held);
    assert!(!made.path().exists());
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

/// A file system of its own on a loop device, mounted.
struct Mounted {
    on: Scratch,
    _device: Loop,
}

impl Mounted {
    /// None without root, which is said.
    fn new(make: &str, size_bytes: u64) -> Option<Mounted> {
        let device = Loop::new(size_bytes as usize, &[])?;
        let path = device.path().to_str().expect("text");
        run_command(make, &["-q", path]).expect("a file system: scripts/setup.sh brings its tools");
        let on = Scratch::new();
        fs::create_dir(on.path()).expect("a folder");
        let folder = on.path().to_str().expect("text");
        run_command("mount", &[path, folder]).expect("this kernel has it");
        Some(Mounted { on, _device: device })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.on.path().join(name)
    }

    fn free_bytes(&self) -> u64 {
        let status = rustix::fs::statvfs(self.on.path()).expect("mounted");
        status.f_bavail * status.f_frsize
    }

    /// Takes all of its room.
    fn fill(&self) {
        let filler = File::create(self.file("filler")).expect("a file");
        let (mut at, mut piece_bytes) = (0, 16 << 20);
        while piece_bytes >= 4096 {
            match fallocate(&filler, FallocateFlags::empty(), at, piece_bytes) {
                Ok(()) => at += piece_bytes,
                Err(_) => piece_bytes /= 2,
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run_command("umount", &[self.on.path().to_str().expect("text")]);
    }
}

/// Writes all of a disk, and so that it is on the device.
fn write_all(opened: &Opened, byte: u8) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    // Direct I/O wants its memory aligned.
    let mut memory = vec![byte; (1 << 20) + SSD_BLOCK_BYTES];
    let from = memory.as_ptr().align_offset(SSD_BLOCK_BYTES);
    let piece = &mut memory[from..from + (1 << 20)];
    for at in (0..opened.whole_bytes()).step_by(piece.len()) {
        opened.file.write_all_at(piece, at)?;
    }
    opened.file.sync_all()
}

#[test]
fn a_log_on_xfs_opens_again_though_less_is_free_than_it_has() {
    let Some(disk) = Mounted::new("mkfs.xfs", 384 << 20) else { return };
    let (path, size_bytes) = (disk.file("log"), 12 * SEGMENT);
    let again = |size_bytes| open(&request(&path, size_bytes)).map(drop).expect("it is there");
    again(Some(size_bytes));
    assert!(disk.free_bytes() < size_bytes, "too much is free to show anything");
    for wanted in [Some(size_bytes), None, Some(4 * SEGMENT)] {
        again(wanted);
    }
    let grown_bytes = size_bytes + SEGMENT;
    again(Some(grown_bytes));
    let opened = open(&request(&path, None)).expect("longer");
    let part = opened.clone().divided(1, SEGMENT);
    assert_eq!(part.size_bytes(), SEGMENT);
    write_all(&opened, 7).expect("all of it is its own");
    drop((opened, part));
    disk.fill();
    assert!(disk.free_bytes() < 1 << 20);
    for wanted in [Some(grown_bytes), None] {
        again(wanted);
    }
    let told = line(&path, Some(grown_bytes + SEGMENT));
    assert!(told.starts_with("no room for 224 MiB: its file system has "), "{told}");
    assert_eq!(fs::metadata(&path).expect("there").len(), grown_bytes);
    // What is missing needs room, and only that.
    let file = File::options().write(true).open(&path).expect("ours");
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, hole, SEGMENT, 4 * SEGMENT).expect("a hole");
    again(None);
    assert!(file.metadata().expect("ours").blocks() * 512 >= grown_bytes, "the hole is filled");
    fallocate(&file, hole, SEGMENT, 4 * SEGMENT).expect("a hole");
    disk.fill();
    assert!(line(&path, None).starts_with("no room for 208 MiB: its file system has "));
}

#[test]
fn a_log_on_btrfs_is_written_in_place_though_its_file_system_is_full() {
    let Some(disk) = Mounted::new("mkfs.btrfs", 512 << 20) else { return };
    let (path, size_bytes) = (disk.file("log"), 4 * SEGMENT);
    // One that others made with `touch`, and one that they wrote to.
    File::create(disk.file("empty")).expect("a file");
    let opened = open(&request(&disk.file("empty"), Some(size_bytes))).expect("room");
    assert!(!opened.is_copied_on_write());
    fs::write(disk.file("written"), vec![0; size_bytes as usize]).expect("room");
    let opened = open(&request(&disk.file("written"), None)).expect("there");
    assert!(opened.is_copied_on_write(), "nothing can change that any more");
    let opened = open(&request(&path, Some(size_bytes))).expect("made");
    assert!(!opened.is_copied_on_write());
    disk.fill();
    for byte in 1..4 {
        write_all(&opened, byte).expect("written where it was");
    }
    drop(opened);
    let opened = open(&request(&path, Some(size_bytes))).expect("nothing is missing");
    write_all(&opened, 4).expect("still");
}

#[test]
fn a_file_is_its_owners_alone_and_ours() {
    let file = file_of(4 * SEGMENT);
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o1666)).expect("ours");
    let mode = || fs::metadata(file.path()).expect("there").permissions().mode() & 0o7777;
    let opened = open(&request(file.path(), None)).expect("ours");
    assert_eq!(mode(), 0o1666, "it may yet be refused for what it holds");
    assert_eq!(opened.make_private().expect("ours"), Some(0o1666));
    assert_eq!(mode(), 0o600);
    assert_eq!(opened.make_private().expect("ours"), None);
    drop(opened);
    if std::os::unix::fs::chown(file.path(), Some(4711), None).is_err() {
        left_out("files cannot be given away: those of others are not tested");
        return;
    }
    let told = line(file.path(), None);
    assert!(told.starts_with("belongs to user 4711, who could read and change"), "{told}");
    assert!(told.contains("and this is user 0: ") && told.contains("chown 0"), "{told}");
    // Nor is an empty one made ours, or longer.
    let file = file_of(0);
    std::os::unix::fs::chown(file.path(), Some(4711), None).expect("root");
    assert!(line(file.path(), Some(4 * SEGMENT)).starts_with("belongs to user 4711"));
    assert_eq!(fs::metadata(file.path()).expect("left alone").len(), 0);
}

/// The kernel writes a space in a path as `\040`.
#[test]
fn a_swap_file_is_known_whatever_its_path() {
    let folder = Scratch::new();
    fs::create_dir(folder.path()).expect("a folder");
    for name in ["swap", "of two words", "a\ttab\nand a line", "back\\slash", "\\0401", "é"] {
        let path = folder.path().join(name);
        fs::write(&path, "").expect("a file");
        let escaped = path.to_str().expect("text").replace('\\', "\\134");
        let escaped = [(' ', "\\040"), ('\t', "\\011"), ('\n', "\\012")]
            .iter()
            .fold(escaped, |text, (from, to)| text.replace(*from, to));
        let list = format!("Filename\t\tType\n/dev/none\tpartition\n{escaped} \tfile\t1\n");
        assert!(is_listed(list.as_bytes(), &path), "{list}");
        assert!(!is_listed(list.as_bytes(), Path::new("/dev/null")), "{list}");
    }
    fs::remove_dir_all(folder.path()).expect("made above");
    assert!(!is_listed(b"", Path::new("/dev/null")));
}

#[test]
fn a_mount_point_is_said_as_it_is_called() {
    let list =
        b"22 27 0:20 / /sys rw - sysfs sysfs rw\n36 35 8:1 / /mnt/my\\040disk rw - ext4 x rw\n";
    let on = |major, minor| mount_point(list, rustix::fs::makedev(major, minor));
    assert_eq!(on(8, 1).as_deref(), Some("/mnt/my disk"));
    assert_eq!(on(8, 2), None);
}
