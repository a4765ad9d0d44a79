//! Copies and swaps by several clients at once.

use super::Wrong;
use super::caller::{Caller, wrong};
use super::copies::{Originals, Reader};
use super::plan::{Done, Storm};
use super::swaps::{Ledger, Swapper};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

impl Storm {
    /// Removes what another run has left: its numbers are not this one's.
    fn clear(&self) -> Result<(), Wrong> {
        let mut caller = Caller::new(self, 0, self.seed);
        for key in self.keys() {
            while !self.is_over() {
                match caller.ask(&key, &format!("delete {key}\r\n"), false)? {
                    Some(answer) if answer.code == "DELETED" || answer.code == "NOT_FOUND" => break,
                    Some(answer) => return Err(wrong(&key, format!("delete: {answer}"))),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Runs it. `watch` is called now and then with the operations so far; it ends the storm if it
    /// is false.
    ///
    /// # Errors
    /// The first answer that was wrong, or why there is none.
    pub fn run(&self, watch: &mut dyn FnMut(u64) -> bool) -> Result<Done, Wrong> {
        self.clear()?;
        let (originals, ledger) = (&Originals::default(), &Ledger::default());
        let each = self.operations.div_ceil(self.clients.max(2));
        let one = |number: u64| {
            let done = match number % 2 {
                0 => Reader::new(self, originals, number / 2).run(each),
                _ => Swapper::new(self, ledger, number / 2).run(each),
            };
            if done.is_err() {
                self.stop.store(true, Relaxed);
            }
            done
        };
        let one = &one;
        std::thread::scope(|scope| {
            let clients: Vec<_> =
                (0..self.clients.max(2)).map(|number| scope.spawn(move || one(number))).collect();
            while clients.iter().any(|client| !client.is_finished()) {
                std::thread::sleep(Duration::from_millis(20));
                if !watch(self.counted()) {
                    self.stop.store(true, Relaxed);
                }
            }
            let mut all = Ok(Done::default());
            for client in clients {
                match (client.join().expect("it does not panic"), &mut all) {
                    (Ok(done), Ok(all)) => *all += done,
                    (Err(wrong), Ok(_)) => all = Err(wrong),
                    (_, Err(_)) => {}
                }
            }
            all
        })
    }
}
