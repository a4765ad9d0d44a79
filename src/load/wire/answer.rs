//! The whole answer to one request: the same words in all dialects.
//!
//! A retrieval's items are gathered up to their end, and what a dialect says in its own way is put
//! as text says it. Keeps no state: shown again longer, it begins again.

use super::{Dialect, Garbage, Item, Reply, Step, Verb, decode};

/// What has to be known of a request to read its answer.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// How the connection speaks.
    pub dialect: Dialect,
    /// What was requested.
    pub verb: Verb,
    /// Keys of an [`super::encode_many`]; 0 for an [`super::encode`].
    pub many: usize,
    /// The request's opaque.
    pub opaque: u32,
}

/// Reads the answer at the start of `input`: what it says, and the bytes it took. None: more bytes
/// are needed. A retrieval's answer is [`Reply::End`], or the first failure of one of its keys; its
/// items are added to `items`. A reply that the request cannot have is given as it is.
///
/// # Errors
/// It is no answer, or that of another request.
pub fn answer<'a>(
    asked: &Sent,
    input: &'a [u8],
    items: &mut Vec<Item<'a>>,
) -> Result<Option<(Reply<'a>, usize)>, Garbage> {
    let mut at = 0;
    // Of several keys each has its own, but in text, where one ends the answer.
    let mut failure = None;
    let mut failures = 0;
    loop {
        let (reply, opaque, consumed) = match decode(asked.dialect, &input[at..]) {
            Step::NeedMore(_) => return Ok(None),
            Step::Garbage(garbage) => return Err(garbage),
            Step::Reply { reply, opaque, consumed } => (reply, opaque, consumed),
        };
        at += consumed;
        let is_expected = match asked.many as u64 {
            0 => opaque.is_none_or(|opaque| opaque == asked.opaque),
            many => opaque.is_none_or(|opaque| u64::from(opaque) <= many),
        };
        if !is_expected {
            return Err(Garbage("the answer to another request"));
        }
        match reply {
            Reply::Item(item) if asked.verb.is_retrieval() => {
                items.push(item);
                if asked.many == 0 && asked.dialect != Dialect::Text {
                    return Ok(Some((Reply::End, at)));
                }
            }
            Reply::Failed(_) | Reply::Refused(_)
                if asked.many > 0 && asked.dialect != Dialect::Text =>
            {
                failures += 1;
                failure.get_or_insert(reply);
            }
            reply => return Ok(Some((failure.unwrap_or_else(|| normal(asked, reply)), at))),
        }
        if items.len() + failures > asked.many.max(1) {
            return Err(Garbage("more items than keys"));
        }
    }
}

fn normal<'a>(asked: &Sent, reply: Reply<'a>) -> Reply<'a> {
    match reply {
        Reply::Miss if asked.verb == Verb::Touch => Reply::NotFound,
        Reply::Miss if asked.verb.is_retrieval() => Reply::End,
        Reply::Item(Item { value, .. }) if matches!(asked.verb, Verb::Incr | Verb::Decr) => {
            match super::number(value) {
                Some((number, b"")) => Reply::Number(number),
                _ => reply,
            }
        }
        Reply::NotFound if matches!(asked.verb, Verb::Replace | Verb::Append | Verb::Prepend) => {
            Reply::NotStored
        }
        Reply::Done => match asked.verb {
            Verb::Delete => Reply::Deleted,
            Verb::Touch => Reply::Touched,
            verb if verb.is_store() => Reply::Stored,
            _ => reply,
        },
        reply => reply,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn says(dialect: Dialect, verb: Verb, many: usize, input: &[u8]) -> (Reply<'_>, usize) {
        let asked = Sent { dialect, verb, many, opaque: 3 };
        for cut in 0..input.len() {
            let mut items = vec![];
            assert_eq!(answer(&asked, &input[..cut], &mut items), Ok(None), "{cut}");
        }
        let mut items = vec![];
        let (reply, consumed) = answer(&asked, input, &mut items).expect("one").expect("whole");
        assert_eq!(consumed, input.len());
        (reply, items.len())
    }

    #[test]
    fn all_dialects_say_the_same() {
        use Dialect::{Meta, Text};
        assert_eq!(says(Text, Verb::Get, 0, b"END\r\n"), (Reply::End, 0));
        assert_eq!(says(Meta, Verb::Get, 0, b"EN\r\n"), (Reply::End, 0));
        assert_eq!(says(Text, Verb::Get, 0, b"VALUE k 0 1\r\na\r\nEND\r\n"), (Reply::End, 1));
        assert_eq!(says(Meta, Verb::Get, 0, b"VA 1 f0 O3\r\na\r\n"), (Reply::End, 1));
        let two = b"VA 1 kk f0 O0\r\na\r\nVA 1 kl f0 O2\r\nb\r\nMN\r\n";
        assert_eq!(says(Meta, Verb::Get, 3, two), (Reply::End, 2));
        let failed = b"SERVER_ERROR a\r\nVA 1 kl f0 O1\r\nb\r\nSERVER_ERROR b\r\nMN\r\n";
        assert_eq!(says(Meta, Verb::Get, 3, failed), (Reply::Failed(b"SERVER_ERROR a"), 1));
        let mut failed = Vec::new();
        for (opcode, status, opaque) in [(0x0d, 0x84, 0), (0x0d, 0x84, 1), (0x0a, 0, 2)] {
            let header = [0x81, opcode, 0, 0, 0, 0, 0, status, 0, 0, 0, 0, 0, 0, 0, opaque];
            failed.extend_from_slice(&header);
            failed.extend_from_slice(&[0; 8]);
        }
        assert_eq!(says(Dialect::Binary, Verb::Get, 2, &failed), (Reply::Failed(b""), 0));
        assert_eq!(says(Meta, Verb::Touch, 0, b"EN\r\n"), (Reply::NotFound, 0));
        assert_eq!(says(Meta, Verb::Touch, 0, b"HD O3\r\n"), (Reply::Touched, 0));
        assert_eq!(says(Meta, Verb::Append, 0, b"NF\r\n"), (Reply::NotStored, 0));
        assert_eq!(says(Meta, Verb::Incr, 0, b"VA 2 O3\r\n12\r\n"), (Reply::Number(12), 0));
        assert_eq!(says(Text, Verb::Get, 0, b"STORED\r\n"), (Reply::Stored, 0));
    }

    #[test]
    fn answers_to_others_are_garbage() {
        let asked = Sent { dialect: Dialect::Meta, verb: Verb::Get, many: 0, opaque: 3 };
        assert!(answer(&asked, b"VA 1 f0 O4\r\na\r\n", &mut vec![]).is_err());
        let many = Sent { many: 1, opaque: 0, ..asked };
        let failures = b"SERVER_ERROR a\r\nSERVER_ERROR b\r\nMN\r\n";
        assert!(answer(&many, failures, &mut vec![]).is_err());
        let asked = Sent { dialect: Dialect::Text, ..asked };
        let twice = b"VALUE k 0 1\r\na\r\nVALUE k 0 1\r\na\r\nEND\r\n";
        assert!(answer(&asked, twice, &mut vec![]).is_err());
    }
}
