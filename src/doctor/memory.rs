//! Memory: whether L1 and the workers fit, and which pages they get.

use super::host::Step;
use super::{Finding, Subject};
use crate::config::{L1, readable_size};
use crate::serve::trial;

const THP: &str = "sys/kernel/mm/transparent_hugepage";

pub(super) fn look(subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings = vec![memory(subject)];
    findings.extend(overcommit(subject));
    findings.extend(swap(subject));
    findings.extend(transparent(subject));
    findings
}

fn memory(subject: &Subject<'_>) -> Finding {
    const CHECK: &str = "memory";
    let workers = subject.workers();
    if let Err(error) = trial::memory(subject.config, workers, subject.host.root()) {
        return Finding::refused(CHECK, &error);
    }
    if let Err(error) = subject.host.system.mapping(subject.config) {
        return Finding::refused(CHECK, &error);
    }
    let needed = trial::memory_bytes(subject.config, workers);
    let said = format!("L1 and workers take {}", readable_size(needed));
    match subject.host.memory("MemAvailable") {
        None => Finding::unknown(CHECK, format!("{said}; /proc/meminfo cannot be read")),
        Some(free) if free < needed => Finding::warning(
            CHECK,
            format!("{said}, and {} are available now", readable_size(free)),
        )
        .mend("choose a smaller size, or stop what else runs here: ps -e -o rss,args --sort -rss"),
        Some(free) => Finding::ok(CHECK, format!("{said} of {} available", readable_size(free))),
    }
}

fn overcommit(subject: &Subject<'_>) -> Option<Finding> {
    const CHECK: &str = "overcommit";
    if subject.host.text("proc/sys/vm/overcommit_memory")? != "2" {
        return None;
    }
    let limit = subject.host.memory("CommitLimit")?;
    let left = limit.saturating_sub(subject.host.memory("Committed_AS")?);
    let needed = trial::memory_bytes(subject.config, subject.workers());
    if left >= needed {
        return None;
    }
    let found = format!(
        "vm.overcommit_memory=2 leaves {} to be promised, and {} are asked for",
        readable_size(left),
        readable_size(needed)
    );
    Some(Finding::warning(CHECK, found).mend("sysctl -w vm.overcommit_memory=0"))
}

fn swap(subject: &Subject<'_>) -> Option<Finding> {
    const CHECK: &str = "swap";
    let host = subject.host;
    let Some(total) = host.memory("SwapTotal") else {
        return Some(Finding::unknown(CHECK, "/proc/meminfo cannot be read"));
    };
    if total == 0 {
        return Some(Finding::ok(CHECK, "off"));
    }
    let needed = trial::memory_bytes(subject.config, subject.workers());
    let found = match host.memory("MemFree") {
        Some(free) if free < needed => "on, and more memory is asked for than is free: ",
        _ => "on: ",
    };
    let found = format!("{found}an item that was swapped out takes as long as the disk");
    Some(Finding::warning(CHECK, found).mend("swapoff -a, and take it out of /etc/fstab"))
}

/// Huge pages that the kernel gives by itself, where an L1 asks for them.
fn transparent(subject: &Subject<'_>) -> Option<Finding> {
    const CHECK: &str = "huge pages";
    let L1::Memory { file, .. } = &subject.config.l1 else { return None };
    let name = match file {
        None => "enabled",
        Some(file) if file.is_huge => {
            let kind = subject.host.system.path(&file.path)?.file_system;
            // Of hugetlbfs they are reserved, and a disk has none.
            if kind != "tmpfs" {
                return None;
            }
            "shmem_enabled"
        }
        Some(_) => return None,
    };
    let path = format!("{THP}/{name}");
    let Some(text) = subject.host.text(&path) else {
        return Some(Finding::unknown(CHECK, format!("/{path} cannot be read")));
    };
    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    let chosen = chosen.map_or("", |(chosen, _)| chosen);
    let asked = if name == "enabled" { "madvise" } else { "advise" };
    match chosen {
        "always" | "madvise" | "advise" | "within_size" | "force" => {
            Some(Finding::ok(CHECK, format!("L1 gets transparent ones ({name} {chosen})")))
        }
        "never" | "deny" => Some(
            Finding::warning(
                CHECK,
                format!("L1 gets pages of 4 KiB ({name} {chosen}): gets take longer"),
            )
            .steps(vec![Step::Write(path, asked.into())]),
        ),
        _ => Some(Finding::unknown(CHECK, format!("/{path} is not understood"))),
    }
}
