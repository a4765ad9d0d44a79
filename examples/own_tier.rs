//! A server with a tier of one's own, which keeps values as `Bytes`: `own_tier [PORT]`.
//!
//! Each worker has one such tier for the keys that it owns, on its own thread, so there are no
//! locks. A hit shares the value with the tier: nothing is copied until the reply is written.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use sunder::config::Config;
use sunder::serve::{ServeError, Server};
use sunder::{
    Action, Arithmetic, Body, Chain, Clock, Expiry, Hit, ItemState, Key, L1Only, Now, Outcome,
    Store, StoreMode, Tier,
};

/// Items in a map of the standard library. It evicts nothing.
#[derive(Debug, Default)]
pub struct MapTier {
    items: RefCell<HashMap<Bytes, Item>>,
    cas: Cell<u64>,
}

#[derive(Clone, Debug)]
struct Item {
    flags: u32,
    expiry: Expiry,
    cas: u64,
    value: Bytes,
}

impl MapTier {
    fn find(&self, key: &[u8], now: Now) -> Option<Item> {
        self.items.borrow().get(key).filter(|item| !item.expiry.is_past(now)).cloned()
    }

    fn put(&self, key: &Key, item: Item) -> u64 {
        self.cas.set(self.cas.get() + 1);
        let cas = self.cas.get();
        self.items.borrow_mut().insert(Bytes::from(key), Item { cas, ..item });
        cas
    }

    fn look_up(&self, key: &[u8], now: Now) -> Outcome<Bytes> {
        let Some(Item { flags, expiry, cas, value }) = self.find(key, now) else {
            return Outcome::Miss;
        };
        Outcome::Hit(Hit { flags, expiry, cas, state: ItemState::default(), value })
    }
}

impl Tier for MapTier {
    type Value = Bytes;

    fn try_now(&self, key: &[u8], action: Action, _: Body<'_>, now: Now) -> Option<Outcome<Bytes>> {
        match action {
            Action::Get | Action::GetWithExpiry => Some(self.look_up(key, now)),
            _ => None,
        }
    }

    async fn get(&self, key: &Key, now: Now) -> Outcome<Bytes> {
        self.look_up(key.as_bytes(), now)
    }

    async fn get_and_touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Bytes> {
        self.touch(key, expiry, now).await;
        self.look_up(key.as_bytes(), now)
    }

    async fn store(&self, key: &Key, store: Store, value: &Chain, now: Now) -> Outcome<Bytes> {
        let old = self.find(key.as_bytes(), now);
        match (store.mode, &old) {
            (_, None) if store.cas != 0 => return Outcome::Miss,
            (_, Some(old)) if store.cas != 0 && store.cas != old.cas => return Outcome::Exists,
            (StoreMode::Add, Some(_)) => return Outcome::NotStored,
            (StoreMode::Replace | StoreMode::Append | StoreMode::Prepend, None) => {
                return Outcome::NotStored;
            }
            _ => {}
        }
        let (value, old_value) = (Bytes::from(value), old.as_ref().map(|old| old.value.clone()));
        let join = |first: &Bytes, second: &Bytes| {
            let mut joined = BytesMut::with_capacity(first.len() + second.len());
            joined.extend_from_slice(first);
            joined.extend_from_slice(second);
            joined.freeze()
        };
        let Store { flags, expiry, .. } = store;
        let item = match (store.mode, old, old_value) {
            (StoreMode::Append, Some(old), Some(was)) => Item { value: join(&was, &value), ..old },
            (StoreMode::Prepend, Some(old), Some(was)) => Item { value: join(&value, &was), ..old },
            _ => Item { flags, expiry, cas: 0, value },
        };
        Outcome::Stored { cas: self.put(key, item) }
    }

    async fn delete(&self, key: &Key, cas: u64, now: Now) -> Outcome<Bytes> {
        match self.find(key.as_bytes(), now) {
            None => Outcome::Miss,
            Some(item) if cas != 0 && cas != item.cas => Outcome::Exists,
            Some(_) => {
                self.items.borrow_mut().remove(key.as_bytes());
                Outcome::Deleted
            }
        }
    }

    async fn touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Bytes> {
        let Some(item) = self.find(key.as_bytes(), now) else { return Outcome::Miss };
        Outcome::Touched { cas: self.put(key, Item { expiry, ..item }) }
    }

    async fn arithmetic(&self, key: &Key, arithmetic: Arithmetic, now: Now) -> Outcome<Bytes> {
        let Arithmetic { decrement, delta, initial, cas } = arithmetic;
        let Some(item) = self.find(key.as_bytes(), now) else {
            let Some((value, expiry)) = initial else { return Outcome::Miss };
            let number = Bytes::from(value.to_string());
            let cas = self.put(key, Item { flags: 0, expiry, cas: 0, value: number });
            return Outcome::Number { value, cas };
        };
        if cas != 0 && cas != item.cas {
            return Outcome::Exists;
        }
        let number = std::str::from_utf8(&item.value).ok().and_then(|text| text.parse().ok());
        let Some(number) = number else { return Outcome::NonNumeric };
        let number: u64 = number;
        let value =
            if decrement { number.saturating_sub(delta) } else { number.wrapping_add(delta) };
        let cas = self.put(key, Item { value: Bytes::from(value.to_string()), ..item });
        Outcome::Number { value, cas }
    }

    /// At once, whenever it was asked for.
    async fn flush_all(&self, _: Expiry, _: Now) -> Outcome<Bytes> {
        self.items.borrow_mut().clear();
        Outcome::Flushed
    }

    async fn invalidate(&self, key: &Key, _: Now) {
        self.items.borrow_mut().remove(key.as_bytes());
    }

    fn turn(&self, _: Now) -> usize {
        0
    }

    fn flush(&self, _: Now) {}

    fn wake_at_us(&self) -> u64 {
        u64::MAX
    }

    fn finish(&self, _: &Clock) -> bool {
        true
    }
}

fn main() -> Result<(), ServeError> {
    let port = std::env::args().nth(1).and_then(|word| word.parse().ok());
    let config = Config { port: port.unwrap_or(11211), ..Config::default() };
    let server = Server::new(&config)?.until_signals()?;
    server.run(|_worker| Ok(L1Only::new(MapTier::default())))
}
