//! The limits of keys, lines and values: at the limit, one below and one above, text and binary.

use crate::table::{Table, arith, extend, keyed, store, timed};

/// Header 48, cas 8, key and its NUL, the value's `\r\n`: the largest value under a key of 3 bytes
/// in an item of 1 MiB (memcached 1.6, item_make_header and item_alloc).
const LARGEST_VALUE_BYTES: usize = 1024 * 1024 - 48 - 8 - 4 - 2;

pub fn add(table: &mut Table) {
    keys(table);
    lines(table);
    values(table);
    binary(table);
}

fn keys(table: &mut Table) {
    for bytes in [1, 249, 250, 251, 252, 300, 1000] {
        let key = "k".repeat(bytes);
        let set = format!("set {key} 0 0 3\r\nbar\r\n");
        table.text(&format!("set with a key of {bytes}"), format!("{set}get {key}\r\n"));
        for command in ["get", "gets", "gat 0", "delete"] {
            let name = format!("{command} with a key of {bytes}");
            table.text(&name, format!("{command} {key}\r\n"));
        }
        let name = format!("incr, decr, touch with a key of {bytes}");
        table.text(&name, format!("incr {key} 1\r\ndecr {key} 1\r\ntouch {key} 1\r\n"));
        let name = format!("get with a second key of {bytes}");
        table.text(&name, format!("set foo 0 0 1\r\na\r\nget foo {key} foo\r\n"));
        let name = format!("cas with a key of {bytes}");
        table.text(&name, format!("cas {key} 0 0 3 1\r\nbar\r\n"));
        for command in ["add", "replace", "append", "prepend"] {
            let name = format!("{command} noreply with a key of {bytes}");
            table.text(&name, format!("{command} {key} 0 0 3 noreply\r\nbar\r\nget foo\r\n"));
        }
    }
}

fn lines(table: &mut Table) {
    for bytes in [1023, 1024, 1025, 2047, 2048, 2049, 4000, 9000] {
        let line = "x".repeat(bytes);
        table.text(&format!("line of {bytes}"), format!("{line}\r\n"));
        table.text(&format!("{bytes} bytes of line and no end"), &line);
        let get = format!("get {}", "k ".repeat(bytes / 2));
        table.text(&format!("get, {bytes} bytes of line and no end"), &get);
        let gat = format!("gat 0 {}", "k ".repeat(bytes / 2));
        table.text(&format!("gat, {bytes} bytes of line and no end"), &gat);
        let delete = format!("delete foo {}\r\n", " ".repeat(bytes));
        table.text(&format!("delete and {bytes} spaces"), &delete);
        let set = format!("set foo 0 0 1{}\r\na\r\nget foo\r\n", " ".repeat(bytes));
        table.text(&format!("set and {bytes} spaces"), &set);
        table.text(&format!("{bytes} spaces"), " ".repeat(bytes));
    }
}

fn set(value_bytes: usize, flags: u32) -> String {
    format!("set foo {flags} 0 {value_bytes}\r\n{}\r\n", "v".repeat(value_bytes))
}

fn values(table: &mut Table) {
    for bytes in [1000, 1400, 2000, 4080, 8192, 16384, 65536, 300_000, 600_000] {
        table.text(&format!("set and get {bytes}"), format!("{}get foo\r\n", set(bytes, 0)));
    }
    for (name, bytes, flags) in [
        ("the largest value", LARGEST_VALUE_BYTES, 0),
        ("the largest value and one", LARGEST_VALUE_BYTES + 1, 0),
        ("the largest value with flags", LARGEST_VALUE_BYTES - 4, 9),
        ("the largest value with flags and one", LARGEST_VALUE_BYTES - 3, 9),
        ("a value of 1 MiB", 1024 * 1024, 0),
        ("a value of 3 MiB", 3 * 1024 * 1024, 0),
    ] {
        table.text(name, format!("{}get foo\r\nget bar\r\n", set(bytes, flags)));
    }
    let old = "set foo 0 0 3\r\nold\r\n";
    let over = format!("{old}{}get foo\r\n", set(1024 * 1024, 0));
    table.text("too large removes the old value", over);
    for command in ["add", "replace", "append", "prepend"] {
        let bytes = 1024 * 1024;
        let line = format!("{command} foo 0 0 {bytes}\r\n{}\r\n", "v".repeat(bytes));
        table.text(&format!("{command} too large"), format!("{old}{line}get foo\r\n"));
        let line = format!("{command} foo 0 0 {bytes} noreply\r\n{}\r\n", "v".repeat(bytes));
        table.text(&format!("{command} noreply too large"), format!("{old}{line}get foo\r\n"));
    }
    let large = set(600_000, 0);
    let append = format!("append foo 0 0 500000\r\n{}\r\n", "w".repeat(500_000));
    table.text("append beyond the largest", format!("{large}{append}get bar\r\ngets foo\r\n"));
    let claimed = "set foo 0 0 1048577\r\nget foo\r\n";
    table.text_fin("too large and half sent", format!("{old}{claimed}"));
}

fn binary(table: &mut Table) {
    for bytes in [249, 250, 251, 1000, 65535] {
        let key = "k".repeat(bytes);
        for (opcode, name) in [(0x00, "get"), (0x09, "getq"), (0x0c, "getk"), (0x04, "delete")] {
            table.binary(&format!("{name} with a key of {bytes}"), &[keyed(opcode, &key)]);
        }
        let frames = [store(0x01, &key, "bar"), keyed(0x0c, &key)];
        table.binary(&format!("set with a key of {bytes}"), &frames);
        table.binary(&format!("setq with a key of {bytes}"), &[store(0x11, &key, "bar")]);
        table.binary(&format!("append with a key of {bytes}"), &[extend(0x0e, &key, "bar")]);
        table.binary(&format!("incr with a key of {bytes}"), &[arith(0x05, &key, 1, 1, 0)]);
        table.binary(&format!("touch with a key of {bytes}"), &[timed(0x1c, &key, 0)]);
        table.binary(&format!("gat with a key of {bytes}"), &[timed(0x1d, &key, 0)]);
    }
    for (name, bytes) in [
        ("a value of 16 KiB", 16 * 1024),
        ("a value of 300,000", 300_000),
        ("the largest value", LARGEST_VALUE_BYTES),
        ("the largest value and one", LARGEST_VALUE_BYTES + 1),
        ("a value of 1 MiB", 1024 * 1024),
    ] {
        let value = "v".repeat(bytes);
        let frames = [store(0x01, "foo", "old"), store(0x01, "foo", &value), keyed(0x00, "foo")];
        table.binary(name, &frames);
        let frames = [store(0x11, "foo", &value), keyed(0x00, "foo")];
        table.binary(&format!("{name}, quietly"), &frames);
    }
    let value = "v".repeat(600_000);
    let frames = [store(0x01, "foo", &value), extend(0x0e, "foo", &value), keyed(0x00, "bar")];
    table.binary("append beyond the largest", &frames);
}
