//! What a port refuses of a client's commands.
//!
//! A refused command is answered with an error of its protocol and consumed whole, with its value
//! if it has one; the connection goes on. Commands are not looked at here on a port without limits.

use super::text::parse_meta;
use super::{Command, Control, Fixed, Form, Limits, binary, text};
use crate::base::clock::Now;
use crate::base::rights::Rights;
use crate::orchestrator::Action;
use crate::tier::{Meta, MetaFlags, MetaVerb};

const REFUSED: Fixed = Fixed::new(b"CLIENT_ERROR not allowed on this port\r\n");

/// The command, or the refusal in its place.
#[cold]
pub fn checked<'a>(command: Command<'a>, rights: Rights, limits: &Limits, now: Now) -> Command<'a> {
    let (form, skip_bytes) = match &command {
        Command::Operation { request, skip_bytes } if !may(request.action, rights) => {
            (request.form, *skip_bytes)
        }
        &Command::Store { ref request, value_bytes, is_text } if !rights.may_write() => {
            (request.form, value_bytes + if is_text { 2 } else { 0 })
        }
        Command::Keys(keys) if keys.expiry.is_some() && !rights.may_write() => {
            return Command::BadLine { reply: REFUSED };
        }
        Command::Meta { line } if !rights.may_write() => match parse_meta(line, limits, now) {
            Ok(meta) if writes(&meta.meta) => {
                let skip_bytes = if meta.meta.is_store() { meta.value_bytes + 2 } else { 0 };
                (Form::Text(text::Form::Line), skip_bytes)
            }
            _ => return command,
        },
        Command::Dump { .. } | Command::Watch(_) if !rights.may_administer() => {
            (Form::Text(text::Form::Line), 0)
        }
        &Command::Control { control, form } if !rights.may_administer() && changes(control) => {
            (form, 0)
        }
        _ => return command,
    };
    Command::Bad { reply: refusal(form), skip_bytes, close: false }
}

fn may(action: Action, rights: Rights) -> bool {
    match action {
        Action::Get | Action::GetWithExpiry => true,
        Action::FlushAll { .. } => rights.may_flush(),
        Action::Dump { .. } => rights.may_administer(),
        Action::Meta(meta) => rights.may_write() || !writes(&meta),
        Action::GetAndTouch { .. }
        | Action::Store(_)
        | Action::StoreTooLarge
        | Action::StoreNoRoom
        | Action::Delete { .. }
        | Action::Touch { .. }
        | Action::Arithmetic(_) => rights.may_write(),
    }
}

/// Whether a meta command asks for a change. An mg that finds a stale item may still be told to
/// fetch it again: its line does not say so.
fn writes(meta: &Meta) -> bool {
    let changing = [MetaFlags::TOUCH, MetaFlags::VIVIFY, MetaFlags::RECACHE];
    match meta.verb {
        MetaVerb::Get => changing.into_iter().any(|flag| meta.has(flag)),
        MetaVerb::Debug => false,
        MetaVerb::Store(_) | MetaVerb::Delete | MetaVerb::Count { .. } => true,
    }
}

fn changes(control: Control<'_>) -> bool {
    match control {
        Control::Noop | Control::Version => false,
        Control::Stats(words) => words.trim_ascii().starts_with(b"reset"),
        Control::Verbosity(_) | Control::Shutdown { .. } => true,
    }
}

fn refusal(form: Form) -> Fixed {
    match form {
        Form::Text(text::Form::Silent) => Fixed::NONE,
        Form::Text(_) => REFUSED,
        Form::Binary(form) => binary::refusal(form),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Step, testing};
    use super::*;

    const LIMITS: Limits = Limits { shutdown: true, meta: true, ..Limits::DEFAULT };

    /// The answer of a refusal and the bytes it discards; None: the command is carried out.
    fn refused(input: &[u8], rights: Rights) -> Option<(Vec<u8>, usize)> {
        let step = match input[0] {
            binary::MAGIC_REQUEST => binary::parse(input, &LIMITS, testing::NOW),
            _ => text::parse(input, &LIMITS, testing::NOW),
        };
        let Step::Done { command, .. } = step else { panic!("a whole line") };
        match checked(command, rights, &LIMITS, testing::NOW) {
            Command::Bad { reply, skip_bytes, close } => {
                assert!(!close);
                Some((reply.as_bytes().to_vec(), skip_bytes))
            }
            Command::BadLine { reply } => Some((reply.as_bytes().to_vec(), 0)),
            _ => None,
        }
    }

    #[test]
    fn a_read_only_port_reads() {
        let no = REFUSED.as_bytes().to_vec();
        for (line, discarded) in [
            ("set a 0 0 3\r\n", 5),
            ("append a 0 0 3\r\n", 5),
            ("cas a 0 0 3 1\r\n", 5),
            ("set a 0 0 9999999\r\n", 10_000_001),
            ("delete a\r\n", 0),
            ("incr a 1\r\n", 0),
            ("touch a 1\r\n", 0),
            ("gat 1 a b\r\n", 0),
            ("flush_all\r\n", 0),
            ("ms a 3\r\n", 5),
            ("ms a 3 q\r\n", 5),
            ("md a\r\n", 0),
            ("ma a q\r\n", 0),
            ("mg a T1\r\n", 0),
            ("mg a v N1\r\n", 0),
            ("mg a R1\r\n", 0),
        ] {
            assert_eq!(
                refused(line.as_bytes(), Rights::READ_ONLY),
                Some((no.clone(), discarded)),
                "{line}"
            );
            assert_ne!(
                refused(line.as_bytes(), Rights::NO_ADMIN),
                Some((no.clone(), discarded)),
                "{line}"
            );
        }
        for line in ["set a 0 0 3 noreply\r\n", "flush_all noreply\r\n", "delete a noreply\r\n"] {
            let (reply, _) = refused(line.as_bytes(), Rights::READ_ONLY).expect(line);
            assert!(reply.is_empty(), "{line}");
        }
        for line in
            ["get a b\r\n", "gets a\r\n", "mg a v t k\r\n", "me a\r\n", "version\r\n", "stats\r\n"]
        {
            assert_eq!(
                refused(line.as_bytes(), Rights::READ_ONLY.and(Rights::NO_ADMIN)),
                None,
                "{line}"
            );
        }
        assert_eq!(refused(b"verbosity 1\r\n", Rights::READ_ONLY), None);
    }

    #[test]
    fn the_server_is_left_as_it_is_without_the_right_to_change_it() {
        for line in
            ["verbosity 1\r\n", "shutdown\r\n", "stats reset\r\n", "lru_crawler metadump all\r\n"]
        {
            assert!(refused(line.as_bytes(), Rights::NO_ADMIN).is_some(), "{line}");
            assert_eq!(refused(line.as_bytes(), Rights::NO_FLUSH), None, "{line}");
        }
        assert!(refused(b"flush_all\r\n", Rights::NO_FLUSH).is_some());
        assert_eq!(refused(b"flush_all\r\n", Rights::NO_ADMIN), None);
        assert_eq!(refused(b"set a 0 0 1\r\n", Rights::NO_FLUSH.and(Rights::NO_ADMIN)), None);
    }

    #[test]
    fn binary_commands_are_refused_with_a_status() {
        // Opcodes: Set, SetQ, Delete, Increment, Flush, FlushQ, Touch, GAT.
        for (opcode, extras, value) in [
            (0x01, 8, 5),
            (0x11, 8, 5),
            (0x04, 0, 0),
            (0x05, 20, 0),
            (0x08, 0, 0),
            (0x18, 0, 0),
            (0x1c, 4, 0),
            (0x1d, 4, 0),
        ] {
            let key: &[u8] = if matches!(opcode, 0x08 | 0x18) { b"" } else { b"k" };
            let mut packet =
                vec![binary::MAGIC_REQUEST, opcode, 0, key.len() as u8, extras, 0, 0, 0];
            packet.extend((u32::from(extras) + key.len() as u32 + value as u32).to_be_bytes());
            packet.extend([7, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
            packet.extend(vec![0; usize::from(extras)]);
            packet.extend(key);
            let (reply, discarded) = refused(&packet, Rights::READ_ONLY).expect("refused");
            assert_eq!(discarded, value, "{opcode:#x}");
            assert_eq!((reply[0], reply[1], &reply[6..8]), (0x81, opcode, &[0, 0x20][..]));
            assert_eq!(reply[12..16], [7; 4], "the opaque");
        }
        let get = [&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 12], b"k"].concat();
        assert_eq!(refused(&get, Rights::READ_ONLY), None);
    }
}
