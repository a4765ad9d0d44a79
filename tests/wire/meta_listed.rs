//! Rows of `meta.tsv` that some compositions answer otherwise than either memcached, by their
//! names. docs/DIFFERENCES.md has the reasons.

/// What memcached 1.6.18 behind refuses, E or x, beside what only 1.6.45 answers so.
const OLDER: &[&str] = &[
    "114 random 171",
    "278 random 577",
    "314 random 561",
    "324 random 603",
    "325 random 527",
    "408 random 7",
    "444 random 476",
    "482 random 362",
    "509 random 324",
    "544 random 247",
];

/// Stale items and early recaches, which need marks.
const MARKS: &[&str] = &[
    "76 random 133",
    "93 random 259",
    "105 md hit x I T30",
    "120 random 66",
    "122 seq",
    "245 seq",
    "257 seq q",
    "307 seq q",
    "350 md hit I T30",
    "362 random 339",
    "388 seq",
    "458 seq",
    "466 seq q",
    "492 seq",
    "525 random 446",
    "544 random 247",
];

/// A cas that the client chose.
const CAS: &[&str] = &[
    "20 ms over E77 c",
    "127 random 285",
    "175 random 218",
    "473 ma E8 v c on 10",
    "559 random 393",
];

/// Whether an item was read.
const USES: &[&str] = &[
    "87 random 349",
    "125 random 604",
    "178 seq",
    "184 random 637",
    "229 seq q",
    "317 random 14",
    "547 random 601",
];

/// The length of a value after an append.
const APPENDED: &[&str] = &["278 random 577", "390 random 236"];

/// Whether an item was read: what replaces one that was counts as read here, as do an item that was
/// made longer and one that an add found.
const GENERATED_USES: &[&str] = &[
    "generated 32",
    "generated 69",
    "generated 100",
    "generated 166",
    "generated 497",
    "generated 500",
    "generated 519",
    "generated 532",
    "generated 803",
    "generated 846",
    "generated 1135",
    "generated 1143",
    "generated 1518",
    "generated 1644",
    "generated 1662",
    "generated 2331",
    "generated 2400",
];

/// A number that memcached does not shorten in place while the reply to an earlier command of the
/// same packet refers to it.
const GENERATED_HELD: &[&str] = &["generated 152", "generated 1898"];

/// Whether a composition is known to answer a row otherwise.
pub fn is_listed(composition: &str, row: &str) -> bool {
    let is = |part: &str| composition.contains(part);
    let lists: &[&[&str]] = match () {
        () if is("generated") => &[GENERATED_USES, GENERATED_HELD],
        // What is composed of other commands, alone.
        () if is("chunked, l1_only") || is("shm, l1_only") => &[MARKS, CAS, USES, APPENDED],
        // The same in front of an L2 that has them.
        () if is("chunked, l1_l2,") || is("shm, l1_l2,") => &[OLDER, USES],
        () if is("shm, ssd") => &[CAS, USES],
        () if is("l1_l2") || is("memcached plain") => &[OLDER],
        () => &[],
    };
    lists.iter().any(|list| list.contains(&row))
}
