//! A host whose clock is set back between two runs.

use super::*;
use crate::base::limits::SSD_CLOCK_AHEAD_MAX_S;

const DAY_S: u32 = 86_400;

/// The log of a server that ended, started again with the host's clock at `unix_s`.
fn restarted(bench: &mut Bench, is_stopped: bool, unix_s: u32) -> Bench {
    if is_stopped {
        bench.stop();
    } else {
        bench.settle();
    }
    let options = Options { stats: Arc::default(), ..options() };
    let now = Now { unix_s, ..bench.now };
    Bench::try_with(bench.medium.image(Cut::Lost), options, 1, now).expect("opens")
}

fn in_seconds(bench: &Bench, seconds: u32) -> Expiry {
    Expiry::from_unix_s(bench.now.unix_s + seconds)
}

fn expiry_of(bench: &mut Bench, k: &str) -> Option<Expiry> {
    match bench.run(k.as_bytes(), Action::GetWithExpiry, b"") {
        Outcome::Hit(hit) => Some(hit.expiry),
        Outcome::Miss => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_item_lives_no_longer_because_the_clock_was_set_back() {
    for is_stopped in [true, false] {
        let mut bench = Bench::new();
        // A day ahead.
        bench.now.unix_s += DAY_S;
        let minute = in_seconds(&bench, 60);
        bench.set("minute", b"v", minute);
        bench.set("second", b"v", in_seconds(&bench, 1));
        bench.set("forever", b"v", Expiry::NEVER);
        bench.turn();
        bench.now.unix_s += 2;
        bench.set("later", b"v", in_seconds(&bench, 60));
        // Put right.
        let mut bench = restarted(&mut bench, is_stopped, NOW.unix_s);
        assert_eq!(bench.get("second"), None, "it had expired");
        assert_eq!(bench.get("minute"), Some(b"v".to_vec()));
        // What is said of it is by the clock of today.
        let left_s = expiry_of(&mut bench, "minute").expect("there").unix_s() - NOW.unix_s;
        assert_eq!(left_s, 58);
        // New ones live as long as they should, once more through a restart.
        let minute = in_seconds(&bench, 60);
        bench.set("new", b"v", minute);
        assert_eq!(expiry_of(&mut bench, "new"), Some(minute));
        bench.now.unix_s += 59;
        bench.turn();
        assert_eq!(bench.get("minute"), None, "its time is over");
        assert_eq!(bench.get("new"), Some(b"v".to_vec()));
        let host_s = bench.now.unix_s;
        let mut bench = restarted(&mut bench, is_stopped, host_s);
        assert_eq!(expiry_of(&mut bench, "new"), Some(minute));
        assert_eq!(bench.get("minute"), None);
        bench.now.unix_s += 1;
        assert_eq!(bench.get("new"), None);
        for key in ["touched", "counted"] {
            bench.set(key, b"1", Expiry::NEVER);
        }
        let soon = in_seconds(&bench, 5);
        bench.run(b"touched", Action::Touch { expiry: soon }, b"");
        bench.run(b"fetched", Action::GetAndTouch { expiry: soon }, b"");
        assert_eq!(expiry_of(&mut bench, "touched"), Some(soon));
        bench.now.unix_s += 5;
        assert_eq!(bench.get("touched"), None);
        assert_eq!(bench.get("forever"), Some(b"v".to_vec()));
    }
}

#[test]
fn a_flush_all_that_is_to_come_comes_no_later() {
    let mut bench = Bench::new();
    bench.now.unix_s += DAY_S;
    bench.set("key", b"v", Expiry::NEVER);
    let at = in_seconds(&bench, 10);
    let flushed = bench.run(b"", Action::FlushAll { at }, b"");
    assert!(matches!(flushed, Outcome::Flushed), "{flushed:?}");
    let mut bench = restarted(&mut bench, true, NOW.unix_s);
    assert_eq!(bench.get("key"), Some(b"v".to_vec()));
    bench.now.unix_s += 10;
    bench.turn();
    assert_eq!(bench.get("key"), None);
}

#[test]
fn a_clock_that_was_beyond_all_measure_costs_what_was_stored_and_no_more() {
    let mut bench = Bench::new();
    bench.now.unix_s = NOW.unix_s + SSD_CLOCK_AHEAD_MAX_S + 1_000;
    bench.set("old", b"v", in_seconds(&bench, 60));
    bench.set("forever", b"v", Expiry::NEVER);
    let mut bench = restarted(&mut bench, true, NOW.unix_s);
    assert!(bench.ssd.was_far_ahead());
    assert_eq!((bench.get("old"), bench.get("forever")), (None, None));
    let minute = in_seconds(&bench, 60);
    bench.set("new", b"v", minute);
    let mut bench = restarted(&mut bench, true, NOW.unix_s + 1);
    assert!(!bench.ssd.was_far_ahead());
    assert_eq!(expiry_of(&mut bench, "new"), Some(minute));
    assert_eq!(bench.get("old"), None);
}

#[test]
fn a_log_of_a_server_without_such_a_clock_is_read_as_it_was() {
    let mut bench = Bench::new();
    bench.set("key", b"v", in_seconds(&bench, 60));
    bench.stop();
    let mut image = bench.medium.image(Cut::Lost);
    for block in image[..2 * SSD_BLOCK_BYTES].chunks_mut(SSD_BLOCK_BYTES) {
        let format::SuperblockRead::Found(mut superblock) = format::Superblock::decode(block)
        else {
            panic!("a superblock")
        };
        assert_eq!(superblock.clock_s, bench.now.unix_s);
        superblock.clock_s = 0;
        superblock.encode(block);
    }
    let now = Now { unix_s: NOW.unix_s - DAY_S, ..NOW };
    let mut bench = Bench::try_with(image, options(), 1, now).expect("opens");
    assert_eq!(bench.get("key"), Some(b"v".to_vec()));
}
