//! A command line split into words, and the numbers in it.
//!
//! memcached reads a line as a C string: words are separated by runs of spaces, a NUL ends the line
//! early, and numbers are what `strtol` and `strtoull` return. Oddities here follow from that.
//! Nothing here may read past the line's end.

use memchr::memchr;

/// Words of one line that a command may read; the longest command is `cas` with `noreply`.
const WORDS_KEPT: usize = 8;

/// Most words into which memcached splits a line; a line with more counts as having this many.
const WORDS_MAX: usize = 23;

/// The high bit of each byte of `chunk` that is a space or less. Every byte that can end a word is
/// among these, and few bytes of a word are.
#[inline]
fn low_bytes(chunk: [u8; 8]) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let chunk = u64::from_le_bytes(chunk);
    // Without its high bit, a byte above the space reaches 0x80 here; none reaches 0x100.
    let reached = (chunk & (ONES * 0x7f)) + ONES * (0x7f - b' ' as u64);
    !(reached | chunk) & (ONES << 7)
}

/// Position of the first byte that is a space or less.
#[inline]
pub(in crate::protocol) fn find_low(bytes: &[u8]) -> Option<usize> {
    let (chunks, _) = bytes.as_chunks();
    for (index, chunk) in chunks.iter().enumerate() {
        let low = low_bytes(*chunk);
        if low != 0 {
            return Some(index * 8 + (low.trailing_zeros() / 8) as usize);
        }
    }
    match bytes.last_chunk() {
        // The first of these were checked already.
        Some(chunk) => {
            let low = low_bytes(*chunk);
            (low != 0).then(|| bytes.len() - 8 + (low.trailing_zeros() / 8) as usize)
        }
        None => bytes.iter().position(|&byte| byte <= b' '),
    }
}

/// Position of the first byte that ends a word: a space, a newline or a NUL.
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
}

impl<'a> Words<'a> {
    /// No words; for [`Words::read`].
    #[inline]
    pub(super) fn new() -> Words<'a> {
        Words { line: b"", words: [b""; WORDS_KEPT], count: 0, last: b"" }
    }

    /// Splits the first line of `input`, and returns its length with its end. None if it is
    /// incomplete.
    #[inline]
    pub(super) fn read(&mut self, input: &'a [u8]) -> Option<usize> {
        let (chunks, tail) = input.as_chunks();
        // Padding after the input that ends no word.
        let mut last = [u8::MAX; 8];
        last[..tail.len()].copy_from_slice(tail);
        let mut start = 0;
        for (index, chunk) in chunks.iter().chain([&last]).enumerate() {
            let mut low = low_bytes(*chunk);
            while low != 0 {
                let at = index * 8 + (low.trailing_zeros() / 8) as usize;
                low &= low - 1;
                match input[at] {
                    b' ' => self.push(&input[start..at]),
                    b'\n' => {
                        let word = &input[start..at];
                        self.push(word.strip_suffix(b"\r").unwrap_or(word));
                        return Some(self.end(input, at));
                    }
                    0 => {
                        self.push(&input[start..at]);
                        return Some(self.end(input, at + memchr(b'\n', &input[at..])?));
                    }
                    _ => continue,
                }
                start = at + 1;
                if self.count == WORDS_MAX {
                    return Some(self.end(input, at + memchr(b'\n', &input[at..])?));
                }
            }
        }
        None
    }

    #[inline]
    fn push(&mut self, word: &'a [u8]) {
        if word.is_empty() {
            return;
        }
        if self.count < WORDS_KEPT {
            self.words[self.count] = word;
        }
        self.last = word;
        self.count += 1;
    }

    #[inline]
    fn end(&mut self, input: &'a [u8], newline: usize) -> usize {
        let line = &input[..newline];
        self.line = line.strip_suffix(b"\r").unwrap_or(line);
        newline + 1
    }

    /// Number of words, including the command.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Word `index`, 0 being the command; empty if there are fewer words.
    #[inline]
    pub(super) fn get(&self, index: usize) -> &'a [u8] {
        self.words[index]
    }

    /// The last word.
    pub(super) fn last(&self) -> &'a [u8] {
        self.last
    }

    /// Whether the last word is `noreply`.
    #[inline]
    pub(super) fn noreply(&self) -> bool {
        self.last == b"noreply"
    }

    /// Position of the end of word `index`, which must exist.
    pub(super) fn end_of(&self, index: usize) -> usize {
        let word = self.words[index];
        word.as_ptr() as usize - self.line.as_ptr() as usize + word.len()
    }

    /// All words after word `index`.
    pub(super) fn behind(&self, index: usize) -> Rest<'a> {
        Rest { line: self.line, at: self.end_of(index) }
    }

    /// The bytes after word `index`, without spaces around them.
    pub(super) fn text_behind(&self, index: usize) -> &'a [u8] {
        let text = &self.line[self.end_of(index)..];
        let text = &text[..memchr(0, text).unwrap_or(text.len())];
        let Some(first) = text.iter().position(|&byte| byte != b' ') else { return b"" };
        let Some(last) = text.iter().rposition(|&byte| byte != b' ') else { return b"" };
        &text[first..=last]
    }
}

/// The words from some position in a line on.
#[derive(Debug)]
pub(super) struct Rest<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Rest<'a> {
    type Item = &'a [u8];

    #[inline(always)]
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

/// The bytes that C's `isspace` accepts.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// A number of only digits, few enough not to overflow: what clients send.
#[inline]
fn plain_number(word: &[u8]) -> Option<u64> {
    if word.is_empty() || word.len() > 18 {
        return None;
    }
    let mut number = 0;
    for &byte in word {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    Some(number)
}

/// Sign and magnitude of the decimal number at the start of `word`; None if there is none, if it is
/// above 2^64 - 1, or if it is followed by anything but a space.
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

/// A number as memcached's `safe_strtoull` reads it: a minus sign wraps, as in C, unless the result
/// is 2^63 or more.
#[inline]
pub(super) fn unsigned(word: &[u8]) -> Option<u64> {
    match plain_number(word) {
        Some(number) => Some(number),
        None => odd_unsigned(word),
    }
}

#[cold]
fn odd_unsigned(word: &[u8]) -> Option<u64> {
    match number(word)? {
        (false, size) => Some(size),
        (true, size) => {
            let wrapped = size.wrapping_neg();
            (wrapped >> 63 == 0).then_some(wrapped)
        }
    }
}

/// A number as memcached's `safe_strtoul` reads it: the low 32 bits of the result of `strtoul`.
#[inline]
pub(super) fn unsigned_32(word: &[u8]) -> Option<u32> {
    unsigned(word).map(|number| number as u32)
}

/// A number as memcached's `safe_strtol` reads it: the low 32 bits of the result of `strtol`.
#[inline]
pub(super) fn signed_32(word: &[u8]) -> Option<i32> {
    match plain_number(word) {
        Some(number) => Some(number as i32),
        None => odd_signed_32(word),
    }
}

#[cold]
fn odd_signed_32(word: &[u8]) -> Option<i32> {
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

    fn words(line: &[u8]) -> Words<'_> {
        let mut words = Words::new();
        assert_eq!(words.read(line), Some(line.len()));
        words
    }

    #[test]
    fn a_line_ends_with_or_without_a_carriage_return() {
        let read = |input| {
            let mut words = Words::new();
            words.read(input).map(|consumed| (words.last(), consumed))
        };
        assert_eq!(read(b"ab\r\ncd"), Some((&b"ab"[..], 4)));
        assert_eq!(read(b"ab\ncd"), Some((&b"ab"[..], 3)));
        assert_eq!(read(b"ab\r\r\n"), Some((&b"ab\r"[..], 5)));
        assert_eq!(read(b"ab \r\n"), Some((&b"ab"[..], 5)));
        assert_eq!(read(b"ab\0cd\r\n"), Some((&b"ab"[..], 7)));
        assert_eq!(read(b"\r\n"), Some((&b""[..], 2)));
        for incomplete in [&b""[..], b"ab\r", b"ab ", b"ab\0"] {
            assert_eq!(read(incomplete), None);
        }
    }

    #[test]
    fn low_bytes_are_found_at_every_position() {
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
    fn words_are_separated_by_spaces() {
        let words = words(b"  set  a 0   1 \r\n");
        assert_eq!(words.count(), 4);
        assert_eq!(words.get(0), b"set");
        assert_eq!(words.get(3), b"1");
        assert_eq!(words.get(4), b"");
        assert_eq!(words.last(), b"1");
        assert_eq!(words.end_of(1), 8);
        assert_eq!(words.text_behind(0), b"a 0   1");
        assert_eq!(words.text_behind(3), b"");
    }

    #[test]
    fn a_nul_ends_the_line() {
        assert_eq!(words(b"get a\0 b\n").count(), 2);
        assert_eq!(words(b"get a\0 b\n").text_behind(0), b"a");
        assert_eq!(words(b"\0get a\n").count(), 0);
        assert_eq!(words(b"stats \0a\n").text_behind(0), b"");
    }

    #[test]
    fn words_over_23_are_not_counted() {
        let line = [&b"w ".repeat(40)[..], b"\n"].concat();
        let words = words(&line);
        assert_eq!(words.count(), 23);
        assert_eq!(words.behind(0).count(), 39);
        assert_eq!(words.text_behind(0).len(), line.len() - 4);
    }

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        // Each row was checked with memcached 1.6.18.
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
