//! Reads the number in a value as memcached reads it for incr and decr.
//!
//! memcached gives the value to C's strtoull and then looks at what follows the digits
//! (safe_strtoull in its util.c); probing 1.6.18 shows the consequences: white space and one sign
//! may come first, leading zeros do not count, and a value may go on with anything after white
//! space or a NUL.

fn is_space(byte: u8) -> bool {
    // C's isspace, which counts the vertical tab too.
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Bytes that are looked at together where many may have to be skipped.
const STRIDE_BYTES: usize = 64;

/// Bytes of a value, which lies in pieces.
struct Pieces<'a, I> {
    piece: &'a [u8],
    rest: I,
}

impl<'a, I: Iterator<Item = &'a [u8]>> Pieces<'a, I> {
    /// The next byte, which stays the next.
    fn peek(&mut self) -> Option<u8> {
        while self.piece.is_empty() {
            self.piece = self.rest.next()?;
        }
        Some(self.piece[0])
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.piece = &self.piece[1..];
        Some(byte)
    }

    /// Skips all bytes up to the first that is another; whether there were any. memcached reads on
    /// through a whole value, so this has to be quick.
    fn skip(&mut self, is_skipped: impl Fn(u8) -> bool) -> bool {
        let mut any = false;
        while self.peek().is_some() {
            let strides = self.piece.chunks_exact(STRIDE_BYTES).take_while(|stride| {
                // Not `all`: without a way out in the middle it is done many bytes at a time.
                stride.iter().fold(true, |all, &byte| all & is_skipped(byte))
            });
            let mut n = strides.count() * STRIDE_BYTES;
            n += self.piece[n..].iter().take_while(|&&byte| is_skipped(byte)).count();
            any |= n > 0;
            self.piece = &self.piece[n..];
            if !self.piece.is_empty() {
                break;
            }
        }
        any
    }
}

/// The number at the start of a value in `pieces`, or None if there is none or it is above
/// 2^64 - 1.
pub fn parse<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<u64> {
    let mut bytes = Pieces { piece: &[], rest: pieces };
    bytes.skip(is_space);
    let minus = bytes.peek() == Some(b'-');
    if matches!(bytes.peek(), Some(b'-' | b'+')) {
        bytes.next();
    }
    let mut number: Option<u64> = bytes.skip(|byte| byte == b'0').then_some(0);
    while let Some(byte) = bytes.next() {
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
            for piece_bytes in 1..=bytes.len().max(1) {
                let pieces = bytes.chunks(piece_bytes);
                assert_eq!(parse(pieces), expected, "{:?}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn any_number_of_spaces_and_zeros_may_come_first() {
        for n in [1, 19, 20, 63, 64, 65, 100, 1000, 499_999] {
            for (fill, end, expected) in [
                (b' ', &b"5"[..], Some(5)),
                (b'0', b"5", Some(5)),
                (b'0', b" ", Some(0)),
                (b' ', b"x", None),
                (b'0', b"x", None),
            ] {
                let value = [&vec![fill; n][..], end].concat();
                for piece_bytes in [7, 64, 4096, value.len()] {
                    let found = parse(value.chunks(piece_bytes));
                    assert_eq!(found, expected, "{n} of {fill}, then {}", end.escape_ascii());
                }
            }
        }
    }
}
