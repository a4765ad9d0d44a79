//! The SSD of a tier, and the files of an L1 in memory: whether a start would take them, and how
//! fast what is below them can be.

use super::host::PathLook;
use super::{Finding, Subject, Verdict};
use crate::base::limits::SSD_BLOCK_BYTES;
use crate::config::{L1, L2, Poll, Ssd, readable_size};
use crate::remedies;
use crate::serve::trial;
use crate::tier::ssd::disk::ring::Completions;

/// Kinds of file systems that are not on a disk of this host.
const REMOTE: [&str; 5] = ["nfs", "fuse", "9p", "overlay", "tmpfs"];

/// CAP_IPC_LOCK of capabilities(7): no limit on locked memory counts.
const IPC_LOCK: u32 = 14;

pub(super) fn look(subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(told) = told(subject) {
        findings.push(rings(subject));
        findings.extend(log(subject, told));
        if let Some(path) = subject.host.system.path(&told.path) {
            findings.extend(file_system(told, &path));
            findings.extend(device(subject, &path));
        } else {
            findings.push(Finding::unknown("file system", "the path cannot be looked at"));
        }
    }
    if let L1::Memory { file: Some(file), .. } = &subject.config.l1 {
        findings.push(match subject.host.system.files(subject.config, subject.workers()) {
            Ok(()) => {
                let path = file.path.display();
                Finding::ok("L1 files", format!("{path}.N can be used"))
            }
            Err(error) => Finding::refused("L1 files", &error),
        });
    }
    findings
}

fn told<'s>(subject: &Subject<'s>) -> Option<&'s Ssd> {
    match (&subject.config.l1, &subject.config.l2) {
        (L1::Ssd(told), _) | (_, L2::Ssd(told)) => Some(told),
        _ => None,
    }
}

/// Whether io_uring is allowed here.
fn rings(subject: &Subject<'_>) -> Finding {
    const CHECK: &str = "io_uring";
    let Err(reason) = subject.host.system.rings() else { return Finding::ok(CHECK, "allowed") };
    let finding = Finding::new(CHECK, Verdict::Error, reason);
    let name = "kernel.io_uring_disabled";
    match subject.host.text("proc/sys/kernel/io_uring_disabled").as_deref() {
        Some("1" | "2") => finding.mend(format!("sysctl -w {name}=0")),
        _ => finding,
    }
}

/// What a start would find of the log.
fn log(subject: &Subject<'_>, told: &Ssd) -> Vec<Finding> {
    const CHECK: &str = "ssd";
    let look = match subject.host.system.disk(subject.config, subject.workers()) {
        Ok(Some(look)) => look,
        Ok(None) => return Vec::new(),
        Err(error) => return vec![Finding::refused(CHECK, &error)],
    };
    let path = told.path.display();
    let mut findings = vec![match look.mode {
        Some(mode) => Finding::ok(CHECK, format!("{path}: {}", remedies::of_disk(mode))),
        None => Finding::unknown(CHECK, format!("{path}: a start makes the file, and tries it")),
    }];
    if look.is_copied_on_write {
        findings.push(Finding::warning(
            CHECK,
            format!("{path}: its file system copies what is written again"),
        ));
    }
    if let Some(lack) = look.lack {
        findings.push(Finding::warning("state", format!("{path}: {lack}")));
    }
    let bytes = look.index_bytes + look.buffer_bytes;
    let all = bytes.saturating_add(trial::memory_bytes(subject.config, subject.workers()));
    let said = format!("the SSD's index and buffers take {}", readable_size(bytes));
    findings.push(match subject.host.memory("MemAvailable") {
        Some(free) if free < all => Finding::warning(
            "SSD memory",
            format!("{said}, and with L1 that is more than the {} available", readable_size(free)),
        )
        .mend("a larger object= makes the index smaller"),
        Some(_) => Finding::ok("SSD memory", said),
        None => Finding::unknown("SSD memory", format!("{said}; /proc/meminfo cannot be read")),
    });
    let is_free = subject.host.is_capable(IPC_LOCK) == Some(true);
    let limit = subject.host.system.memlock().filter(|_| !is_free);
    findings.push(match limit {
        Some(limit) if limit < look.buffer_bytes => Finding::warning(
            "memlock",
            format!(
                "{} may be locked, and the SSD's buffers have {}: the kernel maps them for each \
                 I/O",
                readable_size(limit),
                readable_size(look.buffer_bytes)
            ),
        )
        .mend("ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit"),
        _ => Finding::ok("memlock", "enough for the SSD's buffers"),
    });
    if let Some(mode) = look.mode
        && subject.config.poll() == Poll::Busy
        && mode.completions != Completions::Polled
    {
        findings.push(
            Finding::warning("poll queues", "the disk has none: completions come by interrupt")
                .mend("nvme.poll_queues=N on the kernel's command line, one a worker"),
        );
    }
    findings
}

fn file_system(told: &Ssd, path: &PathLook) -> Vec<Finding> {
    const CHECK: &str = "file system";
    if path.is_device {
        return vec![Finding::ok(CHECK, "none: a block device")];
    }
    let kind = &path.file_system;
    let free = readable_size(path.free_bytes);
    let mut findings = vec![match REMOTE.contains(&kind.as_str()) {
        true => Finding::warning(
            CHECK,
            format!("{} is on {kind}, which is no disk of this host's own", told.path.display()),
        ),
        false => Finding::ok(CHECK, format!("{kind}, {free} free")),
    }];
    if let Some(align) = path.direct_align.filter(|align| *align != 0) {
        let found = format!("direct I/O in steps of {align} bytes");
        findings.push(match align as usize > SSD_BLOCK_BYTES {
            true => Finding::warning("direct I/O", format!("{found}, more than {SSD_BLOCK_BYTES}")),
            false => Finding::ok("direct I/O", found),
        });
    }
    findings
}

/// The block device below a path.
fn device(subject: &Subject<'_>, path: &PathLook) -> Vec<Finding> {
    const CHECK: &str = "disk";
    let (major, minor) = path.device;
    let host = subject.host;
    let here = format!("sys/dev/block/{major}:{minor}");
    let queue = [format!("{here}/queue"), format!("{here}/../queue")];
    let Some(queue) = queue.into_iter().find(|queue| host.exists(queue)) else {
        return vec![Finding::unknown(CHECK, format!("/{here} cannot be read"))];
    };
    let number = |name: &str| host.number::<u64>(&format!("{queue}/{name}"));
    let mut findings = vec![match number("rotational") {
        Some(0) => Finding::ok(CHECK, "not rotational"),
        Some(_) => Finding::warning(CHECK, "rotational: a get takes as long as it turns"),
        None => Finding::unknown(CHECK, "whether it is rotational is not shown"),
    }];
    if host.text(&format!("{queue}/write_cache")).as_deref() == Some("write back") {
        findings.push(Finding::ok("write cache", "write back: it is flushed every flush= ms"));
    }
    findings.push(match number("discard_max_bytes") {
        Some(0) => Finding::warning(
            "discard",
            "it takes no discards: what was overwritten in the log keeps its place on the SSD",
        ),
        Some(_) => Finding::ok("discard", "it takes discards"),
        None => Finding::unknown("discard", "whether it takes discards is not shown"),
    });
    findings
}
