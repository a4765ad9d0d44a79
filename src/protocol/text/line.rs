//! A command line cut into words, and the numbers in it.
//!
//! memcached reads a line as a C string: words are separated by runs of spaces, a NUL ends the line
//! early, and numbers are what `strtol` and `strtoull` make of them. What looks odd here is that.
//! Nothing here may look past the line's end.

use memchr::memchr;

/// Words of one line that a command may look at; the longest command is `cas` with `noreply`.
const WORDS_KEPT: usize = 8;

/// Words that memcached cuts from a line at most; a line with more counts as having this many.
const WORDS_MAX: usize = 23;

/// The first line of `input` without its end, and its length with it; None if it is not all there.
#[inline]
pub(super) fn first_line(input: &[u8]) -> Option<(&[u8], usize)> {
    let newline = memchr(b'\n', input)?;
    let line = &input[..newline];
    Some((line.strip_suffix(b"\r").unwrap_or(line), newline + 1))
}

/// Where the first byte up to and including the space is: all that can end a word are among these,
/// and few bytes of a word are. Eight bytes at a time.
#[inline]
pub(super) fn find_low(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk() {
        let chunk = u64::from_le_bytes(*chunk);
        // The high bit of each byte that is less than 0x21; above the first such byte a borrow may
        // set more of them, below it none.
        let low = chunk.wrapping_sub(ONES * 0x21) & !chunk & HIGHS;
        if low != 0 {
            return Some(at + (low.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let tail = &bytes[at..];
    tail.iter().position(|&byte| byte <= b' ').map(|found| at + found)
}

/// Where the first byte is that ends a word in the middle of input that may hold more lines.
#[inline]
pub(super) fn find_word_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += find_low(&bytes[at..])?;
        match bytes[at] {
            b' ' | b'\n' | 0 => return Some(at),
            _ => at += 1,
        }
    }
}

/// The words of one line.
#[derive(Debug)]
pub(super) struct Words<'a> {
    line: &'a [u8],
    words: [&'a [u8]; WORDS_KEPT],
    count: usize,
    last: &'a [u8],
    /// Where the line ends: at a NUL, or with its last byte.
    end: usize,
}

impl<'a> Words<'a> {
    /// Cuts `line`.
    pub(super) fn of(line: &'a [u8]) -> Words<'a> {
        let mut words = Words { line, words: [b""; WORDS_KEPT], count: 0, last: b"", end: 0 };
        let mut rest = Rest { line, at: 0 };
        while words.count < WORDS_MAX {
            let Some(word) = rest.next() else { break };
            if words.count < WORDS_KEPT {
                words.words[words.count] = word;
            }
            words.last = word;
            words.count += 1;
        }
        words.end = match words.count {
            WORDS_MAX => memchr(0, line).unwrap_or(line.len()),
            _ => rest.at,
        };
        words
    }

    /// How many there are, the command included.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Word `index`, 0 being the command; empty if there are not as many.
    #[inline]
    pub(super) fn get(&self, index: usize) -> &'a [u8] {
        self.words[index]
    }

    /// The last word.
    pub(super) fn last(&self) -> &'a [u8] {
        self.last
    }

    /// Whether the last word asks for silence.
    #[inline]
    pub(super) fn noreply(&self) -> bool {
        self.last == b"noreply"
    }

    /// Where in the line word `index` ends. It must be one that there is.
    pub(super) fn end_of(&self, index: usize) -> usize {
        let word = self.words[index];
        word.as_ptr() as usize - self.line.as_ptr() as usize + word.len()
    }

    /// All words behind word `index`.
    pub(super) fn behind(&self, index: usize) -> Rest<'a> {
        Rest { line: self.line, at: self.end_of(index) }
    }

    /// The bytes behind word `index`, without spaces around them.
    pub(super) fn text_behind(&self, index: usize) -> &'a [u8] {
        let text = &self.line[self.end_of(index)..self.end];
        let Some(first) = text.iter().position(|&byte| byte != b' ') else { return b"" };
        let Some(last) = text.iter().rposition(|&byte| byte != b' ') else { return b"" };
        &text[first..=last]
    }
}

/// The words from some place in a line on.
#[derive(Debug)]
pub(super) struct Rest<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Rest<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.line;
        let mut at = self.at;
        while at < line.len() && line[at] == b' ' {
            at += 1;
        }
        let start = at;
        at += find_word_end(&line[at..]).unwrap_or(line.len() - at);
        self.at = at;
        if start < at { Some(&line[start..at]) } else { None }
    }
}

/// What C's `isspace` calls a space.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Sign and size of the decimal number that `word` starts with; None if it has none, if it is more
/// than 2^64 - 1, or if anything but a space follows it.
fn number(word: &[u8]) -> Option<(bool, u64)> {
    let mut at = 0;
    while at < word.len() && is_space(word[at]) {
        at += 1;
    }
    let negative = word.get(at) == Some(&b'-');
    if negative || word.get(at) == Some(&b'+') {
        at += 1;
    }
    let start = at;
    let mut size: u64 = 0;
    while let Some(digit) = word.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|&d| d < 10) {
        size = size.checked_mul(10)?.checked_add(u64::from(digit))?;
        at += 1;
    }
    let ends = word.get(at).is_none_or(|&byte| is_space(byte));
    (at > start && ends).then_some((negative, size))
}

/// A number as memcached's `safe_strtoull` reads it: a minus sign wraps, as it does in C, unless
/// the result is 2^63 or more.
pub(super) fn unsigned(word: &[u8]) -> Option<u64> {
    match number(word)? {
        (false, size) => Some(size),
        (true, size) => {
            let wrapped = size.wrapping_neg();
            (wrapped >> 63 == 0).then_some(wrapped)
        }
    }
}

/// A number as memcached's `safe_strtoul` reads it: of what `strtoul` gives, the low 32 bits.
pub(super) fn unsigned_32(word: &[u8]) -> Option<u32> {
    unsigned(word).map(|number| number as u32)
}

/// A number as memcached's `safe_strtol` reads it: of what `strtol` gives, the low 32 bits.
pub(super) fn signed_32(word: &[u8]) -> Option<i32> {
    let (negative, size) = number(word)?;
    let number = match negative {
        false => i64::try_from(size).ok()?,
        true => 0_i64.checked_sub_unsigned(size)?,
    };
    Some(number as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_or_without_a_carriage_return() {
        assert_eq!(first_line(b"ab\r\ncd"), Some((&b"ab"[..], 4)));
        assert_eq!(first_line(b"ab\ncd"), Some((&b"ab"[..], 3)));
        assert_eq!(first_line(b"ab\r\r\n"), Some((&b"ab\r"[..], 5)));
        assert_eq!(first_line(b"\r\n"), Some((&b""[..], 2)));
        assert_eq!(first_line(b"ab\r"), None);
    }

    #[test]
    fn low_bytes_are_found_wherever_they_are() {
        for len in 0..40 {
            for at in 0..len {
                for low in [0, b'\t', b'\n', b'\r', 0x1f, b' '] {
                    for other in [b'!', b'a', 0x7f, 0x80, 0xff] {
                        let mut bytes = vec![other; len];
                        assert_eq!(find_low(&bytes), None);
                        bytes[at] = low;
                        bytes[at + 1..].fill(b' ');
                        assert_eq!(find_low(&bytes), Some(at));
                    }
                }
            }
        }
        assert_eq!(find_word_end(b"a\tb\rc\nd "), Some(5));
        assert_eq!(find_word_end(b"\t\t\t"), None);
    }

    #[test]
    fn words_are_what_is_between_spaces() {
        let words = Words::of(b"  set  a 0   1 ");
        assert_eq!(words.count(), 4);
        assert_eq!(words.get(0), b"set");
        assert_eq!(words.get(3), b"1");
        assert_eq!(words.get(4), b"");
        assert_eq!(words.last(), b"1");
        assert_eq!(words.end_of(1), 8);
        assert_eq!(words.text_behind(0), b"a 0   1");
        assert_eq!(words.text_behind(3), b"");
        assert_eq!(Words::of(b"   ").count(), 0);
    }

    #[test]
    fn a_nul_ends_the_line() {
        let words = Words::of(b"get a\0 b");
        assert_eq!(words.count(), 2);
        assert_eq!(words.text_behind(0), b"a");
        assert_eq!(Words::of(b"\0get a").count(), 0);
        assert_eq!(Words::of(b"stats \0a").text_behind(0), b"");
    }

    #[test]
    fn words_over_23_are_not_counted() {
        let line = b"w ".repeat(40);
        let words = Words::of(&line);
        assert_eq!(words.count(), 23);
        assert_eq!(words.behind(0).count(), 39);
        assert_eq!(words.text_behind(0).len(), line.len() - 3);
    }

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        // Each row was asked of memcached 1.6.18.
        assert_eq!(unsigned(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(unsigned(b"18446744073709551616"), None);
        assert_eq!(unsigned(b"+3"), Some(3));
        assert_eq!(unsigned(b"1\tx"), Some(1));
        assert_eq!(unsigned(b"\t1"), Some(1));
        assert_eq!(unsigned(b"1x"), None);
        assert_eq!(unsigned(b"-1"), None);
        assert_eq!(unsigned(b"-18446744073709551615"), Some(1));
        assert_eq!(unsigned(b"-18446744073709551616"), None);
        for not_a_number in [&b""[..], b"-", b"+", b"+-1", b"0x10", b"abc", b"\t", b"\x80"] {
            assert_eq!(unsigned(not_a_number), None);
            assert_eq!(signed_32(not_a_number), None);
        }
        assert_eq!(unsigned_32(b"4294967296"), Some(0));
        assert_eq!(unsigned_32(b"18446744073709551615"), Some(u32::MAX));
        assert_eq!(unsigned_32(b"-5000000000"), None);
        assert_eq!(unsigned_32(b"-9223372036854775808"), None);
        assert_eq!(unsigned_32(b"-9223372036854775809"), Some(u32::MAX));
        assert_eq!(signed_32(b"-1"), Some(-1));
        assert_eq!(signed_32(b"4294967295"), Some(-1));
        assert_eq!(signed_32(b"4294967297"), Some(1));
        assert_eq!(signed_32(b"9223372036854775807"), Some(-1));
        assert_eq!(signed_32(b"9223372036854775808"), None);
        assert_eq!(signed_32(b"-9223372036854775808"), Some(0));
        assert_eq!(signed_32(b"-9223372036854775809"), None);
    }
}
