//! How much memory this process can have at most: what the host has, and what its control groups
//! allow. Reads, never changes; what cannot be read does not limit.

use std::path::{Path, PathBuf};

use super::ServeError;
use crate::base::files;
use crate::base::limits::WORKER_BYTES;

/// The most memory there can be, in bytes, and what says so.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Limit {
    bytes: u64,
    source: PathBuf,
}

/// Finds before anything is mapped whether an L1 of `bytes` bytes can ever be filled here: memory
/// is given by the page, and without this the kernel would end the process when the cache is warm.
///
/// The host's files are below `root`.
///
/// # Errors
/// It cannot.
pub(super) fn check_l1(bytes: u64, workers: usize, root: &Path) -> Result<(), ServeError> {
    let needed = needed_bytes(bytes, workers);
    match limit(root) {
        Some(Limit { bytes: limit, source }) if needed > limit => {
            let source = source.display().to_string();
            Err(ServeError::L1Host { bytes, workers, limit, source })
        }
        _ => Ok(()),
    }
}

/// What an L1 of `bytes` bytes and its workers take.
pub(super) fn needed_bytes(bytes: u64, workers: usize) -> u64 {
    bytes.saturating_add(workers as u64 * WORKER_BYTES)
}

fn limit(root: &Path) -> Option<Limit> {
    let meminfo = root.join("proc/meminfo");
    let host = files::text(&meminfo).and_then(|text| total_bytes(&text));
    let host = host.map(|bytes| Limit { bytes, source: meminfo });
    let groups = files::text(&root.join("proc/self/cgroup")).unwrap_or_default();
    let groups = groups.lines().filter_map(|line| group_file(root, line));
    let allowed = groups.flat_map(|(folder, name, top)| {
        let folders = folder.ancestors().take_while(|folder| folder.starts_with(&top));
        folders.map(|folder| folder.join(name)).collect::<Vec<_>>()
    });
    let allowed = allowed.filter_map(|source| {
        let bytes = files::text(&source)?.trim().parse().ok()?;
        Some(Limit { bytes, source })
    });
    host.into_iter().chain(allowed).min_by_key(|limit| limit.bytes)
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The folder of the control group in a line of /proc/self/cgroup, the file in it that limits
/// memory, and the topmost folder that has one.
fn group_file(root: &Path, line: &str) -> Option<(PathBuf, &'static str, PathBuf)> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (top, name) = if controllers.is_empty() {
        ("sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|controller| controller == "memory") {
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return None;
    };
    let top = root.join(top);
    Some((top.join(path.trim_start_matches('/')), name, top))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A host's files below a folder of its own.
    struct Host(PathBuf);

    impl Host {
        fn new(name: &str, files: &[(&str, &str)]) -> Host {
            let name = format!("sunder-host-{}-{name}", std::process::id());
            let root = std::env::temp_dir().join(name);
            for (file, text) in files {
                let path = root.join(file);
                fs::create_dir_all(path.parent().expect("it is in a folder")).expect("made");
                fs::write(path, text).expect("written");
            }
            Host(root)
        }

        fn limit(&self) -> Option<(u64, String)> {
            let limit = limit(&self.0)?;
            let source = limit.source.strip_prefix(&self.0).expect("below it");
            Some((limit.bytes, source.display().to_string()))
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:  8388608 kB\nMemFree: 12 kB\n");

    #[test]
    fn the_least_of_host_and_control_groups_limits() {
        let unified = ("proc/self/cgroup", "0::/system.slice/sunder.service\n");
        let top = "sys/fs/cgroup";
        let own = format!("{top}/system.slice/sunder.service/memory.max");
        let slice = format!("{top}/system.slice/memory.max");
        let old = ("proc/self/cgroup", "9:cpu:/x\n4:hugetlb,memory:/box\n");
        let boxed = format!("{top}/memory/box/memory.limit_in_bytes");
        let everything = format!("{top}/memory/memory.limit_in_bytes");
        let host = Some((8 << 30, MEMINFO.0.to_string()));
        type Row<'r> = (&'r str, &'r [(&'r str, &'r str)], Option<(u64, String)>);
        let rows: [Row<'_>; 6] = [
            ("none", &[], None),
            ("host", &[MEMINFO], host.clone()),
            ("own", &[MEMINFO, unified, (&own, "1000\n")], Some((1000, own.clone()))),
            ("max", &[MEMINFO, unified, (&own, "max\n")], host.clone()),
            (
                "slice",
                &[MEMINFO, unified, (&own, "max\n"), (&slice, "2000\n")],
                Some((2000, slice.clone())),
            ),
            (
                "old",
                &[MEMINFO, old, (&boxed, "3000\n"), (&everything, "9223372036854771712\n")],
                Some((3000, boxed.clone())),
            ),
        ];
        for (name, files, expected) in rows {
            assert_eq!(Host::new(name, files).limit(), expected, "{name}");
        }
    }

    #[test]
    fn what_cannot_fit_is_refused_and_says_why() {
        let host = Host::new("refused", &[MEMINFO]);
        assert!(check_l1(8 << 30, 0, &host.0).is_ok());
        assert!(check_l1((8 << 30) - 2 * WORKER_BYTES, 2, &host.0).is_ok());
        let error = check_l1(8 << 30, 2, &host.0).expect_err("it cannot fit").to_string();
        for part in ["8 GiB", "2 workers", "meminfo", "choose a smaller size"] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}
