//! DPDK's environment: started once per process, and never stopped.
//!
//! Decides nothing about devices; see `ethdev`. Never calls `rte_eal_cleanup`: it frees and unmaps
//! memory that DPDK's own interrupt thread, which it leaves running, still reads, and a device that
//! was just closed has woken that thread. There is nothing to clean up either: no file is left (see
//! `arguments`), and memory is freed with the process.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use dpdk_sys as dpdk;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::error::NicError;
use super::spec::Spec;

/// Whether this process has started DPDK; it can do so once.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Whether this process has started DPDK before.
pub(super) fn was_started() -> bool {
    STARTED.load(Ordering::Relaxed)
}

/// The running environment, required to open a device.
pub(super) struct Eal(());

impl Eal {
    /// Starts DPDK for the devices. `huge_off_bytes` is the memory to allocate if hugepages are not
    /// wanted. The calling thread keeps its CPUs.
    pub(super) fn start(
        specs: &[Spec],
        huge_off_bytes: Option<usize>,
        log: &mut Log,
    ) -> Result<Eal, NicError> {
        if STARTED.swap(true, Ordering::Relaxed) {
            return Err(NicError::AlreadyOpen);
        }
        log.capture();
        let affinity = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        let arguments = arguments(specs, huge_off_bytes, &affinity);
        let started = init(&arguments);
        // EAL pins the thread that starts it. That thread is ours and has other work.
        let _ = sched_setaffinity(None, &affinity);
        remove_runtime_dir();
        match started {
            Ok(()) => Ok(Eal(())),
            Err(errno) => {
                let detail = log.first_line().unwrap_or_else(|| error_text(errno));
                Err(failure(&specs[0], errno, detail, |detail| NicError::Environment { detail }))
            }
        }
    }
}

fn init(arguments: &[CString]) -> Result<(), c_int> {
    // EAL keeps some of these pointers, may reorder the array and may write to the strings, as to
    // any argv: separate copies, which live as long as the process.
    let copies = arguments.iter().cloned().map(CString::into_raw);
    let pointers: Vec<*mut c_char> = copies.chain([std::ptr::null_mut()]).collect();
    let pointers = Box::leak(pointers.into_boxed_slice());
    let count = arguments.len() as c_int;
    // SAFETY: an argv in C's shape, array and strings to be written to, that is never freed.
    let result = unsafe { dpdk::rte_eal_init(count, pointers.as_mut_ptr()) };
    if result < 0 { Err(errno()) } else { Ok(()) }
}

/// EAL creates a directory even if it writes no files. Otherwise it would stay.
fn remove_runtime_dir() {
    // SAFETY: a string in EAL's own memory, empty before it has chosen one.
    let path = unsafe { CStr::from_ptr(dpdk::rte_eal_get_runtime_dir()) };
    // It is empty, or not ours to remove.
    let _ = std::fs::remove_dir(std::ffi::OsStr::from_bytes(path.to_bytes()));
}

fn arguments(specs: &[Spec], huge_off_bytes: Option<usize>, affinity: &CpuSet) -> Vec<CString> {
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&cpu| affinity.is_set(cpu)).collect();
    let cpus: Vec<_> = cpus.iter().map(usize::to_string).collect();
    let cpus = if cpus.is_empty() { "0".to_string() } else { cpus.join(",") };
    let mut arguments = vec![
        "sunder".to_string(),
        // No files, no second process, no sockets: a run leaves nothing behind. EAL refuses
        // --in-memory together with --no-huge, which uses no files for the memory itself.
        if huge_off_bytes.is_some() { "--no-shconf" } else { "--in-memory" }.to_string(),
        "--no-telemetry".to_string(),
        format!("--file-prefix=sunder-{}", std::process::id()),
        "--log-level=error".to_string(),
        // One lcore, on all CPUs of the process: the calling thread, which is not a worker.
        format!("--lcores=0@({cpus})"),
    ];
    let allowed = specs.iter().filter_map(|spec| match spec {
        Spec::Pci { address } => Some(format!("--allow={address}")),
        Spec::Vdev { .. } => None,
    });
    let before = arguments.len();
    arguments.extend(allowed);
    if arguments.len() == before {
        arguments.push("--no-pci".to_string());
        // No device needs physical addresses.
        arguments.push("--iova-mode=va".to_string());
    }
    if let Some(bytes) = huge_off_bytes {
        arguments.push("--no-huge".to_string());
        arguments.push("-m".to_string());
        arguments.push(bytes.div_ceil(1024 * 1024).to_string());
    }
    let terminated = |a: String| CString::new(a).expect("a device's name contains no NUL");
    arguments.into_iter().map(terminated).collect()
}

/// The error for `errno`: permissions have their own.
pub(super) fn failure(
    spec: &Spec,
    errno: c_int,
    detail: String,
    other: impl FnOnce(String) -> NicError,
) -> NicError {
    // Drivers also return -1 for any error, which is EPERM's number: it counts only where it can be
    // EPERM.
    let is = |e: rustix::io::Errno| e.raw_os_error() == errno;
    let is_denied = is(rustix::io::Errno::ACCESS)
        || (is(rustix::io::Errno::PERM) && !rustix::process::geteuid().is_root())
        || detail.contains("Operation not permitted")
        || detail.contains("Permission denied");
    if is_denied {
        return NicError::Permission { device: spec.name().to_string(), detail };
    }
    other(detail)
}

/// This thread's rte_errno.
pub(super) fn errno() -> c_int {
    // SAFETY: reads a thread-local.
    unsafe { dpdk::shim_errno() }
}

/// The text of an errno, including DPDK's own.
pub(super) fn error_text(errno: c_int) -> String {
    // SAFETY: returns a string that is valid until this thread calls it again.
    let text = unsafe { CStr::from_ptr(dpdk::rte_strerror(errno)) };
    text.to_string_lossy().into_owned()
}

/// DPDK's log while a device is opened: captured, so that an error can quote it. Later it is
/// written to stderr.
pub(super) struct Log(Option<File>);

impl Log {
    /// Nothing captured yet.
    pub(super) fn new() -> Log {
        let file = memfd_create(c"dpdk-log", MemfdFlags::CLOEXEC);
        Log(file.ok().map(File::from))
    }

    fn capture(&self) {
        if let Some(file) = &self.0 {
            // SAFETY: the shim duplicates an open descriptor. If that fails the log is written to
            // stderr, and is not lost.
            unsafe { dpdk::shim_log_to(file.as_raw_fd()) };
        }
    }

    /// The first line: the cause of the following ones.
    pub(super) fn first_line(&mut self) -> Option<String> {
        let file = self.0.as_mut()?;
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).ok()?;
        file.read_to_string(&mut text).ok()?;
        text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_string)
    }

    /// The error text from the log or, if it is empty, from the errno.
    pub(super) fn explain(&mut self, errno: c_int) -> String {
        self.first_line().unwrap_or_else(|| error_text(errno))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if self.0.is_some() && was_started() {
            // SAFETY: as in capture; stderr stays open as long as the process wants.
            unsafe { dpdk::shim_log_to(2) };
        }
    }
}

/// A thread registered with DPDK: its pools have a cache for it. Must be dropped in the same thread
/// to be unregistered; dropped elsewhere its number stays in use, with no other effect.
pub(super) struct KnownThread(std::thread::ThreadId);

impl KnownThread {
    /// Registers the calling thread. None if DPDK has no number left, or the thread is registered
    /// already. Then its pools work without a cache, or with the existing one.
    pub(super) fn register() -> Option<KnownThread> {
        // SAFETY: reads a thread-local.
        if unsafe { dpdk::shim_lcore_id() } != dpdk::SHIM_LCORE_ANY {
            return None;
        }
        // SAFETY: the environment runs: only a port of an open device calls this, and it keeps it
        // open.
        let result = unsafe { dpdk::rte_thread_register() };
        (result == 0).then(|| KnownThread(std::thread::current().id()))
    }
}

impl Drop for KnownThread {
    fn drop(&mut self) {
        if self.0 == std::thread::current().id() {
            // SAFETY: this thread was registered, and the environment still runs, as above.
            unsafe { dpdk::rte_thread_unregister() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(specs: &[&str], huge_off_bytes: Option<usize>) -> String {
        let mut cpus = CpuSet::new();
        cpus.set(1);
        cpus.set(3);
        let specs: Vec<_> = specs.iter().map(|spec| Spec::parse(spec).unwrap()).collect();
        let all = arguments(&specs, huge_off_bytes, &cpus);
        all.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn arguments_follow_the_devices() {
        let pci = text(&["05:00.0"], None);
        assert!(pci.contains("--allow=0000:05:00.0") && !pci.contains("--no-pci"), "{pci}");
        assert!(pci.contains("--lcores=0@(1,3)") && !pci.contains("--no-huge"), "{pci}");
        let vdev = text(&["net_ring0"], Some(3 * 1024 * 1024 + 1));
        assert!(vdev.contains("--no-pci") && vdev.ends_with("--no-huge -m 4"), "{vdev}");
        let mixed = text(&["net_ring0", "05:00.0", "06:00.1"], None);
        assert!(mixed.contains("--allow=0000:05:00.0 --allow=0000:06:00.1"), "{mixed}");
        assert!(!mixed.contains("--no-pci") && !mixed.contains("--iova-mode"), "{mixed}");
    }
}
