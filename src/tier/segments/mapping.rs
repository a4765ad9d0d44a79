//! The file that a store's bytes are in, so that they are there when the process is not.
//!
//! The file is on hugetlbfs, in memory (/dev/shm) or on a disk. It is one process's as long as that
//! has it open, and everything that can be wrong with it is found here. It must never be written
//! before it is locked, and nobody else may make it shorter: a page that is gone is a SIGBUS.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use memmap2::{Advice, MmapMut};
use rustix::fs::{
    Access, AtFlags, CWD, FallocateFlags, OFlags, StatFs, accessat, fallocate, fstatfs, statfs,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::geometry::{Geometry, SegmentStoreConfig};
use super::header::{self, Found, LOOK_BYTES};
use super::opening::{Room, StartError};
use crate::base::buffer;

/// File systems in memory, by what statfs(2) says of them.
const HUGETLBFS: u64 = 0x9584_58f6;
const TMPFS: u64 = 0x0102_1994;

/// Which file, and how it is used.
#[derive(Clone, Copy, Debug)]
pub struct StoreFile<'p> {
    /// Where it is. It is made if there is none.
    pub path: &'p Path,
    /// Huge pages, if the kernel gives some for the file's file system.
    pub is_huge: bool,
    /// What is there is given up, whatever it is.
    pub is_afresh: bool,
    /// What decides which worker owns a key.
    pub key_seed: u64,
}

/// What a store was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MadeStore {
    /// Workers in all.
    pub workers: u32,
    /// What decides which worker owns a key.
    pub key_seed: u64,
}

/// What the store in a file was made with, if there is one.
///
/// # Errors
/// If the file cannot be read. What else is wrong with it is found when it is started with.
pub fn made(path: &Path) -> io::Result<Option<MadeStore>> {
    let mut start = [0; LOOK_BYTES];
    let options = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(options.bits() as i32).open(path);
    match file.and_then(|mut file| file.read_exact(&mut start)) {
        Ok(()) => {}
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => return Ok(None),
            _ => return Err(error),
        },
    }
    match header::look(&start) {
        Found::Store(Geometry { workers, key_seed, .. }) => {
            Ok(Some(MadeStore { workers, key_seed }))
        }
        _ => Ok(None),
    }
}

/// A file that is ours.
#[derive(Debug)]
pub struct Mapped {
    pub map: MmapMut,
    pub file: File,
    /// With the bytes that there are: whole pages.
    pub config: SegmentStoreConfig,
}

/// Opens, locks, checks and maps a file.
pub fn open(config: SegmentStoreConfig, store_file: &StoreFile<'_>) -> Result<Mapped, StartError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
        .open(store_file.path)
        .map_err(StartError::opening)?;
    check_ours(&file)?;
    let system = fstatfs(&file).map_err(io::Error::from).map_err(StartError::at("look at it"))?;
    let len = file.metadata().map_err(StartError::at("look at it"))?.len();
    let (room, config) =
        room_of(&system, config).inspect_err(|_| forget_if(len == 0, store_file.path))?;
    if store_file.is_afresh {
        file.set_len(0).map_err(StartError::at("empty it"))?;
    } else if len > 0 {
        check_contents(&mut file, len, &config)?;
    }
    match fill(&file, config.bytes, room, store_file.is_huge) {
        Ok(map) => Ok(Mapped { map, file, config }),
        Err(error) => {
            forget_if(len == 0 || store_file.is_afresh, store_file.path);
            Err(error)
        }
    }
}

/// Room for the files of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Bytes that a file still has to be given.
    pub missing_bytes: u64,
    /// What its file system has free; None: it does not say.
    pub free_bytes: Option<u64>,
    /// Where they are taken from.
    pub room: Room,
}

/// Finds what [`open`] would refuse, but for room: that is for the caller to add up. It makes and
/// changes nothing.
pub fn try_open(
    config: SegmentStoreConfig,
    store_file: &StoreFile<'_>,
) -> Result<Needed, StartError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits() as i32)
        .open(store_file.path);
    let mut file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened.map_err(StartError::opening)?),
    };
    let folder = store_file.path.parent().unwrap_or(Path::new("/"));
    let system = match &file {
        Some(file) => {
            check_owner(file)?;
            fstatfs(file)
        }
        None => {
            let may = Access::WRITE_OK | Access::EXEC_OK;
            let may = accessat(CWD, folder, may, AtFlags::EACCESS);
            may.map_err(|errno| StartError::opening(errno.into()))?;
            statfs(folder)
        }
    };
    let system = system.map_err(io::Error::from).map_err(StartError::at("look at it"))?;
    let (room, config) = room_of(&system, config)?;
    let mut has_bytes = 0;
    if let Some(file) = &mut file {
        let meta = file.metadata().map_err(StartError::at("look at it"))?;
        has_bytes = meta.blocks() * 512;
        if meta.len() > 0 && !store_file.is_afresh {
            check_contents(file, meta.len(), &config)?;
        }
        // Last: whoever uses it may be about to end.
        lock(file)?;
    }
    let missing_bytes = (config.bytes as u64).saturating_sub(has_bytes);
    let free_bytes = match room {
        // A mount of hugetlbfs without a size of its own has what is free of such pages.
        Room::HugePages(_) if system.f_blocks == 0 || system.f_blocks == u64::MAX => None,
        _ => Some(system.f_bavail.saturating_mul(system.f_bsize as u64)),
    };
    Ok(Needed { missing_bytes, free_bytes, room })
}

/// What a file on this file system is made of, and the whole pages of `config` there.
fn room_of(
    system: &StatFs,
    config: SegmentStoreConfig,
) -> Result<(Room, SegmentStoreConfig), StartError> {
    let page_bytes = (system.f_bsize as usize).max(4096);
    let room = match system.f_type as u64 {
        HUGETLBFS => Room::HugePages(page_bytes),
        TMPFS => Room::Memory,
        _ => Room::Disk,
    };
    let bytes = match room {
        Room::HugePages(page_bytes) => config.bytes / page_bytes * page_bytes,
        _ => config.bytes / 4096 * 4096,
    };
    let config = SegmentStoreConfig { bytes, ..config };
    match config.is_in_range() {
        true => Ok((room, config)),
        false => Err(StartError::Pages { page_bytes }),
    }
}

/// Removes a file in which there is nothing.
fn forget_if(is_empty: bool, path: &Path) {
    if is_empty {
        // What is left of it does no harm.
        let _ = fs::remove_file(path);
    }
}

/// Whether nobody else has anything to do with a file; locks it.
fn check_ours(file: &File) -> Result<(), StartError> {
    check_owner(file)?;
    lock(file)
}

fn check_owner(file: &File) -> Result<(), StartError> {
    let meta = file.metadata().map_err(StartError::at("look at it"))?;
    let kind = meta.file_type();
    if !kind.is_file() || kind.is_block_device() {
        return Err(StartError::Kind);
    }
    if meta.uid() != geteuid().as_raw() {
        return Err(StartError::Owner { uid: meta.uid() });
    }
    if meta.mode() & 0o077 != 0 {
        return Err(StartError::Mode { mode: meta.mode() & 0o777 });
    }
    Ok(())
}

fn lock(file: &File) -> Result<(), StartError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StartError::InUse),
        Err(TryLockError::Error(error)) => Err(StartError::Io { step: "lock it", error }),
    }
}

/// Whether a file that has something in it is what was asked for.
fn check_contents(
    file: &mut File,
    len: u64,
    config: &SegmentStoreConfig,
) -> Result<(), StartError> {
    let mut start = [0; LOOK_BYTES];
    match file.read_exact(&mut start) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(StartError::Foreign);
        }
        result => result.map_err(StartError::at("read it"))?,
    }
    match header::look(&start) {
        Found::Nothing => {}
        found => drop(header::check(found, config)?),
    }
    match len == config.bytes as u64 {
        true => Ok(()),
        false => Err(StartError::Length { found: len, wanted: config.bytes as u64 }),
    }
}

/// Sees to it that a file has its bytes, and maps them.
fn fill(file: &File, bytes: usize, room: Room, is_huge: bool) -> Result<MmapMut, StartError> {
    file.set_len(bytes as u64).map_err(StartError::at("make it so long"))?;
    let is_memory = room != Room::Disk;
    let map = buffer::map_file(file, bytes).map_err(|error| match error.raw_os_error() {
        // hugetlbfs keeps the pages ready from here on.
        Some(code) if code == Errno::NOMEM.raw_os_error() => StartError::NoSpace { bytes, room },
        _ => StartError::Io { step: "map it", error },
    })?;
    if is_memory && is_huge {
        // A hint. It counts only for pages that are not there yet, so it comes first.
        let _ = map.advise(Advice::HugePage);
        let _ = map.advise(Advice::PopulateWrite);
    }
    let allocated = fallocate(file, FallocateFlags::empty(), 0, bytes as u64);
    match allocated {
        Ok(()) => {}
        Err(Errno::NOSPC | Errno::NOMEM | Errno::DQUOT) => {
            return Err(StartError::NoSpace { bytes, room });
        }
        Err(error) => {
            return Err(StartError::Io { step: "allocate it", error: error.into() });
        }
    }
    if is_memory && !is_huge {
        // First touches would cost a turn its time. Without it they do.
        let _ = map.advise(Advice::PopulateWrite);
    }
    Ok(map)
}

/// A number of the machine's run, which is another one after a restart; 0 if the kernel does not
/// say.
pub fn boot() -> u64 {
    let id = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if id.is_empty() { 0 } else { header::sum(0, &id).max(1) }
}
