//! Opening a disk: a file or a block device that is ours alone, and its division among workers.
//!
//! Everything that can be wrong with a path is found here and said in one line. It must never
//! destroy what somebody else keeps there: a file is made or made longer only if a size was asked
//! for, and nothing that is mounted or that somebody holds is opened.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{
    AtFlags, FallocateFlags, IFlags, OFlags, SeekFrom as SeekTo, StatxFlags, fallocate, fstatfs,
    fstatvfs, ioctl_getflags, ioctl_setflags, seek, statx,
};
use rustix::io::Errno;
use rustix::process::{Resource, geteuid, getrlimit};

use crate::base::limits::{
    SSD_ALLOCATE_BYTES, SSD_BLOCK_BYTES, SSD_LOCK_TRIES, SSD_LOCK_WAIT_MS, SSD_SEGMENT_BYTES,
};

/// Bytes of the shortest file that can be looked at: the start of a log, as far as it is there
/// twice.
pub const LOOK_BYTES_MIN: u64 = 2 * SSD_BLOCK_BYTES as u64;

/// What is to be opened.
#[derive(Clone, Debug)]
pub struct OpenRequest<'p> {
    /// Where it is.
    pub path: &'p Path,
    /// How much of it to use, in bytes; a file is made, or made longer, to have so much. None: all
    /// that is there.
    pub size_bytes: Option<u64>,
    /// Among how many it is divided.
    pub workers: usize,
    /// The least that each can do with, in segments. 0: only the start is looked at, and a part is
    /// whole blocks.
    pub segments_min: usize,
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A block device.
    BlockDevice,
}

/// A disk that nobody else has as long as it, or a part of it, is there.
#[derive(Clone, Debug)]
pub struct Opened {
    file: Arc<File>,
    kind: Kind,
    whole_bytes: u64,
    workers: usize,
    part_bytes: u64,
}

impl Opened {
    /// What it is.
    #[cfg(feature = "internals")]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether what is written again goes to another place of its file system, which has to have
    /// room for it then: btrfs's files, unless they were made otherwise.
    pub fn is_copied_on_write(&self) -> bool {
        self.kind == Kind::File && is_copied_on_write(&self.file)
    }

    /// Keeps a file from everybody but its owner: it has what clients store, and the key that
    /// nobody may know who chooses what they store. The mode it had, if others could open it.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn make_private(&self) -> io::Result<Option<u32>> {
        let mode = self.file.metadata()?.mode() & 0o7777;
        if self.kind != Kind::File || mode & 0o077 == 0 {
            return Ok(None);
        }
        self.file.set_permissions(fs::Permissions::from_mode(mode & 0o700))?;
        Ok(Some(mode))
    }

    /// Bytes of the whole file or device.
    pub fn whole_bytes(&self) -> u64 {
        self.whole_bytes
    }

    /// The same disk among so many, with so many bytes each.
    ///
    /// # Panics
    /// If it has not so many.
    #[must_use]
    pub fn divided(self, workers: usize, part_bytes: u64) -> Opened {
        let has_all =
            part_bytes.checked_mul(workers as u64).is_some_and(|it| it <= self.whole_bytes);
        assert!(has_all, "parts of what there is");
        Opened { workers, part_bytes, ..self }
    }

    /// Bytes of all parts together.
    #[cfg(feature = "internals")]
    pub fn size_bytes(&self) -> u64 {
        self.part_bytes * self.workers as u64
    }

    /// The part of one worker.
    ///
    /// # Panics
    /// If there is no such worker.
    pub fn part(&self, worker: usize) -> Part {
        assert!(worker < self.workers, "a worker that the disk was divided for");
        Part { disk: self.clone(), start_bytes: self.part_bytes * worker as u64 }
    }
}

/// One worker's part of a disk: whole segments.
#[derive(Clone, Debug)]
pub struct Part {
    disk: Opened,
    start_bytes: u64,
}

impl Part {
    /// Where on the disk it starts, in bytes.
    pub fn start_bytes(&self) -> u64 {
        self.start_bytes
    }

    /// Its length in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.disk.part_bytes
    }

    /// What the disk is.
    pub fn kind(&self) -> Kind {
        self.disk.kind
    }

    /// Whether the device below can be asked for completions, as it says itself.
    pub(super) fn has_poll_queues(&self) -> bool {
        let Ok(metadata) = self.file().metadata() else { return false };
        let device = match self.kind() {
            Kind::File => metadata.dev(),
            Kind::BlockDevice => metadata.rdev(),
        };
        // A partition's queue is its disk's. A file system over several devices has none.
        ["queue/io_poll", "../queue/io_poll"].iter().any(|name| is_set(device, name))
    }

    /// The disk, opened for direct I/O.
    pub(super) fn file(&self) -> &File {
        &self.disk.file
    }
}

/// Why a disk could not be opened. Shown as one line that begins with its path.
#[derive(Debug)]
pub struct OpenError {
    path: PathBuf,
    cause: Cause,
    /// It was to be looked at, by somebody who has no flags to change.
    is_look: bool,
}

#[derive(Debug)]
enum Cause {
    Missing,
    NoFolder,
    LinkToNothing,
    Directory,
    OtherKind,
    Empty,
    TooSmall { has_bytes: u64, workers: usize, part_bytes_min: u64 },
    NoLog { has_bytes: u64 },
    Shorter { has_bytes: u64, wants_bytes: u64 },
    Mounted(String),
    Swap,
    InUse(Kind),
    OfAnother { uid: u32, ours: u32 },
    ReadOnly,
    Permission,
    NotDirect,
    NoSpace { wants_bytes: u64, free_bytes: Option<u64> },
    LargerThanDisk { wants_bytes: u64, whole_bytes: u64 },
    TooLarge { wants_bytes: u64 },
    Limited { wants_bytes: u64, may_bytes: u64 },
    Kernel(&'static str, io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.cause {
            Cause::Missing if self.is_look => f.write_str("there is no such file"),
            Cause::Missing if self.is_of_device() => f.write_str("there is no such device"),
            Cause::Missing => f.write_str("there is no such file; with size=SIZE one is made"),
            Cause::NoFolder => {
                f.write_str("its folder does not exist: is its file system mounted?")
            }
            Cause::LinkToNothing => f.write_str("is a symbolic link to a file that does not exist"),
            Cause::Directory if self.is_look => f.write_str("is a directory"),
            Cause::Directory => f.write_str("is a directory; name a file in it, with size=SIZE"),
            Cause::OtherKind => f.write_str("is neither a regular file nor a block device"),
            Cause::NoLog { has_bytes } => write!(f, "holds no log: it has {}", Size(*has_bytes)),
            Cause::Empty => f.write_str("is an empty file; say with size=SIZE how large it may be"),
            Cause::TooSmall { has_bytes, workers, part_bytes_min } => {
                let (has, part) = (Size(*has_bytes), Size(*part_bytes_min));
                write!(f, "is too small: it has {has}, and ")?;
                match workers {
                    1 => write!(f, "1 worker needs {part}"),
                    _ => write!(f, "{workers} workers need {part} each"),
                }
            }
            Cause::Shorter { has_bytes, wants_bytes } => write!(
                f,
                "is too small: it has {}, and size= asks for {}",
                Size(*has_bytes),
                Size(*wants_bytes)
            ),
            Cause::Mounted(on) => write!(f, "is mounted on {on}; unmount it first"),
            Cause::Swap => f.write_str("is in use as swap; swapoff it first"),
            Cause::InUse(Kind::File) => f.write_str("is in use by another sunder"),
            Cause::InUse(Kind::BlockDevice) => {
                f.write_str("is in use by another sunder, a mounted partition or a volume")
            }
            Cause::OfAnother { uid, ours } => write!(
                f,
                "belongs to user {uid}, who could read and change all that is stored in it, and \
                 this is user {ours}: name another file, or make it yours first (chown {ours})"
            ),
            Cause::ReadOnly => f.write_str("is read-only"),
            Cause::Permission if self.is_look => f.write_str("no permission to read it"),
            Cause::Permission => f.write_str("no permission to read and write it"),
            Cause::NotDirect => f.write_str("its file system has no direct I/O (O_DIRECT)"),
            Cause::NoSpace { wants_bytes, free_bytes } => {
                write!(f, "no room for {}", Size(*wants_bytes))?;
                match free_bytes {
                    Some(bytes) => write!(f, ": its file system has {} free", Size(*bytes)),
                    None => Ok(()),
                }
            }
            Cause::LargerThanDisk { wants_bytes, whole_bytes } => write!(
                f,
                "no room for {}: its file system has {} altogether",
                Size(*wants_bytes),
                Size(*whole_bytes)
            ),
            Cause::TooLarge { wants_bytes } => {
                write!(f, "its file system has no files of {}", Size(*wants_bytes))
            }
            Cause::Limited { wants_bytes, may_bytes } => write!(
                f,
                "{} are more than files may have here, {}; raise that limit (ulimit -f)",
                Size(*wants_bytes),
                Size(*may_bytes)
            ),
            Cause::Kernel(step, error) => write!(f, "{step}: {error}"),
        }
    }
}

impl OpenError {
    /// Whether it is worth trying again later: it may come, or become free, by itself.
    pub fn may_pass(&self) -> bool {
        match self.cause {
            Cause::Missing => self.is_of_device(),
            Cause::NoFolder | Cause::InUse(_) => true,
            _ => false,
        }
    }

    /// Whether somebody has it open now.
    pub fn is_in_use(&self) -> bool {
        matches!(self.cause, Cause::InUse(_))
    }

    /// Whether what was asked for is wrong, not the host: another path or size is needed.
    pub fn is_of_request(&self) -> bool {
        match &self.cause {
            Cause::Missing => !self.is_of_device(),
            Cause::Directory
            | Cause::OtherKind
            | Cause::Empty
            | Cause::TooSmall { .. }
            | Cause::Shorter { .. }
            | Cause::LargerThanDisk { .. }
            | Cause::TooLarge { .. } => true,
            Cause::NoFolder
            | Cause::LinkToNothing
            | Cause::NoLog { .. }
            | Cause::Mounted(_)
            | Cause::Swap
            | Cause::InUse(_)
            | Cause::OfAnother { .. }
            | Cause::ReadOnly
            | Cause::Permission
            | Cause::NotDirect
            | Cause::NoSpace { .. }
            | Cause::Limited { .. }
            | Cause::Kernel(..) => false,
        }
    }

    fn is_of_device(&self) -> bool {
        self.path.starts_with("/dev") && !self.path.starts_with("/dev/shm")
    }
}

impl std::error::Error for OpenError {}

/// Bytes as they are written on a command line, as far as they are whole.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 40 => {
                write!(f, "{:.1} TiB", bytes as f64 / (1_u64 << 40) as f64)
            }
            bytes if bytes >= 1 << 30 => write!(f, "{:.1} GiB", bytes as f64 / (1 << 30) as f64),
            bytes if bytes >= 1 << 20 => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

/// Opens and locks a disk, and makes it as long as asked for.
///
/// # Errors
/// One line that says what is wrong with the path.
pub fn open(request: &OpenRequest<'_>) -> Result<Opened, OpenError> {
    let fail = |cause| OpenError { path: request.path.to_owned(), cause, is_look: false };
    let kind = kind_of(request.path, request.size_bytes.is_some()).map_err(fail)?;
    let is_made = kind.is_none();
    let (file, kind) = match kind {
        Some(Kind::BlockDevice) => (block_device(request.path, false), Kind::BlockDevice),
        Some(Kind::File) => (regular_file(request.path, false), Kind::File),
        None => (regular_file(request.path, true), Kind::File),
    };
    let file = file.map_err(fail)?;
    let sizes = is_direct(&file).and_then(|()| {
        let size_bytes = match kind {
            Kind::File => file_size(&file, request)?,
            Kind::BlockDevice => device_size(&file, request)?,
        };
        Ok((size_bytes, length(&file)?))
    });
    if sizes.is_err() && is_made {
        remove(request.path, &file);
    }
    let (size_bytes, whole_bytes) = sizes.map_err(fail)?;
    let unit = if request.segments_min == 0 { SSD_BLOCK_BYTES } else { SSD_SEGMENT_BYTES } as u64;
    let part_bytes = size_bytes / request.workers as u64 / unit * unit;
    Ok(Opened { file: Arc::new(file), kind, whole_bytes, workers: request.workers, part_bytes })
}

/// Finds what [`open`] would refuse. It makes no file, none longer, and fills no holes. The disk as
/// it is now; for a file that would be made one without a name; None: its file system has no such.
///
/// # Errors
/// As [`open`].
pub fn try_open(request: &OpenRequest<'_>) -> Result<Option<Opened>, OpenError> {
    let fail = |cause| OpenError { path: request.path.to_owned(), cause, is_look: false };
    let kind = kind_of(request.path, request.size_bytes.is_some()).map_err(fail)?;
    let file = match kind {
        Some(Kind::BlockDevice) => block_device(request.path, false).map(Some),
        Some(Kind::File) => regular_file(request.path, false).map(Some),
        None => nameless_file(request.path),
    };
    let Some(file) = file.map_err(fail)? else { return Ok(None) };
    let kind = kind.unwrap_or(Kind::File);
    let sizes = is_direct(&file).and_then(|()| match kind {
        Kind::File => wanted_size(&file, request)
            .and_then(|size_bytes| check_room(&file, size_bytes))
            .and_then(|()| length(&file)),
        Kind::BlockDevice => device_size(&file, request).and_then(|_| length(&file)),
    });
    let whole_bytes = sizes.map_err(fail)?;
    let block = SSD_BLOCK_BYTES as u64;
    let part_bytes = whole_bytes / block * block;
    Ok(Some(Opened { file: Arc::new(file), kind, whole_bytes, workers: 1, part_bytes }))
}

/// A file without a name in the folder of `path` (open(2): O_TMPFILE). None: its file system has no
/// such files.
fn nameless_file(path: &Path) -> Result<Option<File>, Cause> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let opened = options(OFlags::TMPFILE, false).mode(0o600).open(folder.unwrap_or(Path::new(".")));
    match opened {
        Err(error)
            if [Some(Errno::OPNOTSUPP), Some(Errno::ISDIR)]
                .contains(&Errno::from_io_error(&error)) =>
        {
            Ok(None)
        }
        opened => opened.map(Some).map_err(opening),
    }
}

/// Opens a disk that is only looked at, all of it as one part. That needs no permission to write
/// and changes nothing; no server may have it meanwhile.
///
/// # Errors
/// One line that says what is wrong with the path.
pub fn open_to_look(path: &Path) -> Result<Opened, OpenError> {
    let opened = || {
        let kind = kind_of(path, false)?.ok_or(Cause::Missing)?;
        let file = match kind {
            Kind::BlockDevice => block_device(path, true)?,
            Kind::File => {
                let file = options(OFlags::empty(), true).open(path).map_err(opening)?;
                lock(|| file.try_lock_shared())?;
                file
            }
        };
        is_direct(&file)?;
        let whole_bytes = length(&file)?;
        if whole_bytes < LOOK_BYTES_MIN {
            return Err(Cause::NoLog { has_bytes: whole_bytes });
        }
        let block = SSD_BLOCK_BYTES as u64;
        let part_bytes = whole_bytes / block * block;
        Ok(Opened { file: Arc::new(file), kind, whole_bytes, workers: 1, part_bytes })
    };
    opened().map_err(|cause| OpenError { path: path.to_owned(), cause, is_look: true })
}

/// What is there; None: nothing, and it may be made.
fn kind_of(path: &Path, may_be_made: bool) -> Result<Option<Kind>, Cause> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // open(2) makes nothing behind a link with O_EXCL.
            if fs::symlink_metadata(path).is_ok_and(|it| it.is_symlink()) {
                return Err(Cause::LinkToNothing);
            }
            // Its file system may not be mounted yet: then no size would help.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if folder.is_some_and(|folder| !folder.exists()) {
                return Err(Cause::NoFolder);
            }
            return if may_be_made { Ok(None) } else { Err(Cause::Missing) };
        }
        Err(error) => return Err(opening(error)),
    };
    let kind = metadata.file_type();
    if kind.is_file() {
        Ok(Some(Kind::File))
    } else if kind.is_block_device() {
        Ok(Some(Kind::BlockDevice))
    } else if kind.is_dir() {
        Err(Cause::Directory)
    } else {
        Err(Cause::OtherKind)
    }
}

/// What it means that open(2) fails.
fn opening(error: io::Error) -> Cause {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => Cause::Missing,
        Some(Errno::ROFS) => Cause::ReadOnly,
        Some(Errno::ACCESS | Errno::PERM) => Cause::Permission,
        Some(Errno::ISDIR) => Cause::Directory,
        Some(Errno::INVAL) => Cause::NotDirect,
        Some(Errno::TXTBSY) => Cause::Swap,
        _ => Cause::Kernel("cannot open it", error),
    }
}

fn options(flags: OFlags, is_look: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    // Not to be kept waiting by what has taken the path's place since it was looked at.
    let flags = OFlags::DIRECT | OFlags::NONBLOCK | flags;
    options.read(true).write(!is_look).custom_flags(flags.bits() as i32);
    options
}

fn regular_file(path: &Path, is_new: bool) -> Result<File, Cause> {
    let mut options = options(OFlags::empty(), false);
    let file = options.create_new(is_new).mode(0o600).open(path).map_err(opening);
    if is_new && matches!(file, Err(Cause::NotDirect)) {
        // open(2) makes the file before it finds that.
        let _ = fs::remove_file(path);
    }
    let file = match file {
        Err(Cause::Missing) if is_new => return Err(Cause::NoFolder),
        file => file?,
    };
    lock(|| file.try_lock())?;
    if is_swap(path) {
        return Err(Cause::Swap);
    }
    // Who owns a file opens it whatever its mode, and may have it open already.
    let (uid, ours) = (file.metadata().map_err(opening)?.uid(), geteuid().as_raw());
    // A file that was made here is ours even where its file system says otherwise.
    if is_new || uid == ours { Ok(file) } else { Err(Cause::OfAnother { uid, ours }) }
}

fn lock(attempt: impl Fn() -> Result<(), TryLockError>) -> Result<(), Cause> {
    patiently(|| match attempt() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Cause::InUse(Kind::File)),
        Err(TryLockError::Error(error)) => Err(Cause::Kernel("cannot lock it", error)),
    })
}

fn block_device(path: &Path, is_look: bool) -> Result<File, Cause> {
    let number = fs::metadata(path).map_err(opening)?.rdev();
    if let Some(on) = mounted_on(number) {
        return Err(Cause::Mounted(on));
    }
    if is_swap(path) {
        return Err(Cause::Swap);
    }
    // Most drivers let a device be opened that they will not write to.
    if !is_look && is_set(number, "ro") {
        return Err(Cause::ReadOnly);
    }
    // open(2): O_EXCL without O_CREAT holds a block device for oneself.
    let exclusive = options(OFlags::EXCL, is_look);
    patiently(|| {
        exclusive.open(path).map_err(|error| {
            match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::BUSY) => Cause::InUse(Kind::BlockDevice),
                _ => opening(error),
            }
        })
    })
}

/// Tries again for a while if the disk is in use: the kernel closes the rings of a process that was
/// killed, and with them its disk, some time after the process.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, Cause>) -> Result<T, Cause> {
    for _ in 0..SSD_LOCK_TRIES {
        match attempt() {
            Err(Cause::InUse(_)) => std::thread::sleep(Duration::from_millis(SSD_LOCK_WAIT_MS)),
            result => return result,
        }
    }
    attempt()
}

/// Whether a block device's attribute in sysfs is 1.
fn is_set(device: u64, attribute: &str) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/{attribute}"))
        .is_ok_and(|text| text.trim() == "1")
}

/// Where a block device is mounted (proc_pid_mountinfo(5): the third word is its number, the fifth
/// the mount point).
fn mounted_on(device: u64) -> Option<String> {
    mount_point(&fs::read("/proc/self/mountinfo").ok()?, device)
}

fn mount_point(list: &[u8], device: u64) -> Option<String> {
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    list.split(|byte| *byte == b'\n').find_map(|line| {
        let mut words = line.split(|byte| *byte == b' ');
        let is_it = words.nth(2)? == number.as_bytes();
        is_it.then(|| words.nth(1).map(|on| unescaped(on).display().to_string()))?
    })
}

/// Whether the kernel swaps to it.
fn is_swap(path: &Path) -> bool {
    is_listed(&fs::read("/proc/swaps").unwrap_or_default(), path)
}

/// Whether it is on a list of swaps (proc_swaps(5): a line of headings, then one each, of which the
/// first word is the path).
fn is_listed(list: &[u8], path: &Path) -> bool {
    let Ok(ours) = fs::metadata(path) else { return false };
    list.split(|byte| *byte == b'\n').skip(1).any(|line| {
        let word = line.split(|byte| b" \t".contains(byte)).next().unwrap_or_default();
        fs::metadata(unescaped(word)).is_ok_and(|swap| match ours.file_type().is_block_device() {
            true => swap.rdev() == ours.rdev(),
            false => (swap.dev(), swap.ino()) == (ours.dev(), ours.ino()),
        })
    })
}

/// A path as the kernel's lists have it: a backslash and three octal digits for each byte that
/// would end a word or a line, and for a backslash.
fn unescaped(word: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| *first == b'\\');
        let text = digits.and_then(|digits| str::from_utf8(digits).ok());
        let escaped = text.and_then(|text| u8::from_str_radix(text, 8).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &behind[3..] } else { behind };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Refuses what takes no direct I/O in our blocks, though it let itself be opened for it.
fn is_direct(file: &File) -> Result<(), Cause> {
    let asked = StatxFlags::DIOALIGN;
    // A kernel or file system that says nothing about it has accepted O_DIRECT all the same.
    let Ok(status) = statx(file, c"", AtFlags::EMPTY_PATH, asked) else { return Ok(()) };
    if status.stx_mask & asked.bits() == 0 {
        return Ok(());
    }
    let aligns = [status.stx_dio_mem_align, status.stx_dio_offset_align];
    let is_fine = aligns.iter().all(|align| (1..=SSD_BLOCK_BYTES as u32).contains(align));
    if is_fine { Ok(()) } else { Err(Cause::NotDirect) }
}

/// How much of a file to use, after making it so long and all of it its own.
fn file_size(file: &File, request: &OpenRequest<'_>) -> Result<u64, Cause> {
    let size_bytes = wanted_size(file, request)?;
    allocate(file, file.metadata().map_err(opening)?.len(), size_bytes)?;
    Ok(size_bytes)
}

fn wanted_size(file: &File, request: &OpenRequest<'_>) -> Result<u64, Cause> {
    let has_bytes = file.metadata().map_err(opening)?.len();
    let size_bytes = match request.size_bytes {
        None if has_bytes == 0 => return Err(Cause::Empty),
        wanted => wanted.unwrap_or(has_bytes),
    };
    is_enough(size_bytes, request)?;
    is_allowed(size_bytes)?;
    Ok(size_bytes)
}

/// Removes a file that was made here, unless its path names another by now.
fn remove(path: &Path, file: &File) {
    let identity = |it: fs::Metadata| (it.dev(), it.ino());
    let (named, made) = (fs::symlink_metadata(path), file.metadata());
    if named.is_ok_and(|named| made.is_ok_and(|made| identity(named) == identity(made))) {
        let _ = fs::remove_file(path);
    }
}

/// Whether we may write so far into a file. If not, the kernel ends the process for trying
/// (setrlimit(2): SIGXFSZ).
fn is_allowed(size_bytes: u64) -> Result<(), Cause> {
    match getrlimit(Resource::Fsize).current {
        Some(may_bytes) if may_bytes < size_bytes => {
            Err(Cause::Limited { wants_bytes: size_bytes, may_bytes })
        }
        _ => Ok(()),
    }
}

/// Makes a file so long, and room on its file system for all of it.
fn allocate(file: &File, has_bytes: u64, size_bytes: u64) -> Result<(), Cause> {
    let metadata = file.metadata().map_err(opening)?;
    let room_bytes = metadata.blocks() * 512;
    if has_bytes == 0 && room_bytes == 0 {
        overwrite_in_place(file);
    }
    // To try would fill the file system for a while, and holes of the file for good.
    check_room(file, size_bytes)?;
    let error = match fill_holes(file, size_bytes) {
        Ok(()) => return Ok(()),
        // All of it is there: XFS asks for more (see fill_holes) though nothing has to be found.
        Err(Errno::NOSPC | Errno::DQUOT) if size_bytes <= has_bytes && has_bytes <= room_bytes => {
            return Ok(());
        }
        Err(error) => error,
    };
    // It may have been made longer in part.
    let _ = file.set_len(has_bytes);
    Err(match error {
        Errno::NOSPC | Errno::DQUOT => {
            let free_bytes = fstatvfs(file).ok().map(|status| status.f_bavail * status.f_frsize);
            // A quota may be what is used up.
            let free_bytes = free_bytes.filter(|_| error == Errno::NOSPC);
            Cause::NoSpace { wants_bytes: size_bytes, free_bytes }
        }
        Errno::FBIG => Cause::TooLarge { wants_bytes: size_bytes },
        _ => Cause::Kernel("cannot set room aside for it", error.into()),
    })
}

/// Refuses what the file system of a file has no room for.
fn check_room(file: &File, size_bytes: u64) -> Result<(), Cause> {
    let room_bytes = file.metadata().map_err(opening)?.blocks() * 512;
    let Ok(room) = fstatvfs(file) else { return Ok(()) };
    let free_bytes = room.f_bavail.saturating_mul(room.f_frsize);
    let whole_bytes = room.f_blocks.saturating_mul(room.f_frsize);
    if size_bytes > whole_bytes.max(room_bytes) {
        return Err(Cause::LargerThanDisk { wants_bytes: size_bytes, whole_bytes });
    }
    if size_bytes.saturating_sub(room_bytes) > free_bytes {
        return Err(Cause::NoSpace { wants_bytes: size_bytes, free_bytes: Some(free_bytes) });
    }
    Ok(())
}

/// Allocates what holds no data below `size_bytes`. For a call on what is allocated already XFS
/// wants as much free as for a hole, and it says "hole" of what was only never written: so no call
/// covers data, and where there is not so much each covers little.
fn fill_holes(file: &File, size_bytes: u64) -> Result<(), Errno> {
    let mut at = 0;
    loop {
        // Behind its end a file has neither.
        let hole = seek(file, SeekTo::Hole(at)).unwrap_or(at);
        if hole >= size_bytes {
            return Ok(());
        }
        let data = seek(file, SeekTo::Data(hole)).ok().filter(|data| *data > hole);
        at = data.map_or(size_bytes, |data| data.min(size_bytes));
        match fallocate(file, FallocateFlags::empty(), hole, at - hole) {
            Err(Errno::NOSPC) => fill_in_pieces(file, hole, at)?,
            result => result?,
        }
    }
}

fn fill_in_pieces(file: &File, mut at: u64, end: u64) -> Result<(), Errno> {
    while at < end {
        let piece_bytes = (end - at).min(SSD_ALLOCATE_BYTES);
        fallocate(file, FallocateFlags::empty(), at, piece_bytes)?;
        at += piece_bytes;
    }
    Ok(())
}

/// Has a new file written in place where its file system would write anew what is written again
/// (ioctl_iflags(2): before anything is in it). Where that cannot be had the operator is told.
fn overwrite_in_place(file: &File) {
    if is_copied_on_write(file)
        && let Ok(flags) = ioctl_getflags(file)
    {
        let _ = ioctl_setflags(file, flags | IFlags::NOCOW);
    }
}

fn is_copied_on_write(file: &File) -> bool {
    /// statfs(2): BTRFS_SUPER_MAGIC.
    const BTRFS: u64 = 0x9123_683e;
    fstatfs(file).is_ok_and(|it| it.f_type as u64 == BTRFS)
        && !ioctl_getflags(file).is_ok_and(|flags| flags.contains(IFlags::NOCOW))
}

/// How long a file or a device is, in bytes.
fn length(mut file: &File) -> Result<u64, Cause> {
    file.seek(SeekFrom::End(0)).map_err(|error| Cause::Kernel("cannot tell its size", error))
}

fn device_size(file: &File, request: &OpenRequest<'_>) -> Result<u64, Cause> {
    let has_bytes = length(file)?;
    let wants_bytes = request.size_bytes.unwrap_or(has_bytes);
    if wants_bytes > has_bytes {
        return Err(Cause::Shorter { has_bytes, wants_bytes });
    }
    is_enough(wants_bytes, request)?;
    Ok(wants_bytes)
}

fn is_enough(size_bytes: u64, request: &OpenRequest<'_>) -> Result<(), Cause> {
    let part_bytes_min = (request.segments_min * SSD_SEGMENT_BYTES) as u64;
    let workers = request.workers;
    if size_bytes / workers as u64 >= part_bytes_min {
        return Ok(());
    }
    Err(Cause::TooSmall { has_bytes: size_bytes, workers, part_bytes_min })
}

#[cfg(test)]
mod tests;
