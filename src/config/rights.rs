//! What the clients of a port may do: `--rights`.

use super::{Parsed, ValueError};
use crate::base::rights::Rights;

const ALL: &str = "all";

/// Comma-separated words, each of which takes something away; or `all`, alone.
///
/// # Errors
/// If one of them is none.
pub(crate) fn rights(text: &str) -> Parsed<Rights> {
    if text == ALL {
        return Ok(Rights::ALL);
    }
    text.split(',').try_fold(Rights::ALL, |rights, word| {
        let word = match word {
            ALL => return Err(ValueError::new(text, "all alone, or other words without it")),
            "read-only" => Rights::READ_ONLY,
            "no-flush" => Rights::NO_FLUSH,
            "no-admin" => Rights::NO_ADMIN,
            _ => {
                let expected = "all, or comma-separated: read-only, no-flush, no-admin";
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
        for wrong in ["read-only,all", "all,no-flush", "all,all"] {
            let line = rights(wrong).expect_err(wrong).to_string();
            assert!(line.contains("expected all alone"), "{line}");
        }
        for (rights, text) in [(both, "no-flush,no-admin"), (read, "read-only")] {
            assert_eq!(rights.to_string(), text);
        }
        for wrong in ["", "readonly", "read-only,", "no-flush no-admin"] {
            let line = rights(wrong).expect_err(wrong).to_string();
            assert!(line.contains("comma-separated: read-only"), "{line}");
        }
    }
}
