//! Text incr and decr.

use crate::table::Table;

/// (name, value, commands after its set).
const ROWS: &[(&str, &str, &str)] = &[
    ("incr", "10", "incr n 1\r\nget n\r\n"),
    ("incr to one digit more", "99", "incr n 1\r\nget n\r\n"),
    ("incr by 0", "10", "incr n 0\r\nget n\r\n"),
    ("incr leading zeros", "007", "incr n 1\r\nget n\r\n"),
    ("incr wraps", "18446744073709551615", "incr n 1\r\nget n\r\n"),
    ("incr by the most", "1", "incr n 18446744073709551615\r\nget n\r\n"),
    ("incr by too much", "1", "incr n 18446744073709551616\r\nget n\r\n"),
    ("incr by a negative", "10", "incr n -1\r\nget n\r\n"),
    ("incr by words", "10", "incr n abc\r\nget n\r\n"),
    ("incr by a number and words", "10", "incr n 1x\r\nget n\r\n"),
    ("incr by a signed number", "10", "incr n +1\r\nget n\r\n"),
    ("incr by a fraction", "10", "incr n 1.5\r\nget n\r\n"),
    ("incr words", "abc", "incr n 1\r\nget n\r\n"),
    ("incr nothing", "", "incr n 1\r\nget n\r\n"),
    ("incr a space", " ", "incr n 1\r\nget n\r\n"),
    ("incr a negative", "-1", "incr n 1\r\nget n\r\n"),
    ("incr a signed number", "+1", "incr n 1\r\nget n\r\n"),
    ("incr a number and a space", "9 ", "incr n 1\r\nget n\r\n"),
    ("incr a space and a number", " 9", "incr n 1\r\nget n\r\n"),
    ("incr a number and words", "9x", "incr n 1\r\nget n\r\n"),
    ("incr a fraction", "1.5", "incr n 1\r\nget n\r\n"),
    ("incr 20 digits too large", "18446744073709551616", "incr n 1\r\nget n\r\n"),
    ("incr 20 digits", "00000000000000000001", "incr n 1\r\nget n\r\n"),
    ("incr 21 digits", "000000000000000000001", "incr n 1\r\nget n\r\n"),
    ("incr 21 bytes with spaces", "1                    ", "incr n 1\r\nget n\r\n"),
    ("incr noreply", "10", "incr n 5 noreply\r\nget n\r\n"),
    ("incr words noreply", "abc", "incr n 5 noreply\r\nget n\r\n"),
    ("incr three words", "10", "incr n 5 x\r\nget n\r\n"),
    ("incr four words", "10", "incr n 5 noreply x\r\nget n\r\n"),
    ("incr changes the cas", "10", "gets n\r\nincr n 1\r\ngets n\r\ngets n\r\n"),
    ("decr", "10", "decr n 1\r\nget n\r\n"),
    (
        "decr keeps the length",
        "1000",
        "decr n 1\r\nget n\r\ndecr n 990\r\nget n\r\nincr n 1\r\nget n\r\n",
    ),
    ("decr stops at 0", "10", "decr n 11\r\nget n\r\n"),
    ("decr to 0", "10", "decr n 10\r\nget n\r\n"),
    ("decr by 0", "010", "decr n 0\r\nget n\r\n"),
    ("decr words", "abc", "decr n 1\r\nget n\r\n"),
    ("decr by words", "10", "decr n abc\r\nget n\r\n"),
    ("decr noreply", "10", "decr n 5 noreply\r\nget n\r\n"),
    ("decr the most", "18446744073709551615", "decr n 18446744073709551615\r\nget n\r\n"),
    ("incr after append", "1", "append n 0 0 2\r\n00\r\nincr n 1\r\nget n\r\n"),
    ("append after decr", "10", "decr n 1\r\nappend n 0 0 1\r\n5\r\nget n\r\nincr n 1\r\n"),
    ("incr keeps the expiry", "1", "touch n -1\r\nincr n 1\r\nget n\r\n"),
];

pub fn add(table: &mut Table) {
    for (name, value, commands) in ROWS {
        table.text(name, format!("set n 5 0 {}\r\n{value}\r\n{commands}", value.len()));
    }
    table.texts(&[
        ("incr miss", b"incr n 1\r\n"),
        ("decr miss", b"decr n 1\r\n"),
        ("incr miss noreply", b"incr n 1 noreply\r\n"),
        ("incr without words", b"incr\r\nincr n\r\n"),
        ("decr without words", b"decr\r\ndecr n\r\n"),
        ("incr miss by words", b"incr n abc\r\n"),
    ]);
    let many = "incr n 7\r\n".repeat(60);
    table.text("incr sixty times", format!("set n 0 0 1\r\n0\r\n{many}"));
}
