//! What the admin thread has gathered: hot keys and the last ten minutes. It is all on that thread.

use std::cell::RefCell;

use rtrb::Consumer;

use super::feed::Feed;
use super::history::{History, Second};
use super::hot::{HotKey, HotKeys};
use super::view::View;
use crate::connection::sample::KeySample;
use crate::protocol::stats::TopKey;
use crate::worker::TOP_KEYS;

/// Hot keys on the page.
const SHOWN: usize = 20;

/// What was gathered.
#[derive(Debug)]
pub struct State {
    view: View,
    keys: RefCell<Vec<Consumer<KeySample>>>,
    hot: RefCell<HotKeys>,
    history: RefCell<History>,
}

impl State {
    /// Nothing was gathered yet; `keys` come from the workers.
    pub fn new(view: View, keys: Vec<Consumer<KeySample>>) -> State {
        State {
            history: RefCell::new(History::new(&view)),
            view,
            keys: RefCell::new(keys),
            hot: RefCell::default(),
        }
    }

    /// The server.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Takes what the workers have noted. Often enough that their rings do not fill up.
    pub fn gather(&self) {
        let mut hot = self.hot.borrow_mut();
        for keys in self.keys.borrow_mut().iter_mut() {
            // What comes meanwhile is for the next time.
            for _ in 0..keys.slots() {
                let Ok(KeySample { key, weight }) = keys.pop() else { break };
                hot.add(&key, weight);
            }
        }
    }

    /// A second has passed.
    pub fn tick(&self) {
        self.gather();
        self.history.borrow_mut().tick(&self.view);
        self.hot.borrow_mut().decay();
        let shown = |hot: &HotKey| TopKey { key: hot.key.clone(), rate: hot.rate.round() as u64 };
        let top = self.hot_keys(TOP_KEYS).iter().map(shown).collect();
        self.view.shared().set_top_keys(top);
    }

    /// The hottest keys.
    pub fn hot_keys(&self, most: usize) -> Vec<HotKey> {
        self.hot.borrow().top(most)
    }

    /// What `/feed` answers, with the seconds after number `seq`.
    pub fn feed(&self, seq: u64) -> Feed {
        let seconds: Vec<Second> = self.history.borrow().after(seq).cloned().collect();
        Feed::new(&self.view, &self.hot_keys(SHOWN), seconds)
    }
}
