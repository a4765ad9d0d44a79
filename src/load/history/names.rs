//! What a run's keys are called on the wire.

use std::collections::HashMap;
use std::rc::Rc;

/// The names of keys 0, 1, ..; cheap to clone.
#[derive(Clone, Debug)]
pub struct Names(Rc<Both>);

#[derive(Debug)]
struct Both {
    names: Vec<String>,
    numbers: HashMap<Vec<u8>, usize>,
}

impl Names {
    /// So many names `history-0`, `history-1`, ..
    pub fn numbered(keys: usize) -> Names {
        Names::new((0..keys).map(|key| format!("history-{key}")))
    }

    /// So many different words of `letters` letters A to Z behind a prefix, in an order that the
    /// seed decides; or all there are.
    pub fn letters(keys: usize, letters: usize, prefix: &str, seed: u64) -> Names {
        let all = 26_u64.checked_pow(letters as u32).unwrap_or(u64::MAX);
        // A step without a divisor in common with the powers of 26 meets every word once.
        let step = (all as f64 * 0.618) as u64 / 26 * 26 + 1;
        let keys = all.min(keys as u64);
        Names::new((0..keys).map(|key| {
            let at = u128::from(key) * u128::from(step) + u128::from(seed);
            let mut rest = (at % u128::from(all)) as u64;
            let mut word = prefix.as_bytes().to_vec();
            for _ in 0..letters {
                word.push(b'A' + (rest % 26) as u8);
                rest /= 26;
            }
            String::from_utf8(word).expect("a prefix that is text, and letters")
        }))
    }

    fn new(names: impl Iterator<Item = String>) -> Names {
        let names: Vec<String> = names.collect();
        let numbers = names.iter().enumerate().map(|(i, name)| (name.clone().into_bytes(), i));
        let numbers = numbers.collect();
        Names(Rc::new(Both { names, numbers }))
    }

    /// The first `keys` of them.
    pub fn first(&self, keys: usize) -> Names {
        Names::new(self.0.names.iter().take(keys).cloned())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.names.len()
    }

    /// The name of a key.
    pub fn name(&self, key: usize) -> &str {
        &self.0.names[key]
    }

    /// The number of the key with this name.
    pub fn number(&self, name: &[u8]) -> Option<usize> {
        self.0.numbers.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_different_and_all_there_are() {
        for (keys, letters, count) in [(1000, 1, 26), (676, 2, 676), (5000, 3, 5000), (9, 13, 9)] {
            let names = Names::letters(keys, letters, "p-", 7);
            assert_eq!((names.count(), names.0.numbers.len()), (count, count));
            let name = names.name(count - 1);
            assert_eq!(name.len(), letters + 2);
            assert_eq!(names.number(name.as_bytes()), Some(count - 1));
        }
        assert_eq!(Names::numbered(3).number(b"history-3"), None);
    }
}
