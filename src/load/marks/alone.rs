//! A client that has a key to itself, and so knows every answer: it makes, wins, stores, touches,
//! marks and counts an item, in one fixed order, and looks at it after each step.
//!
//! Where tiers differ the step says which answers there are; an item that is gone ends the round.

use super::caller::wrong;
use super::{Wrong, base64};
use crate::load::client::{Client, MetaAnswer, Trouble};

/// What a round found out of order, or why it has no answer.
#[derive(Debug)]
pub enum Fault {
    /// An answer that cannot be right.
    Wrong(Wrong),
    /// No answer.
    Trouble(Trouble),
}

/// How a round ended that was right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Round {
    /// All its steps were done.
    Whole,
    /// The item was gone, as those of a cache may be.
    Lost,
}

/// The first cas that a round chooses: above those that servers count to.
const CHOSEN: u64 = 1 << 60;

/// Seconds that a round takes at most: how much less a time to live may be than what was set.
const SLACK_S: u64 = 60;

/// Seconds by which the clocks of two processes, each read once a second, may differ: how much more
/// a time to live may be than what was set.
const CLOCKS_S: u64 = 1;

/// A round.
struct Script<'a> {
    client: &'a mut Client,
    key: &'a str,
    /// Of this round, for opaques, spellings and numbers.
    number: u64,
    asked: u64,
}

/// Runs one round on `key`, which nobody else uses. Leaves nothing there.
///
/// # Errors
/// An answer that is wrong, or none.
pub fn round(client: &mut Client, key: &str, number: u64) -> Result<Round, Fault> {
    let mut script = Script { client, key, number, asked: 0 };
    // Each returns what is true if the item was there.
    let is_whole = script.make()? && script.mark()? && script.touch()? && script.count()?;
    script.end()?;
    Ok(if is_whole { Round::Whole } else { Round::Lost })
}

/// What an answer has to have.
#[derive(Clone, Copy, Debug)]
enum Marks {
    Clean,
    Won,
    Told,
    StaleTold,
}

impl Script<'_> {
    /// Sends `command`, the key and `rest`. Checks key and opaque of the answer.
    fn ask(&mut self, command: &str, rest: &str, value: Option<&str>) -> Result<MetaAnswer, Fault> {
        self.asked += 1;
        let is_quiet = rest.ends_with(" q");
        let opaque = format!("{}.{}", self.number, self.asked);
        let plain = self.key;
        let coded = base64(plain.as_bytes());
        let (spelt, flag) =
            if self.asked.is_multiple_of(3) { (&coded[..], " b") } else { (plain, "") };
        let (length, rest) = match value {
            Some(value) => (format!(" {}", value.len()), rest),
            None => (String::new(), rest),
        };
        let mut request = format!("{command} {spelt}{length} k O{opaque}{flag}{rest}\r\n");
        if let Some(value) = value {
            request += value;
            request += "\r\n";
        }
        let answer = self.client.ask(request.as_bytes(), is_quiet).map_err(Fault::Trouble)?;
        let is_named = answer.token(b'O') == Some(&opaque)
            && answer.token(b'k').is_some_and(|key| key == plain || key == coded);
        // An error and the end of a quiet request name nothing, and a miss does not either.
        let may_be_bare = ["EN", "MN"].contains(&&answer.code[..]) || answer.code.contains(' ');
        if is_named || may_be_bare {
            return Ok(answer);
        }
        self.fail(&request, &answer, "another key or opaque")
    }

    fn fail<T>(&self, request: &str, answer: &MetaAnswer, what: &str) -> Result<T, Fault> {
        let line = request.lines().next().unwrap_or_default();
        Err(Fault::Wrong(wrong(self.key, format!("{what}: '{line}' was answered {answer}"))))
    }

    /// A request whose answer is one of `codes`.
    fn expect(
        &mut self,
        command: &str,
        rest: &str,
        value: Option<&str>,
        codes: &[&str],
    ) -> Result<MetaAnswer, Fault> {
        let answer = self.ask(command, rest, value)?;
        if codes.contains(&&answer.code[..]) {
            return Ok(answer);
        }
        self.fail(&format!("{command} K{rest}"), &answer, &format!("not one of {codes:?}"))
    }

    /// An `mg` with v, c, t and `rest`: its cas. None: no item.
    fn look(&mut self, rest: &str, value: &str, marks: Marks) -> Result<Option<u64>, Fault> {
        let rest = format!(" v c t{rest}");
        let answer = self.expect("mg", &rest, None, &["VA", "EN", "MN"])?;
        if answer.code != "VA" {
            return Ok(None);
        }
        let wanted = match marks {
            Marks::Clean => [false; 3],
            Marks::Won => [true, false, false],
            Marks::Told => [false, false, true],
            Marks::StaleTold => [false, true, true],
        };
        let line = format!("mg K{rest}");
        if b"WXZ".map(|flag| answer.has(flag)) != wanted {
            return self.fail(&line, &answer, &format!("not {marks:?}"));
        }
        if answer.value.as_deref().map(<[u8]>::trim_ascii_end) != Some(value.as_bytes()) {
            return self.fail(&line, &answer, &format!("not the value '{value}'"));
        }
        match answer.number(b'c') {
            Some(cas) => Ok(Some(cas)),
            None => self.fail(&line, &answer, "no cas"),
        }
    }

    /// Stores with `flags`, and a cas of this round's choice if the server takes one. None: the
    /// item is gone.
    fn store(&mut self, flags: &str, value: &str) -> Result<Option<()>, Fault> {
        let chosen = format!("{flags} E{}", CHOSEN + self.number);
        let mut answer = self.ask("ms", &chosen, Some(value))?;
        if answer.code.starts_with("CLIENT_ERROR") {
            answer = self.ask("ms", flags, Some(value))?;
        }
        match &answer.code[..] {
            "HD" => Ok(Some(())),
            "NF" | "NS" => Ok(None),
            // The number that it had is lost with the item's copy.
            "EX" if flags.contains(" C") => Ok(None),
            _ => self.fail(&format!("ms K{chosen}"), &answer, "not stored"),
        }
    }

    /// Vivify: the first wins, the next is told; a wrong cas stores nothing, the right one does.
    fn make(&mut self) -> Result<bool, Fault> {
        self.expect("md", " q", None, &["MN", "NF"])?;
        self.expect("mg", " v q", None, &["MN"])?;
        let Some(cas) = self.look(" N120", "", Marks::Won)? else {
            return self.vanished("mg with N");
        };
        let Some(again) = self.look(" N120", "", Marks::Told)? else { return Ok(false) };
        if again != cas {
            return self.vanished("two looks at one item, with two numbers:");
        }
        let wrong_cas = format!(" C{}", cas ^ 1);
        self.expect("ms", &wrong_cas, Some("wrong"), &["EX", "NF"])?;
        if self.look("", "", Marks::Told)?.is_none() {
            return Ok(false);
        }
        if self.store(&format!(" T120 F7 C{cas}"), "first")?.is_none() {
            return Ok(false);
        }
        Ok(self.look("", "first", Marks::Clean)?.is_some())
    }

    /// Something that must not be, whatever the tiers.
    fn vanished<T>(&self, what: &str) -> Result<T, Fault> {
        Err(Fault::Wrong(wrong(self.key, format!("{what} has no item of its own"))))
    }

    /// Early recache, then stale: one wins, the next is told, an older store stays stale and a
    /// store with the right cas is clean.
    fn mark(&mut self) -> Result<bool, Fault> {
        let due = self.expect("mg", " v c R600", None, &["VA", "EN"])?;
        if due.code == "EN" {
            return Ok(false);
        }
        // A tier that cannot note who won lets nobody.
        let (is_won, is_told) = (due.has(b'W'), due.has(b'Z'));
        let marks = if is_won { Marks::Told } else { Marks::Clean };
        if is_told || self.look(" R600", "first", marks)?.is_none() {
            return if is_told {
                self.fail("mg K R600", &due, "told, and none won")
            } else {
                Ok(false)
            };
        }
        let Some(cas) = self.look(" R600", "first", marks)? else { return Ok(false) };
        self.expect("md", &format!(" I T90 C{}", cas ^ 1), None, &["EX", "NF"])?;
        if self.expect("md", " I T90", None, &["HD", "NF"])?.code == "NF" {
            return Ok(false);
        }
        let found = self.expect("mg", " v c", None, &["VA", "EN"])?;
        if found.code == "EN" {
            return self.refill();
        }
        if [b'W', b'X', b'Z'].map(|flag| found.has(flag)) != [true, true, false] {
            return self.fail("mg K v c", &found, "not stale and won");
        }
        let Some(marked) = self.look(" q", "first", Marks::StaleTold)? else { return Ok(false) };
        let older =
            self.expect("ms", &format!(" I C{}", cas.min(1)), Some("older"), &["HD", "EX", "NF"])?;
        let value = if older.code == "HD" { "older" } else { "first" };
        let answer = self.expect("mg", " v c", None, &["VA", "EN"])?;
        if answer.code == "EN" {
            return Ok(false);
        }
        if !answer.has(b'X') || answer.value.as_deref() != Some(value.as_bytes()) {
            return self.fail(
                "mg K v c",
                &answer,
                &format!("not '{value}', stale, after {marked}"),
            );
        }
        let Some(cas) = answer.number(b'c') else {
            return self.fail("mg K v c", &answer, "no cas");
        };
        if self.store(&format!(" T120 C{cas}"), "second")?.is_none() {
            return Ok(false);
        }
        Ok(self.look("", "second", Marks::Clean)?.is_some())
    }

    /// The tier deletes what it is told is stale: one client makes it anew.
    fn refill(&mut self) -> Result<bool, Fault> {
        if self.look(" N90", "", Marks::Won)?.is_none() {
            return self.vanished("mg with N");
        }
        if self.look(" N90", "", Marks::Told)?.is_none() {
            return Ok(false);
        }
        self.expect("ms", " T120", Some("second"), &["HD"])?;
        Ok(self.look("", "second", Marks::Clean)?.is_some())
    }

    /// T of an mg sets the time to live; a set without one has none.
    fn touch(&mut self) -> Result<bool, Fault> {
        for (touch, wanted) in [("", 120), (" T900", 900), ("", 900)] {
            let rest = format!(" v{touch} t");
            let answer = self.expect("mg", &rest, None, &["VA", "EN"])?;
            if answer.code == "EN" {
                return Ok(false);
            }
            let is_near = |left| (wanted - SLACK_S..=wanted + CLOCKS_S).contains(&left);
            if !answer.number(b't').is_some_and(is_near) {
                return self.fail(&format!("mg K{rest}"), &answer, &format!("not {wanted} s"));
            }
        }
        self.expect("ms", " q", Some("third"), &["MN"])?;
        let answer = self.expect("mg", " t", None, &["HD", "EN"])?;
        if answer.code == "HD" && answer.token(b't') != Some("-1") {
            return self.fail("mg K t", &answer, "not without an end");
        }
        Ok(answer.code == "HD")
    }

    /// A number that is made, counted up and down, with and without a condition and a chosen cas.
    fn count(&mut self) -> Result<bool, Fault> {
        self.expect("md", " q", None, &["MN", "NF"])?;
        let steps: [(&str, &str); 4] =
            [(" N0 J13 v", "13"), (" D5 v", "18"), (" MD D20 v", "0"), (" N0 D7 v", "7")];
        for (rest, wanted) in steps {
            let answer = self.expect("ma", rest, None, &["VA", "NF"])?;
            if answer.code == "NF" {
                return Ok(false);
            }
            if answer.value.as_deref().map(<[u8]>::trim_ascii_end) != Some(wanted.as_bytes()) {
                return self.fail(&format!("ma K{rest}"), &answer, &format!("not {wanted}"));
            }
        }
        let Some(cas) = self.look("", "7", Marks::Clean)? else { return Ok(false) };
        self.expect("ma", &format!(" C{} v", cas ^ 1), None, &["EX", "NF"])?;
        let chosen = format!(" C{cas} E{} v c", CHOSEN + self.number);
        let mut answer = self.ask("ma", &chosen, None)?;
        if answer.code.starts_with("CLIENT_ERROR") {
            answer = self.ask("ma", &format!(" C{cas} v c"), None)?;
        }
        match &answer.code[..] {
            "VA" if answer.value.as_deref() == Some(b"8") => {}
            "EX" | "NF" => return Ok(false),
            _ => return self.fail(&format!("ma K{chosen}"), &answer, "not 8"),
        }
        let Some(cas) = self.look("", "8", Marks::Clean)? else { return Ok(false) };
        self.expect("md", &format!(" C{}", cas ^ 1), None, &["EX", "NF"])?;
        Ok(self.look("", "8", Marks::Clean)?.is_some())
    }

    /// A stale item of a chosen cas, and nothing.
    fn end(&mut self) -> Result<(), Fault> {
        let chosen = format!(" I T30 E{}", CHOSEN + self.number + 1);
        let answer = self.ask("md", &chosen, None)?;
        if !["HD", "NF"].contains(&&answer.code[..]) && !answer.code.starts_with("CLIENT_ERROR") {
            return self.fail(&format!("md K{chosen}"), &answer, "not marked");
        }
        if answer.code == "HD" {
            let answer = self.expect("mg", " c", None, &["HD", "EN"])?;
            let is_right = answer.has(b'X') && answer.has(b'W');
            if answer.code == "HD" && !is_right {
                return self.fail("mg K c", &answer, "not stale and won");
            }
        }
        // Older servers have no x.
        let answer = self.ask("md", " x q", None)?;
        if !["MN", "NF"].contains(&&answer.code[..]) && !answer.code.starts_with("CLIENT_ERROR") {
            return self.fail("md K x q", &answer, "not emptied");
        }
        self.expect("md", " q", None, &["MN", "NF"])?;
        self.expect("mg", " v", None, &["EN"]).map(|_| ())
    }
}
