//! Text get, gets, gat, gats, touch and delete.

use crate::table::Table;

const ROWS: &[(&str, &[u8])] = &[
    ("get miss", b"get foo\r\n"),
    ("get without key", b"get\r\n"),
    ("get space without key", b"get \r\n"),
    ("get two spaces without key", b"get  \r\n"),
    ("gets miss", b"gets foo\r\n"),
    ("gets without key", b"gets\r\n"),
    ("get of three, one there", b"set b 3 0 1\r\nx\r\nget a b c\r\n"),
    ("get the same key three times", b"set b 3 0 1\r\nx\r\nget b b b\r\n"),
    ("gets of two", b"set a 1 0 1\r\nx\r\nset b 2 0 2\r\nyz\r\ngets a b\r\n"),
    (
        "gets twice the same cas",
        b"set a 1 0 1\r\nx\r\ngets a\r\ngets a\r\nset a 1 0 1\r\nx\r\ngets a\r\n",
    ),
    ("get with spaces around", b"set b 3 0 1\r\nx\r\nget  b   b  \r\n"),
    ("get with a tab", b"get\tfoo\r\n"),
    ("get ends in LF only", b"set b 3 0 1\r\nx\r\nget b\nget b\n"),
    ("get with CR CR LF", b"set b 3 0 1\r\nx\r\nget b\r\r\n"),
    ("get with CR inside", b"set b 3 0 1\r\nx\r\nget b\rc\r\n"),
    ("get with NUL inside", b"set b 3 0 1\r\nx\r\nget b\0 c\r\n"),
    ("get noreply is a key", b"get foo noreply\r\n"),
    ("get in capitals", b"GET foo\r\n"),
    ("get expired", b"set b 3 -1 1\r\nx\r\nget b\r\ngets b\r\n"),
    ("get pipelined", b"get a\r\nget b\r\nset a 0 0 1\r\n1\r\nget a\r\ngets c\r\nget a b\r\n"),
    ("gat", b"set b 3 0 1\r\nx\r\ngat 100 b\r\nget b\r\n"),
    ("gat several", b"set a 1 0 1\r\nx\r\nset b 2 0 1\r\ny\r\ngat 100 a m b\r\n"),
    ("gat 0", b"set b 3 100 1\r\nx\r\ngat 0 b\r\nget b\r\n"),
    ("gat negative expires", b"set b 3 0 1\r\nx\r\ngat -1 b\r\nget b\r\n"),
    ("gat long ago expires", b"set b 3 0 1\r\nx\r\ngat 2592001 b\r\nget b\r\n"),
    ("gat miss", b"gat 100 b\r\n"),
    ("gat without key", b"gat 100\r\n"),
    ("gat without words", b"gat\r\n"),
    ("gat space only", b"gat \r\n"),
    ("gat exptime words", b"set b 3 0 1\r\nx\r\ngat abc b\r\nget b\r\n"),
    ("gat exptime then words", b"set b 3 0 1\r\nx\r\ngat 1x b\r\nget b\r\n"),
    ("gat exptime too large", b"set b 3 0 1\r\nx\r\ngat 99999999999 b\r\nget b\r\n"),
    ("gat exptime fraction", b"gat 1.5 b\r\n"),
    ("gats", b"set b 3 0 1\r\nx\r\ngats 100 b\r\ngets b\r\n"),
    ("gats several", b"set a 1 0 1\r\nx\r\nset b 2 0 1\r\ny\r\ngats 0 a m b a\r\n"),
    ("gats without words", b"gats\r\ngats 0\r\ngats x y\r\n"),
    ("touch", b"set b 3 0 1\r\nx\r\ntouch b 100\r\nget b\r\n"),
    ("touch miss", b"touch b 100\r\n"),
    ("touch negative expires", b"set b 3 0 1\r\nx\r\ntouch b -1\r\nget b\r\n"),
    ("touch noreply", b"set b 3 0 1\r\nx\r\ntouch b -1 noreply\r\nget b\r\n"),
    ("touch miss noreply", b"touch b 0 noreply\r\n"),
    ("touch without words", b"touch\r\n"),
    ("touch without exptime", b"touch b\r\n"),
    ("touch exptime words", b"set b 3 0 1\r\nx\r\ntouch b abc\r\nget b\r\n"),
    ("touch exptime words noreply", b"touch b abc noreply\r\n"),
    ("touch exptime too large", b"touch b 99999999999\r\n"),
    ("touch four words", b"touch b 0 x\r\n"),
    ("touch five words", b"touch b 0 x y\r\n"),
    ("delete", b"set b 3 0 1\r\nx\r\ndelete b\r\ndelete b\r\nget b\r\n"),
    ("delete noreply", b"set b 3 0 1\r\nx\r\ndelete b noreply\r\nget b\r\ndelete b noreply\r\n"),
    ("delete 0", b"set b 3 0 1\r\nx\r\ndelete b 0\r\nget b\r\n"),
    ("delete 0 noreply", b"set b 3 0 1\r\nx\r\ndelete b 0 noreply\r\nget b\r\n"),
    ("delete 10", b"set b 3 0 1\r\nx\r\ndelete b 10\r\nget b\r\n"),
    ("delete 10 noreply", b"set b 3 0 1\r\nx\r\ndelete b 10 noreply\r\nget b\r\n"),
    ("delete 00", b"set b 3 0 1\r\nx\r\ndelete b 00\r\nget b\r\n"),
    ("delete words", b"set b 3 0 1\r\nx\r\ndelete b abc\r\nget b\r\n"),
    ("delete four words", b"delete b 0 noreply x\r\n"),
    ("delete without key", b"delete\r\n"),
    ("delete space without key", b"delete \r\n"),
    ("delete expired", b"set b 3 -1 1\r\nx\r\ndelete b\r\n"),
    ("delete then add", b"set b 3 0 1\r\nx\r\ndelete b\r\nadd b 1 0 1\r\ny\r\nget b\r\n"),
];

pub fn add(table: &mut Table) {
    table.texts(ROWS);
    for keys in [20, 21, 22, 23, 24, 25, 30, 47, 48, 49, 100] {
        let line: String = (0..keys).map(|n| format!(" k{n}")).collect();
        let sets = "set k0 1 0 1\r\na\r\nset k19 2 0 1\r\nb\r\n\
                    set k22 3 0 1\r\nc\r\nset k23 4 0 1\r\nd\r\n";
        table.text(&format!("get {keys} keys"), format!("{sets}get{line}\r\n"));
        table.text(&format!("gats {keys} keys"), format!("{sets}gats 0{line}\r\n"));
    }
    let spaced =
        |count: usize| format!("set key2 0 0 1\r\nx\r\nget{}key1 key2\r\n", " ".repeat(count));
    for count in [200, 201, 486, 772] {
        table.text(&format!("get with {count} spaces"), spaced(count));
    }
    let keys: String = (0..600).map(|n| format!(" key{n}")).collect();
    table
        .text("get 600 keys on a line of 4 KiB", format!("set key599 0 0 1\r\nx\r\nget{keys}\r\n"));
    table.text(
        "gets 600 keys on a line of 4 KiB",
        format!("set key599 0 0 1\r\nx\r\ngets{keys}\r\n"),
    );
    table.text("gat 600 keys on a line of 4 KiB", format!("gat 0{keys}\r\n"));
    let control = format!("set k\x01 0 0 1\r\nx\r\nget{keys} k\x01 key1\r\n");
    table.text("get 600 keys and one with a control byte", control);
    let long = format!("get{keys} {} key1\r\n", "k".repeat(251));
    table.text("get 600 keys and one too long", long);
    let same = " k".repeat(3000);
    table.text("get one key 3000 times", format!("set k 0 0 3\r\nabc\r\nget{same}\r\n"));
    let pipelined = "get k\r\n".repeat(2000);
    table.text("get one key 2000 times pipelined", format!("set k 0 0 3\r\nabc\r\n{pipelined}"));
}
