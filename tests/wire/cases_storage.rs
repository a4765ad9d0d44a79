//! Text set, add, replace, append, prepend and cas, and their data blocks.

use crate::table::Table;

const ROWS: &[(&str, &[u8])] = &[
    ("set get delete", b"set foo 0 0 6\r\nfoobar\r\nget foo\r\ndelete foo\r\nget foo\r\n"),
    ("set overwrites", b"set foo 1 0 1\r\na\r\nset foo 2 0 2\r\nbc\r\nget foo\r\n"),
    ("set of nothing", b"set foo 0 0 0\r\n\r\nget foo\r\n"),
    ("set keeps any byte", b"set foo 7 0 12\r\n\0\r\n\xff\x80END\r\n\x7f\r\nget foo\r\n"),
    (
        "set whose value reads like commands",
        b"set foo 0 0 16\r\nget x\r\nquit\r\n\r\n \r\nget foo\r\n",
    ),
    ("set noreply", b"set foo 3 0 3 noreply\r\nbar\r\nget foo\r\n"),
    ("set noreplyX is a reply", b"set foo 3 0 3 noreplyx\r\nbar\r\nget foo\r\n"),
    ("set NOREPLY in capitals", b"set foo 3 0 3 NOREPLY\r\nbar\r\nget foo\r\n"),
    ("set a b noreply", b"set foo 3 0 3 a noreply\r\nbar\r\nget foo\r\n"),
    ("set without words", b"set\r\n"),
    ("set one word", b"set foo\r\n"),
    ("set two words", b"set foo 0\r\n"),
    ("set three words", b"set foo 0 0\r\n"),
    ("set seven words", b"set foo 0 0 3 4 5 6\r\nbar\r\n"),
    ("set noreply missing length", b"set foo 0 0 noreply\r\nget foo\r\n"),
    ("set empty key", b"set  0 0 3\r\nbar\r\n"),
    ("set spaces between words", b"set   foo  5   0  3  \r\nbar\r\nget foo\r\n"),
    ("set tab in key", b"set f\too 0 0 3\r\nbar\r\nget f\too\r\n"),
    ("set control bytes in key", b"set \x01\x02\x7f 0 0 3\r\nbar\r\nget \x01\x02\x7f\r\n"),
    ("set high bytes in key", b"set \x80\xff\xc3\xa9 0 0 3\r\nbar\r\nget \x80\xff\xc3\xa9\r\n"),
    ("set flags 0", b"set foo 0 0 1\r\na\r\nget foo\r\n"),
    ("set flags 4294967295", b"set foo 4294967295 0 1\r\na\r\nget foo\r\n"),
    ("set flags 4294967296", b"set foo 4294967296 0 1\r\na\r\nget foo\r\n"),
    ("set flags negative", b"set foo -1 0 1\r\na\r\nget foo\r\n"),
    ("set flags words", b"set foo abc 0 1\r\na\r\nget foo\r\n"),
    ("set flags then words", b"set foo 12abc 0 1\r\na\r\nget foo\r\n"),
    ("set flags signed", b"set foo +12 0 1\r\na\r\nget foo\r\n"),
    ("set flags leading zeros", b"set foo 00012 0 1\r\na\r\nget foo\r\n"),
    ("set flags hexadecimal", b"set foo 0x10 0 1\r\na\r\nget foo\r\n"),
    ("set flags of 30 digits", b"set foo 111111111111111111111111111111 0 1\r\na\r\nget foo\r\n"),
    ("set exptime negative", b"set foo 0 -1 1\r\na\r\nget foo\r\n"),
    (
        "set exptime negative over a value",
        b"set foo 0 0 1\r\na\r\nset foo 0 -1 1\r\nb\r\nget foo\r\n",
    ),
    ("set exptime 100", b"set foo 0 100 1\r\na\r\nget foo\r\n"),
    ("set exptime 2592000", b"set foo 0 2592000 1\r\na\r\nget foo\r\n"),
    ("set exptime 2592001, long ago", b"set foo 0 2592001 1\r\na\r\nget foo\r\n"),
    ("set exptime 2147483647", b"set foo 0 2147483647 1\r\na\r\nget foo\r\n"),
    ("set exptime 2147483648", b"set foo 0 2147483648 1\r\na\r\nget foo\r\n"),
    ("set exptime -2147483648", b"set foo 0 -2147483648 1\r\na\r\nget foo\r\n"),
    ("set exptime 4294967296", b"set foo 0 4294967296 1\r\na\r\nget foo\r\n"),
    ("set exptime words", b"set foo 0 abc 1\r\na\r\nget foo\r\n"),
    ("set exptime fraction", b"set foo 0 1.5 1\r\na\r\nget foo\r\n"),
    ("set length negative", b"set foo 0 0 -1\r\nget foo\r\n"),
    ("set length words", b"set foo 0 0 abc\r\nbar\r\nget foo\r\n"),
    ("set length then words", b"set foo 0 0 3x\r\nbar\r\nget foo\r\n"),
    ("set length signed", b"set foo 0 0 +3\r\nbar\r\nget foo\r\n"),
    ("set length leading zeros", b"set foo 0 0 003\r\nbar\r\nget foo\r\n"),
    ("set length 4294967295", b"set foo 0 0 4294967295\r\nget foo\r\n"),
    ("set length 4294967299", b"set foo 0 0 4294967299\r\nbar\r\nget foo\r\n"),
    ("set length 2147483647", b"set foo 0 0 2147483647\r\nget foo\r\n"),
    ("set length 2147483646", b"set foo 0 0 2147483646\r\nget foo\r\n"),
    ("set length 2147483645", b"set foo 0 0 2147483645\r\nget foo\r\n"),
    ("set length 99999999999999999999", b"set foo 0 0 99999999999999999999\r\nget foo\r\n"),
    ("set block too long", b"set foo 0 0 3\r\nbarbar\r\nget foo\r\n"),
    ("set block too short", b"set foo 0 0 8\r\nbar\r\nget foo\r\nget foo\r\n"),
    ("set block ends in LF only", b"set foo 0 0 3\r\nbar\nget foo\r\nget foo\r\n"),
    ("set block ends in CR and x", b"set foo 0 0 3\r\nbar\rxget foo\r\nget foo\r\n"),
    (
        "set block too long keeps no old value",
        b"set foo 0 0 1\r\na\r\nset foo 0 0 1\r\nbcd\r\nget foo\r\n",
    ),
    ("set noreply block too long", b"set foo 0 0 3 noreply\r\nbarbar\r\nget foo\r\n"),
    ("set line ends in LF only", b"set foo 0 0 3\nbar\r\nget foo\n"),
    ("set line with CR inside", b"set foo 0\r 0 3\r\nbar\r\nget foo\r\n"),
    ("set line with NUL inside", b"set foo\0bar 0 0 3\r\nbar\r\nget foo\r\nget foo\0bar\r\n"),
    (
        "set errors noreply are said",
        b"set foo 0 0 abc noreply\r\nset foo abc 0 1 noreply\r\na\r\nget foo\r\n",
    ),
    ("add", b"add foo 1 0 1\r\na\r\nadd foo 2 0 1\r\nb\r\nget foo\r\n"),
    ("add noreply", b"add foo 1 0 1 noreply\r\na\r\nadd foo 2 0 1 noreply\r\nb\r\nget foo\r\n"),
    ("add over an expired item", b"set foo 1 -1 1\r\na\r\nadd foo 2 0 1\r\nb\r\nget foo\r\n"),
    ("add of an expired item", b"add foo 1 -1 1\r\na\r\nadd foo 2 0 1\r\nb\r\nget foo\r\n"),
    ("add wrong words", b"add\r\nadd foo\r\nadd foo 0 0\r\nadd foo 0 0 x\r\n"),
    (
        "replace",
        b"replace foo 1 0 1\r\na\r\nset foo 1 0 1\r\nb\r\nreplace foo 2 0 2\r\ncd\r\n\
          get foo\r\n",
    ),
    (
        "replace noreply",
        b"replace foo 1 0 1 noreply\r\na\r\nset foo 1 0 1\r\nb\r\n\
          replace foo 2 0 1 noreply\r\nc\r\nget foo\r\n",
    ),
    ("replace an expired item", b"set foo 1 -1 1\r\na\r\nreplace foo 2 0 1\r\nb\r\nget foo\r\n"),
    ("replace wrong words", b"replace\r\nreplace foo\r\nreplace foo 0 0\r\nreplace foo 0 0 x\r\n"),
    ("append miss", b"append foo 0 0 3\r\nbar\r\nget foo\r\n"),
    ("append keeps the flags", b"set foo 5 0 3\r\nbar\r\nappend foo 9 0 3\r\nbaz\r\nget foo\r\n"),
    ("append keeps the expiry", b"set foo 5 0 3\r\nbar\r\nappend foo 9 -1 3\r\nbaz\r\nget foo\r\n"),
    ("append nothing", b"set foo 5 0 3\r\nbar\r\nappend foo 9 0 0\r\n\r\nget foo\r\n"),
    ("append noreply", b"set foo 5 0 3\r\nbar\r\nappend foo 9 0 3 noreply\r\nbaz\r\nget foo\r\n"),
    ("append noreply miss", b"append foo 9 0 3 noreply\r\nbaz\r\nget foo\r\n"),
    ("append wrong words", b"append\r\nappend foo\r\nappend foo 0 0\r\nappend foo 0 0 x\r\n"),
    ("prepend miss", b"prepend foo 0 0 3\r\nbar\r\nget foo\r\n"),
    ("prepend keeps the flags", b"set foo 5 0 3\r\nbar\r\nprepend foo 9 0 3\r\nbaz\r\nget foo\r\n"),
    ("prepend noreply", b"set foo 5 0 3\r\nbar\r\nprepend foo 9 0 3 noreply\r\nbaz\r\nget foo\r\n"),
    ("prepend wrong words", b"prepend\r\nprepend foo\r\nprepend foo 0 0\r\nprepend foo 0 0 x\r\n"),
    ("cas miss", b"cas foo 0 0 3 1\r\nbar\r\nget foo\r\n"),
    ("cas miss noreply", b"cas foo 0 0 3 1 noreply\r\nbar\r\nget foo\r\n"),
    ("cas without cas", b"cas foo 0 0 3\r\nbar\r\n"),
    ("cas words", b"cas\r\ncas foo\r\ncas foo 0\r\ncas foo 0 0\r\n"),
    ("cas not a number", b"cas foo 0 0 3 abc\r\nbar\r\nget foo\r\n"),
    ("cas negative", b"cas foo 0 0 3 -1\r\nbar\r\nget foo\r\n"),
    ("cas too large", b"cas foo 0 0 3 18446744073709551616\r\nbar\r\nget foo\r\n"),
    ("cas eight words", b"cas foo 0 0 3 1 noreply x\r\nbar\r\n"),
    ("cas zero on a miss", b"cas foo 0 0 3 0\r\nbar\r\nget foo\r\n"),
    ("cas length negative", b"cas foo 0 0 -1 1\r\nget foo\r\n"),
];

/// (name, setup, input); `{cas}` is replaced by the last cas in the setup's answers.
const AFTER: &[(&str, &[u8], &[u8])] = &[
    (
        "cas stores once",
        b"set foo 1 0 3\r\nbar\r\ngets foo\r\n",
        b"cas foo 2 0 3 {cas}\r\nbaz\r\ncas foo 3 0 3 {cas}\r\nqux\r\ngets foo\r\n",
    ),
    (
        "cas zero on an item",
        b"set foo 1 0 3\r\nbar\r\ngets foo\r\n",
        b"cas foo 2 0 3 0\r\nbaz\r\ngets foo\r\n",
    ),
    (
        "cas noreply",
        b"set foo 1 0 3\r\nbar\r\ngets foo\r\n",
        b"cas foo 2 0 3 {cas} noreply\r\nbaz\r\ncas foo 3 0 3 {cas} noreply\r\nqux\r\ngets foo\r\n",
    ),
    (
        "cas after delete",
        b"set foo 1 0 3\r\nbar\r\ngets foo\r\n",
        b"delete foo\r\ncas foo 2 0 3 {cas}\r\nbaz\r\ngets foo\r\n",
    ),
    (
        "cas after set",
        b"set foo 1 0 3\r\nbar\r\ngets foo\r\n",
        b"set foo 2 0 1\r\na\r\ncas foo 2 0 3 {cas}\r\nbaz\r\ngets foo\r\n",
    ),
    (
        "cas after touch",
        b"set foo 1 0 3\r\nbar\r\ngets foo\r\n",
        b"touch foo 100\r\ncas foo 2 0 3 {cas}\r\nbaz\r\ngets foo\r\n",
    ),
    (
        "cas after append",
        b"set foo 1 0 3\r\nbar\r\ngets foo\r\n",
        b"append foo 0 0 1\r\na\r\ncas foo 2 0 3 {cas}\r\nbaz\r\ngets foo\r\n",
    ),
    (
        "cas after incr",
        b"set foo 1 0 3\r\n100\r\ngets foo\r\n",
        b"incr foo 1\r\ncas foo 2 0 3 {cas}\r\nbaz\r\ngets foo\r\n",
    ),
    (
        "cas to an expired item",
        b"set foo 1 0 3\r\nbar\r\ngets foo\r\n",
        b"cas foo 2 -1 3 {cas}\r\nbaz\r\ngets foo\r\n",
    ),
    (
        "cas bad block leaves the item",
        b"set foo 1 0 3\r\nbar\r\ngets foo\r\n",
        b"cas foo 2 0 3 {cas}\r\nbazzz\r\ngets foo\r\ncas foo 2 0 3 {cas}\r\nbaz\r\n",
    ),
    (
        "cas of two keys",
        b"set a 1 0 3\r\nbar\r\nset b 1 0 3\r\nbar\r\ngets a b\r\n",
        b"cas a 2 0 3 {cas}\r\nbaz\r\ncas b 2 0 3 {cas}\r\nbaz\r\nget a b\r\n",
    ),
];

pub fn add(table: &mut Table) {
    table.texts(ROWS);
    for (name, setup, input) in AFTER {
        table.text_after(name, setup, input);
    }
    let appends = "append foo 0 0 4\r\nab\r\n\r\n".repeat(20);
    table.text("append twenty times", format!("set foo 0 0 2\r\n--\r\n{appends}get foo\r\n"));
    for command in ["set", "add", "replace", "append", "prepend"] {
        let request = format!("{command} foo 0 0 5\r\nhello\r\n");
        table.text(
            &format!("{command} on a miss and on a hit"),
            format!("{request}{request}get foo\r\n"),
        );
        let bad = format!("set foo 0 0 1\r\na\r\n{command} foo 0 0 1\r\nbc\r\nget foo\r\n");
        table.text(&format!("{command} with a bad block"), bad);
    }
}
