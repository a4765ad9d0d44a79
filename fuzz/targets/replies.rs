//! Any bytes, as a server's: the load tools' readers take replies one after another, never go past
//! the input, and never take a reply cut short for a whole one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sunder::load::wire::answer::{Sent, answer};
use sunder::load::wire::{Dialect, Step, Verb, decode};

const DIALECTS: [Dialect; 3] = [Dialect::Text, Dialect::Binary, Dialect::Meta];
const VERBS: [Verb; 4] = [Verb::Get, Verb::Set, Verb::Incr, Verb::Touch];

fuzz_target!(|input: &[u8]| {
    let Some((&first, input)) = input.split_first() else { return };
    let dialect = DIALECTS[usize::from(first) % 3];
    let mut rest = input;
    loop {
        match decode(dialect, rest) {
            Step::NeedMore(more) => {
                assert!(more > 0);
                break;
            }
            Step::Garbage(_) => break,
            Step::Reply { consumed, .. } => {
                assert!(0 < consumed && consumed <= rest.len());
                let short = decode(dialect, &rest[..consumed - 1]);
                assert!(matches!(short, Step::NeedMore(_)));
                rest = &rest[consumed..];
            }
        }
    }
    let verb = VERBS[usize::from(first) / 3 % 4];
    for many in [0, 3] {
        let asked = Sent { dialect, verb, many, opaque: 1 };
        let mut items = vec![];
        if let Ok(Some((_, bytes))) = answer(&asked, input, &mut items) {
            assert!(bytes <= input.len() && items.len() <= many.max(1));
        }
    }
});
