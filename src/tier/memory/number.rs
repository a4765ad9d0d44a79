//! Reads the number in a value as memcached reads it for incr and decr.
//!
//! memcached gives the value to C's strtoull and then looks at what follows the digits
//! (safe_strtoull in its util.c); probing 1.6.18 shows the consequences: white space and one sign
//! may come first, leading zeros do not count, and a value may go on with anything after white
//! space or a NUL.

fn is_space(byte: u8) -> bool {
    // C's isspace, which counts the vertical tab too.
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// The number at the start of `bytes`, or None if there is none or it is above 2^64 - 1.
pub fn parse(bytes: impl Iterator<Item = u8>) -> Option<u64> {
    let mut bytes = bytes.skip_while(|&byte| is_space(byte)).peekable();
    let minus = bytes.peek() == Some(&b'-');
    if matches!(bytes.peek(), Some(b'-' | b'+')) {
        bytes.next();
    }
    let mut number: Option<u64> = None;
    for byte in bytes {
        match byte {
            b'0'..=b'9' => {
                let so_far = number.unwrap_or(0).checked_mul(10)?;
                number = Some(so_far.checked_add(u64::from(byte - b'0'))?);
            }
            0 => break,
            _ if is_space(byte) => break,
            _ => return None,
        }
    }
    let number = number?;
    if !minus {
        return Some(number);
    }
    // strtoull negates modulo 2^64; memcached refuses what then looks negative.
    let negated = number.wrapping_neg();
    if negated > i64::MAX as u64 { None } else { Some(negated) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row was sent to memcached 1.6.18 as a value, and then `incr 1`.
    #[test]
    fn numbers_are_read_as_memcached_reads_them() {
        let rows: [(&[u8], Option<u64>); 22] = [
            (b"5", Some(5)),
            (b" 5", Some(5)),
            (b"\t5", Some(5)),
            (b"5\x0b", Some(5)),
            (b"+5", Some(5)),
            (b"-5", None),
            (b"-0", Some(0)),
            (b"5 x", Some(5)),
            (b"5x", None),
            (b"", None),
            (b" ", None),
            (b"+", None),
            (b"-+5", None),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"000000000000000000000000000005", Some(5)),
            (b"-18446744073709551615", Some(1)),
            (b"5\0", Some(5)),
            (b"5\0x", Some(5)),
            (b"5\r", Some(5)),
            (b"111111111111111111111111111111", None),
            (b"0x10", None),
        ];
        for (bytes, expected) in rows {
            assert_eq!(parse(bytes.iter().copied()), expected, "{:?}", bytes.escape_ascii());
        }
    }
}
