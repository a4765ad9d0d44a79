//! A server with an SSD tier, as its clients and its operator know it: the real binary, over a
//! socket, on a real file with direct I/O.

mod client;
mod commands;
mod readonly;
mod refusals;
mod storm;
mod unwritable;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file for a log, below `target`; gone when dropped.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ssd-{}-{number}", std::process::id());
        Place(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    /// The words `ssd,path=..` with `more` behind.
    fn tier(&self, more: &str) -> String {
        format!("ssd,path={}{more}", self.0.display())
    }

    fn text(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Where a test never made it, there is nothing to remove.
        let _ = std::fs::remove_file(&self.0);
    }
}
