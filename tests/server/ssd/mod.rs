//! A server with an SSD tier, as its clients and its operator see it: the real binary, over a
//! socket, on a real file with direct I/O.

pub mod client;
mod commands;
mod readonly;
mod refusals;
mod storm;
pub mod unwritable;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file for a log, below `target`; removed when dropped.
struct LogFile(PathBuf);

impl LogFile {
    fn new() -> LogFile {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ssd-{}-{number}", std::process::id());
        LogFile(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    /// The words `ssd,path=..` followed by `more`.
    fn tier(&self, more: &str) -> String {
        format!("ssd,path={}{more}", self.0.display())
    }

    fn text(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        // If the test never created it, there is nothing to remove.
        let _ = std::fs::remove_file(&self.0);
    }
}
