//! Inputs that broke similar servers, on the wire; those that need more than bytes are in
//! tests/server/hostile.rs. Each row is named after the bug.

use crate::table::{Frame, Table, arith, extend, frame, keyed, store, timed};

pub fn add(table: &mut Table) {
    text(table);
    lengths(table);
    bodies(table);
    magics(table);
}

fn text(table: &mut Table) {
    for size in ["-1", "4294967295", "2147483647", "-2147483648", "18446744073709551615"] {
        for command in ["set", "add", "append"] {
            let line = format!("{command} foo 0 0 {size}\r\nget foo\r\n");
            table.text(&format!("CVE-2009-2415 {command} size {size}"), line);
        }
    }
    table.text("CVE-2010-1152 line without end", "a".repeat(100_000));
    table.text("CVE-2019-11596 lru mode", "lru mode\r\nget foo\r\n");
    table.text("CVE-2019-11596 lru temp_ttl", "lru temp_ttl\r\nget foo\r\n");
    for spaces in [200, 201, 400, 772] {
        let line = format!("set key2 0 0 1\r\nx\r\nget{}key1 key2\r\n", " ".repeat(spaces));
        table.text(&format!("CVE-2023-46852 {spaces} spaces"), line);
    }
    for line in ["get foo\n", "set foo 0 0 1\nx\r\nget foo\n", "\n", "quit\n", "version\n"] {
        let name = format!("CVE-2023-46853 {}", line.escape_debug());
        table.text(&name, format!("{line}get foo\r\n"));
    }
    for spaces in [1, 100, 1000] {
        let line = format!("{}\r\nget foo\r\n", " ".repeat(spaces));
        table.text(&format!("e8364b5 line of {spaces} spaces only"), line);
    }
    let keys = " key".repeat(700);
    let line = format!("get{keys} k\x01y{keys}\r\nget foo\r\n");
    table.text("mcrouter 156 control byte after 2 KB of keys", line);
    table.text("twemproxy 357 empty key", "get \r\nget foo\r\n");
    let key = "k".repeat(303);
    table.text("twemproxy 115 key of 303", format!("get {key}\r\nget foo\r\n"));
    for key_bytes in [243, 244, 245, 246, 250] {
        let key = "k".repeat(key_bytes);
        let line = format!("set {key} 0 0 3\r\nbar\r\nget {key}\r\ndelete {key}\r\n");
        table.text(&format!("rend key of {key_bytes} and a suffix"), line);
    }
    let set = "set a 1 0 1\r\nx\r\nset b 1 0 1\r\ny\r\n";
    table.text("rend one END after many keys", format!("{set}get a b c\r\n"));
    table.text("rend add keeps what it met", "set a 1 0 1\r\nx\r\nadd a 2 0 1\r\ny\r\nget a\r\n");
    table.text("rend bad length swallows nothing", "set a 0 0 x\r\nget a\r\nget a\r\n");
    // On longer lines memcached sometimes loses a key; more cases are in tests/server/hostile.rs.
    let same = " k".repeat(7000);
    let line = format!("set k 0 0 1\r\nx\r\nget{same}\r\n");
    table.text("CVE-2018-1000127 7,000 references to one item", line);
}

/// keylen + extlen > bodylen, in every way, for every opcode that accepts a key.
fn lengths(table: &mut Table) {
    // memcached answers when as many bytes have arrived as key and extras claim.
    let padding: Vec<Frame> = (0..30).map(|_| frame(0x0a)).collect();
    let get = keyed(0x00, "foo");
    for opcode in (0x00..=0x1e).chain([0x20, 0x21, 0x22, 0x23, 0x24]) {
        for (name, request) in [
            ("CVE-2016-8704 key of 250, body 0", frame(opcode).claim_key(250).claim_body(0)),
            ("CVE-2016-8706 key of 32, body 1", frame(opcode).value("x").claim_key(32)),
            ("CVE-2020-10931 extras of 255, body 0", frame(opcode).claim_extras(255)),
            ("extras and key beyond the body", store(opcode, "foo", "").claim_key(4)),
            ("CVE-2017-9951 key of 65535, body 16", frame(opcode).value([0; 16]).claim_key(65535)),
        ] {
            let frames = [&[request, get.clone()][..], &padding].concat();
            table.binary(&format!("{name}, opcode {opcode:#04x}"), &frames);
        }
        let extras = frame(opcode).extras([0; 250]).key("foo").value("bar");
        let name = format!("CVE-2020-10931 extras of 250, opcode {opcode:#04x}");
        table.binary(&name, &[extras, get.clone()]);
    }
}

/// Bodies claimed beyond any limit.
fn bodies(table: &mut Table) {
    for opcode in (0x00..=0x1e).chain([0x20, 0x21, 0x22, 0x23, 0x24, 0x40, 0x41, 0x7f]) {
        for body in [0xffff_ffff, 0x8000_0000, 0x4000_0001_u32] {
            let request = keyed(opcode, "foo").claim_body(body);
            let name = format!("229cf41 body of {body:#x}, opcode {opcode:#04x}");
            table.binary(&name, &[request]);
        }
    }
    // CVE-2011-4971: 80 12 0001 08 00 0000 ffffffe8.
    let request = store(0x12, "k", "").claim_body(0xffff_ffe8);
    table.binary("CVE-2011-4971 addq", &[request, keyed(0x00, "k")]);
    for (name, request) in [
        ("set", store(0x01, "foo", "x").claim_body(0x1000_0000)),
        ("append", extend(0x0e, "foo", "x").claim_body(0x1000_0000)),
        ("get", keyed(0x00, "foo").claim_body(0x1000_0000)),
        ("incr", arith(0x05, "foo", 1, 1, 0).claim_body(0x1000_0000)),
        ("touch", timed(0x1c, "foo", 1).claim_body(0x1000_0000)),
    ] {
        table.binary_fin(&format!("{name} with a body of 256 MiB, not sent"), &[request]);
    }
    table.binary("CVE-2013-7290 delete of a key with no end", &[keyed(0x04, "k".repeat(250))]);
}

fn magics(table: &mut Table) {
    let get = keyed(0x00, "foo");
    for magic in [0x00, 0x0d, 0x41, 0x67, 0x7f, 0x81, 0xff] {
        let frames: [Frame; 3] = [frame(0x0a), frame(0x0a).magic(magic), get.clone()];
        table.binary(&format!("magic {magic:#04x} later"), &frames);
    }
    table.binary_raw("text after binary", [&frame(0x0a).bytes()[..], b"get foo\r\n"].concat());
    table.text("binary after text", [b"get foo\r\n", &frame(0x0a).bytes()[..]].concat());
}
