//! A link allocates nothing for a request once it is warm.

use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Waker};

use crate::alone;
use crate::counting::CALLS;
use sunder::base::buffer::{self, Chain, Key};
use sunder::base::clock::{Clock, Expiry, Now};
use sunder::base::stats::{Counter, WorkerStats};
use sunder::tier::link::{Address, LinkConfig};
use sunder::tier::memcached::plain::Plain;
use sunder::tier::{Arithmetic, Outcome, Store, StoreMode, Tier};

fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

/// A server driven by the test, and a tier that uses it.
fn pair(stats: &Arc<WorkerStats>) -> (UnixStream, Plain, Now) {
    let path = std::env::temp_dir().join(format!("sunder-allocations-{}", std::process::id()));
    let listener = UnixListener::bind(&path).expect("a socket");
    let greeter = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the tier connects");
        let mut hello = [0; 13];
        stream.read_exact(&mut hello).expect("a greeting");
        stream.write_all(b"VERSION 1.6.18\r\nMN\r\n").expect("the tier reads");
        stream
    });
    let now = Clock::start().read();
    let config = LinkConfig::new(Address::Unix(path.clone()), Arc::clone(stats));
    let tier = Plain::open(config, now).expect("it is a memcached");
    std::fs::remove_file(&path).expect("it was there");
    (greeter.join().expect("greeted"), tier, now)
}

#[test]
fn requests_do_not_allocate() {
    let _alone = alone();
    buffer::prepare_thread();
    let stats = Arc::new(WorkerStats::default());
    let (mut server, tier, now) = pair(&stats);
    let key = Key::new(b"some:key").expect("short");
    let odd = Key::new(b"not a text").expect("short");
    let value = Chain::from_slice(&[7; 10_000]);
    let store = Store { mode: StoreMode::Set, flags: 3, expiry: Expiry::NEVER, cas: 5 };
    let count = Arithmetic { decrement: false, delta: 1, initial: None, cas: 0 };
    let mut answers = b"VA 10000 f0 c1\r\n".to_vec();
    answers.extend_from_slice(&[b'x'; 10_000]);
    answers.extend_from_slice(b"\r\nEN\r\nHD c6\r\nVA 2 c9\r\n17\r\nHD\r\n");
    let mut asked = vec![0; 64 * 1024];
    let mut before = 0;
    for round in 0..1000 {
        if round == 10 {
            before = CALLS.get();
        }
        let mut get = pin!(tier.get(&key, now));
        let mut miss = pin!(tier.get_and_touch(&odd, Expiry::PAST, now));
        let mut set = pin!(tier.store(&key, store, &value, now));
        let mut incr = pin!(tier.arithmetic(&key, count, now));
        let mut invalidate = pin!(tier.invalidate(&key, now));
        assert!(poll(get.as_mut()).is_none() && poll(miss.as_mut()).is_none());
        assert!(poll(set.as_mut()).is_none() && poll(incr.as_mut()).is_none());
        assert!(poll(invalidate.as_mut()).is_none());
        tier.flush(now);
        assert!(server.read(&mut asked).expect("asked") > 10_000);
        server.write_all(&answers).expect("the tier reads");
        assert_eq!(tier.turn(now), 5);
        assert!(matches!(poll(get), Some(Outcome::Hit(hit)) if hit.value.len() == 10_000));
        assert!(matches!(poll(miss), Some(Outcome::Miss)));
        assert!(matches!(poll(set), Some(Outcome::Stored { cas: 6 })));
        assert!(matches!(poll(incr), Some(Outcome::Number { value: 17, cas: 9 })));
        assert!(poll(invalidate).is_some());
    }
    assert_eq!(CALLS.get(), before);
    assert_eq!(stats.get(Counter::LinkFailures), 0);
    drop(vec![0_u8; 100]);
    assert!(CALLS.get() > before, "the counter counts");
}
