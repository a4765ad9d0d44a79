//! What is worth a write to the disk.
//!
//! Either everything, or what is stored for the second time within a while: then the first time
//! leaves a fingerprint in a table of fixed size, where later ones take its place. This must never
//! decide about anything but new items: what a refused item replaces is gone all the same.

use crate::base::limits::SSD_TOUCHES;

/// The policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admit {
    /// Everything.
    #[default]
    All,
    /// At the second time.
    SecondTouch,
}

/// The policy at work.
#[derive(Debug)]
pub struct Admission {
    /// Fingerprints by place; empty where everything is admitted.
    seen: Box<[u32]>,
    /// Largest item, counted as memcached counts it, in bytes.
    item_bytes_max: usize,
}

impl Admission {
    /// A policy that has seen nothing.
    pub fn new(admit: Admit, item_bytes_max: usize) -> Admission {
        let places = if admit == Admit::All { 0 } else { SSD_TOUCHES };
        Admission { seen: vec![0; places].into(), item_bytes_max }
    }

    /// Whether an item of this size, as memcached counts it, is never written.
    pub fn is_too_large(&self, item_bytes: usize) -> bool {
        item_bytes > self.item_bytes_max
    }

    /// Whether an item whose key has this hash is written.
    pub fn admits(&mut self, hash: u64) -> bool {
        if self.seen.is_empty() {
            return true;
        }
        let place = &mut self.seen[hash as usize % SSD_TOUCHES];
        let fingerprint = (hash >> 32) as u32 | 1;
        std::mem::replace(place, fingerprint) == fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_touch_is_admitted() {
        let mut all = Admission::new(Admit::All, 100);
        assert!(all.admits(5) && !all.is_too_large(100) && all.is_too_large(101));
        let mut second = Admission::new(Admit::SecondTouch, 100);
        assert!(!second.admits(5 << 33));
        assert!(!second.admits(6 << 33), "takes its place");
        assert!(!second.admits(5 << 33));
        assert!(second.admits(5 << 33));
        assert!(!second.admits(7));
    }
}
