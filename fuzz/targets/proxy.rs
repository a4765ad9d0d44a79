//! Any bytes at the start of a connection that a load balancer has to introduce: they are a header,
//! no header, or the start of one, and what was refused or read stays so whatever follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sunder::net::kernel::proxy::header::{ProxyHeader, parse};

fuzz_target!(|input: &[u8]| {
    let whole = parse(input);
    if let ProxyHeader::Whole { bytes, .. } = whole {
        assert!(bytes <= input.len());
        assert_eq!(parse(&input[..bytes]), whole);
        assert_eq!(parse(&input[..bytes - 1]), ProxyHeader::NeedMore);
    }
    let shorter = parse(&input[..input.len() / 2]);
    if shorter != ProxyHeader::NeedMore {
        assert_eq!(parse(input), shorter);
    }
});
