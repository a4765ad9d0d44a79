//! Any bytes, as a binary client's: every packet is read to its end, at every step what the parser
//! says must hold, and a packet cut short must not be taken for a whole one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sunder::base::clock::Now;
use sunder::base::limits::{BINARY_BODY_BYTES_MAX, KEY_BYTES_MAX};
use sunder::protocol::{Command, Limits, Step, binary};

const NOW: Now = Now { uptime_us: 0, unix_s: 1_800_000_000 };
const LIMITS: Limits = Limits { shutdown: true, meta: true, ..Limits::DEFAULT };

fuzz_target!(|input: &[u8]| {
    let mut input = input;
    while let Step::Done { command, consumed } = binary::parse(input, &LIMITS, NOW) {
        assert!(0 < consumed && consumed <= input.len());
        let packet = &input[..consumed];
        input = &input[consumed..];
        let skip_bytes = match command {
            Command::Operation { request, skip_bytes } => {
                assert!(request.key.len() <= KEY_BYTES_MAX);
                skip_bytes
            }
            Command::Store { request, value_bytes, is_text } => {
                assert!(!is_text && !request.key.is_empty());
                assert!(LIMITS.fits(request.key.len(), 0, value_bytes));
                value_bytes
            }
            Command::Bad { close: true, .. } | Command::Quit { .. } => return,
            Command::Bad { skip_bytes, .. } => skip_bytes,
            Command::Control { .. }
            | Command::Dump { .. }
            | Command::Watch(_)
            | Command::BadLine { .. } => 0,
            Command::Keys(_) | Command::Meta { .. } => unreachable!("text only"),
        };
        assert!(skip_bytes <= BINARY_BODY_BYTES_MAX);
        let short = binary::parse(&packet[..consumed - 1], &LIMITS, NOW);
        assert!(matches!(short, Step::NeedMore));
        input = &input[skip_bytes.min(input.len())..];
    }
});
