//! Every binary opcode: hit, miss, quiet, cas, and every shape of body.

use crate::table::{
    CAS_BINARY, Frame, Table, arith, extend, frame, keyed, store, store_with, timed,
};

const GET: u8 = 0x00;
const SET: u8 = 0x01;
const ADD: u8 = 0x02;
const REPLACE: u8 = 0x03;
const DELETE: u8 = 0x04;
const INCR: u8 = 0x05;
const DECR: u8 = 0x06;
const QUIT: u8 = 0x07;
const FLUSH: u8 = 0x08;
const GETQ: u8 = 0x09;
const NOOP: u8 = 0x0a;
const VERSION: u8 = 0x0b;
const GETK: u8 = 0x0c;
const GETKQ: u8 = 0x0d;
const APPEND: u8 = 0x0e;
const PREPEND: u8 = 0x0f;
const STAT: u8 = 0x10;
const SETQ: u8 = 0x11;
const ADDQ: u8 = 0x12;
const REPLACEQ: u8 = 0x13;
const DELETEQ: u8 = 0x14;
const INCRQ: u8 = 0x15;
const DECRQ: u8 = 0x16;
const QUITQ: u8 = 0x17;
const FLUSHQ: u8 = 0x18;
const APPENDQ: u8 = 0x19;
const PREPENDQ: u8 = 0x1a;
const TOUCH: u8 = 0x1c;
const GAT: u8 = 0x1d;
const GATQ: u8 = 0x1e;
const GATK: u8 = 0x23;
const GATKQ: u8 = 0x24;

/// An expiry in the past.
const LONG_AGO: u32 = 2_592_001;

/// The exptime with which incr and decr fail on a miss.
const NEVER: u32 = u32::MAX;

pub fn add(table: &mut Table) {
    retrieval(table);
    storage(table);
    cas(table);
    extending(table);
    arithmetic(table);
    admin(table);
    sasl(table);
    shapes(table);
    streams(table);
}

fn retrieval(table: &mut Table) {
    for (opcode, name) in [(GET, "get"), (GETQ, "getq"), (GETK, "getk"), (GETKQ, "getkq")] {
        table.binary(&format!("{name} miss"), &[keyed(opcode, "foo").opaque(7)]);
        let set = store_with(SET, "foo", 0xdead_beef, 0, "bar");
        table.binary(&format!("{name} hit"), &[set.clone(), keyed(opcode, "foo").opaque(8)]);
        let expired = store_with(SET, "foo", 1, LONG_AGO, "bar");
        table.binary(&format!("{name} expired"), &[expired, keyed(opcode, "foo")]);
        table
            .binary(&format!("{name} empty value"), &[store(SET, "foo", ""), keyed(opcode, "foo")]);
        table.binary(&format!("{name} with a cas"), &[set.clone(), keyed(opcode, "foo").cas(99)]);
        let many: Vec<Frame> = (0..40)
            .map(|n| keyed(opcode, if n % 3 == 0 { "foo" } else { "bar" }).opaque(n))
            .collect();
        table.binary(&format!("{name} forty"), &[&[set][..], &many].concat());
    }
    for (opcode, name) in
        [(TOUCH, "touch"), (GAT, "gat"), (GATQ, "gatq"), (GATK, "gatk"), (GATKQ, "gatkq")]
    {
        let set = store_with(SET, "foo", 9, 0, "bar");
        let get = keyed(GETK, "foo");
        table.binary(&format!("{name} miss"), &[timed(opcode, "foo", 0).opaque(7)]);
        for (expiry, when) in [(0, "never"), (100, "soon"), (LONG_AGO, "long ago"), (NEVER, "-1")] {
            let frames = [set.clone(), timed(opcode, "foo", expiry), get.clone()];
            table.binary(&format!("{name} {when}"), &frames);
        }
        table.binary(&format!("{name} without extras"), &[set.clone(), keyed(opcode, "foo")]);
        table.binary(&format!("{name} without key"), &[timed(opcode, "", 0)]);
        let with_value = timed(opcode, "foo", 0).value("xyz");
        table.binary(&format!("{name} with a value"), &[set, with_value]);
    }
}

fn storage(table: &mut Table) {
    for (opcode, name) in [
        (SET, "set"),
        (ADD, "add"),
        (REPLACE, "replace"),
        (SETQ, "setq"),
        (ADDQ, "addq"),
        (REPLACEQ, "replaceq"),
    ] {
        let get = keyed(GET, "foo");
        let old = store_with(SET, "foo", 1, 0, "old");
        let new = store_with(opcode, "foo", 0x0102_0304, 0, "new value");
        table.binary(&format!("{name} miss"), &[new.clone(), get.clone()]);
        table.binary(&format!("{name} hit"), &[old.clone(), new, get.clone()]);
        table.binary(
            &format!("{name} empty"),
            &[old.clone(), store(opcode, "foo", ""), get.clone()],
        );
        let long_ago = store_with(opcode, "foo", 1, LONG_AGO, "x");
        table.binary(&format!("{name} long ago"), &[old.clone(), long_ago, get.clone()]);
        let negative = store_with(opcode, "foo", 1, NEVER, "x");
        table.binary(&format!("{name} expiry -1"), &[old.clone(), negative, get.clone()]);
        let any = store(opcode, b"k\0\r\n \xff", b"\0\x80\r\n\x81");
        table.binary(&format!("{name} any byte"), &[any, keyed(GETK, b"k\0\r\n \xff")]);
        table.binary(&format!("{name} without key"), &[store(opcode, "", "x")]);
        table.binary(&format!("{name} without extras"), &[extend(opcode, "foo", "x")]);
        let short = frame(opcode).extras([0; 4]).key("foo").value("x");
        table.binary(&format!("{name} extras of 4"), &[short]);
        let long = frame(opcode).extras([0; 12]).key("foo").value("x");
        table.binary(&format!("{name} extras of 12"), &[long]);
        let stale = store(opcode, "foo", "x").cas(0x7777_7777_7777);
        table.binary(&format!("{name} stale cas"), &[old, stale.clone(), get.clone()]);
        table.binary(&format!("{name} cas on a miss"), &[stale, get]);
    }
}

fn cas(table: &mut Table) {
    let setup = [store_with(SET, "foo", 1, 0, "1"), keyed(GET, "foo")];
    let get = keyed(GET, "foo");
    for (name, request) in [
        ("set", store(SET, "foo", "2")),
        ("setq", store(SETQ, "foo", "2")),
        ("replace", store(REPLACE, "foo", "2")),
        ("replaceq", store(REPLACEQ, "foo", "2")),
        ("add", store(ADD, "foo", "2")),
        ("append", extend(APPEND, "foo", "2")),
        ("appendq", extend(APPENDQ, "foo", "2")),
        ("prepend", extend(PREPEND, "foo", "2")),
        ("incr", arith(INCR, "foo", 1, 0, 0)),
        ("decrq", arith(DECRQ, "foo", 1, 0, 0)),
        ("delete", keyed(DELETE, "foo")),
        ("deleteq", keyed(DELETEQ, "foo")),
        ("touch", timed(TOUCH, "foo", 100)),
        ("gat", timed(GAT, "foo", 100)),
    ] {
        let right = request.clone().cas(CAS_BINARY);
        let frames = [right.clone(), get.clone(), right, get.clone()];
        table.binary_after(&format!("{name} with the right cas, twice"), &setup, &frames);
        let wrong = request.cas(CAS_BINARY ^ 1 ^ CAS_BINARY);
        table.binary_after(&format!("{name} with cas 1"), &setup, &[wrong, get.clone()]);
    }
}

fn extending(table: &mut Table) {
    for (opcode, name) in
        [(APPEND, "append"), (PREPEND, "prepend"), (APPENDQ, "appendq"), (PREPENDQ, "prependq")]
    {
        let old = store_with(SET, "foo", 5, 0, "old");
        let get = keyed(GET, "foo");
        table.binary(&format!("{name} miss"), &[extend(opcode, "foo", "x"), get.clone()]);
        let frames = [old.clone(), extend(opcode, "foo", "more"), get.clone()];
        table.binary(&format!("{name} hit"), &frames);
        let frames = [old.clone(), extend(opcode, "foo", ""), get.clone()];
        table.binary(&format!("{name} nothing"), &frames);
        table.binary(&format!("{name} without key"), &[extend(opcode, "", "x")]);
        let frames = [old, store(opcode, "foo", "x"), get];
        table.binary(&format!("{name} with extras"), &frames);
    }
}

fn arithmetic(table: &mut Table) {
    for (opcode, name) in [(INCR, "incr"), (DECR, "decr"), (INCRQ, "incrq"), (DECRQ, "decrq")] {
        let get = keyed(GET, "n");
        let with = |value: &str, delta: u64| {
            [store_with(SET, "n", 5, 0, value), arith(opcode, "n", delta, 0, 0), get.clone()]
        };
        for (value, delta) in [
            ("10", 1),
            ("10", 0),
            ("10", 11),
            ("99", 1),
            ("18446744073709551615", 1),
            ("18446744073709551616", 1),
            ("10", u64::MAX),
            ("abc", 1),
            ("", 1),
            ("9x", 1),
            (" 9", 1),
            ("00000000000000000001", 1),
            ("000000000000000000000001", 1),
        ] {
            table.binary(&format!("{name} '{value}' by {delta}"), &with(value, delta));
        }
        let make = |expiry: u32| [arith(opcode, "n", 3, 77, expiry), get.clone()];
        table.binary(&format!("{name} makes"), &make(0));
        table.binary(&format!("{name} makes expired"), &make(LONG_AGO));
        table.binary(&format!("{name} does not make"), &make(NEVER));
        let most = [arith(opcode, "n", 1, u64::MAX, 0), arith(opcode, "n", 1, 0, 0), get.clone()];
        table.binary(&format!("{name} makes the most"), &most);
        table.binary(&format!("{name} without extras"), &[keyed(opcode, "n")]);
        table.binary(&format!("{name} without key"), &[arith(opcode, "", 1, 1, 0)]);
        let valued = arith(opcode, "n", 1, 1, 0).value("x");
        table.binary(&format!("{name} with a value"), &[valued, get.clone()]);
        let short = frame(opcode).extras([0; 16]).key("n");
        table.binary(&format!("{name} extras of 16"), &[short]);
    }
}

fn admin(table: &mut Table) {
    for (opcode, name) in [(QUIT, "quit"), (QUITQ, "quitq"), (NOOP, "noop"), (VERSION, "version")] {
        table.binary(name, &[frame(opcode).opaque(0xffff_ffff)]);
        table.binary(&format!("{name} with a key"), &[keyed(opcode, "foo")]);
        table.binary(&format!("{name} with extras"), &[frame(opcode).extras([0; 4])]);
        table.binary(&format!("{name} with a value"), &[frame(opcode).value("foo")]);
        let after = [store(SET, "foo", "x"), frame(opcode), keyed(GET, "foo")];
        table.binary(&format!("{name} between"), &after);
    }
    for (opcode, name) in [(FLUSH, "flush"), (FLUSHQ, "flushq")] {
        let set = store(SET, "foo", "x");
        let get = keyed(GET, "foo");
        table.binary(name, &[set.clone(), frame(opcode), get.clone()]);
        for (expiry, when) in [(0, "0"), (100, "100")] {
            let frames = [set.clone(), timed(opcode, "", expiry), get.clone()];
            table.binary(&format!("{name} {when}"), &frames);
        }
        table.binary(
            &format!("{name} with a key"),
            &[set.clone(), keyed(opcode, "foo"), get.clone()],
        );
        let frames = [set, frame(opcode).extras([0; 8]), get];
        table.binary(&format!("{name} extras of 8"), &frames);
    }
    for (opcode, name) in [(DELETE, "delete"), (DELETEQ, "deleteq")] {
        let set = store(SET, "foo", "x");
        let get = keyed(GET, "foo");
        table.binary(&format!("{name} miss"), &[keyed(opcode, "foo")]);
        let frames = [set.clone(), keyed(opcode, "foo"), get.clone(), keyed(opcode, "foo")];
        table.binary(&format!("{name} hit"), &frames);
        table.binary(&format!("{name} without key"), &[frame(opcode)]);
        table.binary(&format!("{name} with extras"), &[set.clone(), timed(opcode, "foo", 0), get]);
        table.binary(&format!("{name} with a value"), &[set, extend(opcode, "foo", "x")]);
    }
    for what in ["", "settings", "items", "slabs"] {
        let request = if what.is_empty() { frame(STAT) } else { keyed(STAT, what) };
        let frames = [store(SET, "foo", "x"), request];
        table.binary_stats(&format!("stat {what}"), &frames);
    }
    table.binary("stat reset", &[keyed(STAT, "reset")]);
    table.binary("stat sizes", &[keyed(STAT, "sizes")]);
    table.binary("stat words", &[keyed(STAT, "nothing-of-this-name")]);
    table.binary("stat with extras", &[frame(STAT).extras([0; 4])]);
    table.binary_stats("stat with a value", &[frame(STAT).value("foo")]);
    table.binary("verbosity", &[frame(0x1b).extras([0; 4])]);
    table.binary("verbosity without extras", &[frame(0x1b)]);
}

fn sasl(table: &mut Table) {
    table.binary("sasl list", &[frame(0x20)]);
    table.binary("sasl auth", &[extend(0x21, "PLAIN", "\0user\0password")]);
    table.binary("sasl step", &[extend(0x22, "PLAIN", "\0user\0password")]);
    table.binary("sasl auth without key", &[frame(0x21)]);
    let frames = [extend(0x21, "PLAIN", "\0u\0p"), store(SET, "foo", "x"), keyed(GET, "foo")];
    table.binary("sasl auth then set", &frames);
}

/// The answer of every opcode to each possible shape of body, the correct ones included.
fn shapes(table: &mut Table) {
    for opcode in 0..=0x50 {
        // Rend's own: memcached does not define their answers.
        if matches!(opcode, 0x40 | 0x41) {
            continue;
        }
        for (name, request) in [
            ("nothing", frame(opcode)),
            ("a key", keyed(opcode, "foo")),
            ("a key and a value", extend(opcode, "foo", "12")),
            ("extras of 4 and a key", timed(opcode, "foo", 0)),
            ("extras of 8, a key and a value", store(opcode, "foo", "12")),
            ("extras of 20 and a key", arith(opcode, "foo", 1, 1, 0)),
        ] {
            let set = store(SET, "foo", "1");
            // Statistics have their own cases, because their values differ.
            if opcode == STAT && !name.contains("extras") {
                continue;
            }
            table.binary(&format!("opcode {opcode:#04x} with {name}"), &[set, request]);
        }
    }
    for opcode in [0x60, 0x7f, 0x80, 0xb0, 0xff] {
        table.binary(&format!("opcode {opcode:#04x}"), &[keyed(opcode, "foo"), keyed(GET, "foo")]);
    }
}

/// Streams of requests, and ends in their middle.
fn streams(table: &mut Table) {
    let mut frames = vec![];
    for n in 0..30_u32 {
        let key = format!("key{}", n % 7);
        frames.push(match n % 6 {
            0 => store_with(SETQ, key, n, 0, n.to_string()),
            1 => keyed(GETKQ, key),
            2 => arith(INCR, key, u64::from(n), 5, 0),
            3 => extend(APPENDQ, key, "7"),
            4 => keyed(DELETEQ, key),
            _ => timed(GAT, key, 0),
        });
    }
    let frames: Vec<Frame> =
        frames.into_iter().enumerate().map(|(n, frame)| frame.opaque(n as u32)).collect();
    table.binary("thirty mixed requests", &frames);
    let quiet: Vec<Frame> = (0..50).map(|_| keyed(GETQ, "foo")).collect();
    table.binary("fifty quiet misses", &quiet);
    let quiet: Vec<Frame> = (0..2000).map(|n| keyed(GETKQ, "foo").opaque(n)).collect();
    table.binary("2000 quiet hits", &[&[store(SET, "foo", "bar")][..], &quiet].concat());
    table.binary("opaque comes back", &[keyed(GET, "foo").opaque(0), frame(NOOP).opaque(u32::MAX)]);
    table.binary("vbucket is ignored", &[store(SET, "foo", "x").vbucket(0xffff)]);
    table.binary("data type 1", &[store(SET, "foo", "x").data_type(1), keyed(GET, "foo")]);
    table.binary("data type 1 of a get", &[keyed(GET, "foo").data_type(1)]);
    table.binary_fin("half a header", &[frame(NOOP), frame(NOOP).claim_body(9)]);
    table.binary_fin("half a body", &[frame(NOOP), store(SET, "foo", "bar").claim_body(100)]);
    table.binary_fin("half a key", &[frame(NOOP), keyed(GET, "foo").claim_key(9).claim_body(9)]);
    table.binary_fin("whole requests", &[store(SET, "foo", "bar"), keyed(GET, "foo")]);
}
