//! Text commands about the server, and lines that are not commands.

use crate::table::Table;

const ROWS: &[(&str, &[u8])] = &[
    ("version", b"version\r\n"),
    ("version with words", b"version foo bar\r\n"),
    ("verbosity", b"verbosity\r\n"),
    ("verbosity 1", b"verbosity 1\r\nverbosity 0\r\n"),
    ("verbosity noreply", b"verbosity noreply\r\n"),
    ("verbosity 0 noreply", b"verbosity 0 noreply\r\n"),
    ("verbosity words", b"verbosity abc\r\n"),
    ("verbosity two words", b"verbosity abc def\r\n"),
    ("verbosity negative", b"verbosity -1\r\n"),
    ("verbosity three words", b"verbosity 0 0 0\r\n"),
    ("quit", b"quit\r\n"),
    ("quit and more", b"quit\r\nget foo\r\n"),
    ("quit with words", b"quit foo\r\n"),
    ("set and quit", b"set foo 0 0 1\r\na\r\nget foo\r\nquit\r\n"),
    ("quit ends in LF only", b"quit\n"),
    ("shutdown", b"shutdown\r\n"),
    ("shutdown graceful", b"shutdown graceful\r\n"),
    ("shutdown words", b"shutdown foo\r\n"),
    ("shutdown graceful words", b"shutdown graceful foo\r\n"),
    (
        "flush_all",
        b"set foo 0 0 1\r\na\r\nflush_all\r\nget foo\r\nset foo 0 0 1\r\nb\r\nget foo\r\n",
    ),
    ("flush_all noreply", b"set foo 0 0 1\r\na\r\nflush_all noreply\r\nget foo\r\n"),
    ("flush_all 0", b"set foo 0 0 1\r\na\r\nflush_all 0\r\nget foo\r\n"),
    ("flush_all 0 noreply", b"set foo 0 0 1\r\na\r\nflush_all 0 noreply\r\nget foo\r\n"),
    ("flush_all 100", b"set foo 0 0 1\r\na\r\nflush_all 100\r\nget foo\r\n"),
    ("flush_all 100 noreply", b"set foo 0 0 1\r\na\r\nflush_all 100 noreply\r\nget foo\r\n"),
    ("flush_all negative", b"flush_all -1\r\n"),
    ("flush_all words", b"set foo 0 0 1\r\na\r\nflush_all abc\r\nget foo\r\n"),
    ("flush_all too large", b"set foo 0 0 1\r\na\r\nflush_all 99999999999\r\nget foo\r\n"),
    ("flush_all 0 words", b"set foo 0 0 1\r\na\r\nflush_all 0 foo\r\nget foo\r\n"),
    ("flush_all three words", b"flush_all 0 noreply foo\r\n"),
    (
        "flush_all of two",
        b"set a 0 0 1\r\na\r\nset b 0 0 1\r\nb\r\nflush_all\r\nget a b\r\nadd a 0 0 1\r\nc\r\n\
          get a b\r\n",
    ),
    (
        "flush_all and delete",
        b"set a 0 0 1\r\na\r\nflush_all\r\ndelete a\r\ntouch a 0\r\nincr a 1\r\n\
          append a 0 0 1\r\nb\r\nreplace a 0 0 1\r\nc\r\n",
    ),
    ("empty line", b"\r\n"),
    ("empty line LF", b"\nget foo\r\n"),
    ("three empty lines", b"\r\n\r\n\r\n"),
    ("line of spaces", b"     \r\n"),
    ("line of 300 spaces", &[b' '; 300]),
    ("leading space", b" get foo\r\n"),
    ("unknown command", b"foo\r\n"),
    ("unknown command with words", b"foo bar baz 1 2 3\r\nget foo\r\n"),
    ("a command's start", b"se foo 0 0 1\r\n"),
    ("a command and more", b"setx foo 0 0 1\r\n"),
    ("getx", b"getx foo\r\n"),
    ("capitals", b"SET foo 0 0 1\r\n"),
    ("first byte high", b"\xff\xfe\r\n"),
    ("first byte of a response", b"\x81\x00\r\n"),
    ("NUL first", b"\0\r\n"),
    ("CR only", b"get foo\rget foo\r\n"),
    ("the other protocol's byte later", b"get foo\r\n\x80\r\n"),
    ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("HTTP post", b"POST /x HTTP/1.0\r\n\r\n"),
    ("get that ends like HTTP", b"get HTTP/1.1\r\nget foo\r\n"),
    ("many errors", b"foo\r\nbar\r\nbaz\r\nget\r\nset\r\nincr\r\ntouch\r\n"),
    ("lru_crawler without words", b"lru_crawler\r\nlru_crawler metadump\r\n"),
    ("lru mode without mode", b"lru mode\r\n"),
    ("lru temp_ttl without ttl", b"lru temp_ttl\r\n"),
    ("lru without words", b"lru\r\n"),
    ("stats words", b"stats nothing-of-this-name\r\n"),
    ("stats detail without words", b"stats detail\r\n"),
    ("stats reset", b"stats reset\r\n"),
    ("stats sizes", b"stats sizes\r\n"),
];

/// Before all others: flushed items are counted until they are reclaimed, at a different time in
/// every server, and these cases need servers that never had any.
pub fn add_first(table: &mut Table) {
    table.text("stats of no items", "stats items\r\n");
}

pub fn add(table: &mut Table) {
    table.texts(ROWS);
    for what in ["", " settings", " items", " slabs", " conns"] {
        let setup: &[u8] = b"set foo 0 0 1\r\na\r\n";
        table.text_stats(&format!("stats{what}"), setup, format!("stats{what}\r\n").as_bytes());
    }
    table.text_fin("no line end", b"get foo");
    table.text_fin("no block", b"set foo 0 0 3\r\n");
    table.text_fin("half a block", b"get foo\r\nset foo 0 0 3\r\nba");
    table.text_fin("a block without its end", b"set foo 0 0 3\r\nbar");
    table.text_fin("whole commands", b"set foo 0 0 3\r\nbar\r\nget foo\r\n");
    table.text_fin("one byte", b"g");
    let noreply = "set foo 0 0 1 noreply\r\na\r\n";
    table.text_fin("only noreply", noreply.repeat(20));
    table.text("a hundred noreply and a get", format!("{}get foo\r\n", noreply.repeat(100)));
    let mixed = "set a 0 0 2\r\nxy\r\nget a b\r\nbad\r\nincr a 1\r\ndelete b\r\ntouch a 0\r\n";
    table.text("forty mixed commands", mixed.repeat(40));
}
