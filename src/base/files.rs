//! Reading what somebody else wrote, of which nobody knows how long it is or what is in it. It must
//! never wait, and never read without end.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Most bytes that are read of a file: the kernel's list of interrupts on a host with hundreds of
/// cores has a few hundred thousand.
const BYTES_MAX: u64 = 4 << 20;

/// The text of a file, up to [`BYTES_MAX`]; what is not UTF-8 is replaced. None: it cannot be read.
pub fn text(path: &Path) -> Option<String> {
    // Whoever opens a pipe would wait for its other end.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_long_or_no_text_is_read_as_far_as_it_goes() {
        let path = std::env::temp_dir().join(format!("sunder-files-{}", std::process::id()));
        fs::write(&path, vec![0xff; BYTES_MAX as usize + 7]).expect("written");
        let text = super::text(&path).expect("it is there");
        assert_eq!(text.chars().count() as u64, BYTES_MAX);
        assert!(text.chars().all(|c| c == char::REPLACEMENT_CHARACTER));
        fs::remove_file(&path).expect("removed");
        assert_eq!(super::text(&path), None);
    }
}
