//! What the clients of a port may do: `--rights`.

use super::{Parsed, ValueError};
use crate::base::rights::Rights;

/// Words with commas between them; each takes something away.
///
/// # Errors
/// If one of them is none.
pub(crate) fn rights(text: &str) -> Parsed<Rights> {
    text.split(',').try_fold(Rights::ALL, |rights, word| {
        let word = match word {
            "all" => Rights::ALL,
            "read-only" => Rights::READ_ONLY,
            "no-flush" => Rights::NO_FLUSH,
            "no-admin" => Rights::NO_ADMIN,
            _ => {
                let expected = "read-only, no-flush, no-admin or all, a comma between two";
                return Err(ValueError::new(word, expected));
            }
        };
        Ok(rights.and(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_takes_something_away() {
        let both = rights("no-flush,no-admin").expect("two words");
        assert!(both.may_write() && !both.may_flush() && !both.may_administer());
        let read = rights("read-only").expect("a word");
        assert!(!read.may_write() && !read.may_flush() && read.may_administer());
        assert_eq!(rights("all").ok(), Some(Rights::ALL));
        for wrong in ["", "readonly", "read-only,", "no-flush no-admin"] {
            let line = rights(wrong).expect_err(wrong).to_string();
            assert!(line.contains("expected read-only"), "{line}");
        }
    }
}
