//! The keys that must be deleted at a server before any other request.

use std::collections::{BTreeSet, VecDeque};

use crate::base::buffer::Key;
use crate::base::limits::LINK_INVALIDATIONS_MAX;

/// The invalidations for a server that is unreachable. Bounded: too many keys become a flush of
/// everything, because a cold cache is correct and a stale one is not.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    keys: BTreeSet<Key>,
    is_flush: bool,
    /// Sent and not answered, in order. None: a flush of everything.
    sent: VecDeque<Option<Key>>,
}

impl Remembered {
    /// A flush of everything.
    pub(super) fn everything() -> Remembered {
        Remembered { is_flush: true, ..Remembered::default() }
    }

    pub(super) fn add(&mut self, key: Key) {
        if self.is_flush {
            return;
        }
        self.keys.insert(key);
        if self.keys.len() > LINK_INVALIDATIONS_MAX {
            self.add_flush();
        }
    }

    fn add_flush(&mut self) {
        self.is_flush = true;
        self.keys.clear();
    }

    /// The server's items are gone: forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Remembered::default();
    }

    /// Whether there is nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        !self.is_flush && self.keys.is_empty()
    }

    /// The next one to send; None: a flush of everything.
    pub(super) fn take(&mut self) -> Option<Option<Key>> {
        let next =
            if std::mem::take(&mut self.is_flush) { None } else { Some(self.keys.pop_first()?) };
        self.sent.push_back(next.clone());
        Some(next)
    }

    /// The oldest sent one was answered.
    pub(super) fn answered(&mut self) {
        let sent = self.sent.pop_front();
        debug_assert!(sent.is_some(), "one answer for each that was sent");
    }

    /// Unanswered ones must be sent again.
    pub(super) fn fail(&mut self) {
        while let Some(sent) = self.sent.pop_front() {
            match sent {
                Some(key) => self.add(key),
                None => self.add_flush(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: usize) -> Key {
        Key::new(&i.to_be_bytes()).expect("short")
    }

    #[test]
    fn keys_are_sent_once_and_again_if_not_answered() {
        let mut remembered = Remembered::default();
        for i in [1, 2, 1] {
            remembered.add(key(i));
        }
        assert_eq!(remembered.take(), Some(Some(key(1))));
        assert_eq!(remembered.take(), Some(Some(key(2))));
        assert_eq!(remembered.take(), None);
        remembered.answered();
        remembered.fail();
        assert_eq!(remembered.take(), Some(Some(key(2))));
        remembered.answered();
        remembered.fail();
        assert!(remembered.is_empty());
    }

    #[test]
    fn too_many_keys_become_a_flush_that_is_remembered() {
        let mut remembered = Remembered::default();
        (0..LINK_INVALIDATIONS_MAX).for_each(|i| remembered.add(key(i)));
        assert!(!remembered.is_flush);
        remembered.add(key(LINK_INVALIDATIONS_MAX));
        remembered.add(key(1));
        assert_eq!(remembered.take(), Some(None));
        assert!(remembered.is_empty());
        remembered.add(key(7));
        remembered.fail();
        assert_eq!(remembered.take(), Some(None));
        assert_eq!(remembered.take(), None);
        remembered.add(key(8));
        remembered.clear();
        remembered.fail();
        assert!(remembered.is_empty());
    }
}
