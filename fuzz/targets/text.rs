//! Any bytes, as a text client's: every command is read to its end, at every step what the parser
//! says must hold, and a line cut short must not be taken for a whole one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sunder::base::clock::Now;
use sunder::base::limits::{KEY_BYTES_MAX, LINE_BYTES_MAX};
use sunder::protocol::text::{self, KeyStep};
use sunder::protocol::{Command, Limits, Step};

const NOW: Now = Now { uptime_us: 0, unix_s: 1_800_000_000 };
const LIMITS: Limits = Limits { shutdown: true, meta: true, ..Limits::DEFAULT };

fn skip_keys(mut input: &[u8]) -> &[u8] {
    loop {
        match text::next_key(input) {
            KeyStep::NeedMore => return b"",
            KeyStep::Key { key, consumed } => {
                assert!(!key.is_empty() && key.len() <= KEY_BYTES_MAX);
                assert!(!key.iter().any(|byte| b" \n\0".contains(byte)));
                input = &input[consumed..];
            }
            KeyStep::End { consumed } => return &input[consumed..],
            KeyStep::Bad { consumed, .. } => {
                input = &input[consumed..];
                return &input[text::skip_line(input).unwrap_or(input.len())..];
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = input;
    while let Step::Done { command, consumed } = text::parse(input, &LIMITS, NOW) {
        assert!(0 < consumed && consumed <= input.len());
        let line = &input[..consumed];
        input = &input[consumed..];
        let is_line = line.ends_with(b"\n");
        if is_line && line.len() <= LINE_BYTES_MAX {
            let short = text::parse(&line[..line.len() - 1], &LIMITS, NOW);
            assert!(matches!(short, Step::NeedMore));
        }
        let skip_bytes = match command {
            Command::Operation { request, skip_bytes } => {
                assert!(request.key.len() <= KEY_BYTES_MAX);
                skip_bytes
            }
            Command::Store { request, value_bytes, is_text } => {
                assert!(is_text && !request.key.is_empty());
                assert!(LIMITS.fits(request.key.len(), 0, value_bytes));
                value_bytes + 2
            }
            Command::Meta { line } => match text::parse_meta(line, &LIMITS, NOW) {
                Ok(meta) => {
                    assert!(meta.key_in(&mut [0; KEY_BYTES_MAX]).len() <= KEY_BYTES_MAX);
                    if let Some(plain) = text::parse_plain_meta(line) {
                        assert_eq!((plain.key, plain.opaque), (meta.key, meta.opaque));
                        assert_eq!((plain.form, plain.consumed), (meta.form, line.len()));
                    }
                    if meta.meta.is_store() { meta.value_bytes + 2 } else { 0 }
                }
                Err(text::MetaRefusal { skip_bytes, .. }) => {
                    assert!(text::parse_plain_meta(line).is_none());
                    skip_bytes
                }
            },
            Command::Keys(_) => {
                assert!(!is_line);
                input = skip_keys(input);
                0
            }
            Command::Bad { close: true, .. } | Command::Quit { .. } => return,
            Command::Bad { skip_bytes, .. } => skip_bytes,
            Command::Control { .. }
            | Command::Dump { .. }
            | Command::Watch(_)
            | Command::BadLine { .. } => 0,
        };
        input = &input[skip_bytes.min(input.len())..];
    }
});
