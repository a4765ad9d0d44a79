//! Two rings of bytes between two processes, one for each direction.
//!
//! Each ring has one producer and one consumer. An index counts bytes from the start and wraps at
//! 2^32; its place in the ring is its lower bits. A side keeps its own indexes in its own memory
//! and only publishes them. It reads an index of the other side once, checks it, and uses that
//! copy: whatever the other side writes, nothing outside of the ring is accessed, and nothing is
//! read twice. An index that cannot be right is a [`Lie`], after which the rings must not be used.
//!
//! A side that goes to sleep says so first, then looks again ([`Rings::fall_asleep`]); a side that
//! has published something looks whether the other sleeps ([`Rings::must_wake`]). Between the store
//! and the load of either there is a full fence, so that at least one of the two sees the other.

/// One of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It sends requests.
    Client,
    /// It answers them.
    Daemon,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Client => Side::Daemon,
            Side::Daemon => Side::Client,
        }
    }

    /// The ring that this side writes.
    fn output(self) -> Way {
        match self {
            Side::Client => Way::Requests,
            Side::Daemon => Way::Answers,
        }
    }
}

/// One of the two rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the daemon.
    Requests,
    /// From the daemon to the client.
    Answers,
}

/// A shared word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// How many bytes were written to a ring; its producer stores it.
    Written(Way),
    /// How many bytes were read from a ring; its consumer stores it.
    Read(Way),
    /// Whether, and for what, a side sleeps, as [`Sleep`] numbers it. Both sides store it.
    Sleeps(Side),
}

/// What a sleeping side must be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Sleep {
    /// Input.
    Input = 1,
    /// Input, or room for output.
    Room = 2,
    /// Room for output; input can wait. The other side wakes it for input, too.
    RoomAlone = 3,
}

/// The value of [`Word::Sleeps`] of a side that is awake.
const AWAKE: u32 = 0;

/// The other side broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lie;

/// The memory that both sides share. The other side may change any of it at any time.
pub trait Memory {
    /// Loads a word; what its writer stored before is visible afterwards (acquire).
    fn load(&self, word: Word) -> u32;

    /// Stores a word, after everything that was stored before (release).
    fn store(&self, word: Word, value: u32);

    /// A full fence: no later load is executed before an earlier store.
    fn fence(&self);

    /// Copies `bytes` into a ring, from byte `at` on. The caller keeps within its capacity.
    fn copy_in(&self, way: Way, at: usize, bytes: &[u8]);

    /// Copies bytes out of a ring, from byte `at` on. The caller keeps within its capacity.
    fn copy_out(&self, way: Way, at: usize, out: &mut [u8]);
}

/// One side's view of both rings.
#[derive(Debug)]
pub struct Rings<M> {
    memory: M,
    side: Side,
    /// Bytes of one ring; a power of two.
    capacity: u32,
    /// Bytes written to the output, and how many of them the other side has read, as last seen.
    written: u32,
    taken: u32,
    /// Bytes read from the input, and how many the other side has written, as last seen.
    read: u32,
    arrived: u32,
}

impl<M: Memory> Rings<M> {
    /// One side of new rings of `capacity` bytes each.
    ///
    /// # Panics
    /// If that is not a power of two below 2^31.
    pub fn new(memory: M, side: Side, capacity: usize) -> Rings<M> {
        let capacity = u32::try_from(capacity).ok().filter(|it| it.is_power_of_two());
        let capacity = capacity.filter(|it| *it < 1 << 31).expect("a power of two below 2^31");
        Rings { memory, side, capacity, written: 0, taken: 0, read: 0, arrived: 0 }
    }

    /// Reads up to `out.len()` bytes of the input; returns how many. 0: there are none.
    ///
    /// # Errors
    /// The other side's index is impossible.
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, Lie> {
        if (self.arrived.wrapping_sub(self.read) as usize) < out.len() {
            self.look_for_input()?;
        }
        let n = out.len().min(self.arrived.wrapping_sub(self.read) as usize);
        if n == 0 {
            return Ok(0);
        }
        let way = self.side.other().output();
        let at = self.place(self.read);
        let (first, rest) = out[..n].split_at_mut(n.min(self.capacity as usize - at));
        self.memory.copy_out(way, at, first);
        self.memory.copy_out(way, 0, rest);
        self.read = self.read.wrapping_add(n as u32);
        self.memory.store(Word::Read(way), self.read);
        Ok(n)
    }

    /// Writes as many of `bytes` as there is room for, and publishes them; returns how many.
    ///
    /// # Errors
    /// The other side's index is impossible.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Lie> {
        if self.room() < bytes.len() {
            self.look_for_room()?;
        }
        let n = bytes.len().min(self.room());
        if n == 0 {
            return Ok(0);
        }
        let way = self.side.output();
        let at = self.place(self.written);
        let (first, rest) = bytes[..n].split_at(n.min(self.capacity as usize - at));
        self.memory.copy_in(way, at, first);
        self.memory.copy_in(way, 0, rest);
        self.written = self.written.wrapping_add(n as u32);
        self.memory.store(Word::Written(way), self.written);
        Ok(n)
    }

    /// Whether there is input.
    ///
    /// # Errors
    /// The other side's index is impossible.
    #[inline]
    pub fn has_input(&mut self) -> Result<bool, Lie> {
        if self.arrived == self.read {
            self.look_for_input()?;
        }
        Ok(self.arrived != self.read)
    }

    /// Whether there is room for output.
    ///
    /// # Errors
    /// The other side's index is impossible.
    pub fn has_room(&mut self) -> Result<bool, Lie> {
        if self.room() == 0 {
            self.look_for_room()?;
        }
        Ok(self.room() > 0)
    }

    /// Whether the other side sleeps and must be woken by its doorbell, after this side has written
    /// ([`Sleep::Input`]) or read ([`Sleep::Room`]). Returns true once for each sleep.
    #[inline]
    pub fn must_wake(&mut self, news: Sleep) -> bool {
        self.memory.fence();
        let word = Word::Sleeps(self.side.other());
        let is_asleep = self.memory.load(word) >= news as u32;
        if is_asleep {
            self.memory.store(word, AWAKE);
        }
        is_asleep
    }

    /// Announces that this side is about to sleep. False if it must not: there is what it would
    /// wait for.
    ///
    /// # Errors
    /// The other side's index is impossible.
    pub fn fall_asleep(&mut self, sleep: Sleep) -> Result<bool, Lie> {
        self.memory.store(Word::Sleeps(self.side), sleep as u32);
        self.memory.fence();
        let is_needed = match sleep {
            Sleep::Input => self.has_input()?,
            Sleep::Room => self.has_input()? || self.has_room()?,
            Sleep::RoomAlone => self.has_room()?,
        };
        if is_needed {
            self.rise();
        }
        Ok(!is_needed)
    }

    /// Announces that this side is awake.
    pub fn rise(&mut self) {
        self.memory.store(Word::Sleeps(self.side), AWAKE);
    }

    #[inline]
    fn look_for_input(&mut self) -> Result<(), Lie> {
        let arrived = self.memory.load(Word::Written(self.side.other().output()));
        let waiting = arrived.wrapping_sub(self.read);
        // It never takes back what it has written.
        if waiting > self.capacity || waiting < self.arrived.wrapping_sub(self.read) {
            return Err(Lie);
        }
        self.arrived = arrived;
        Ok(())
    }

    fn look_for_room(&mut self) -> Result<(), Lie> {
        let taken = self.memory.load(Word::Read(self.side.output()));
        let left = self.written.wrapping_sub(taken);
        if left > self.written.wrapping_sub(self.taken) {
            return Err(Lie);
        }
        self.taken = taken;
        Ok(())
    }

    fn room(&self) -> usize {
        (self.capacity - self.written.wrapping_sub(self.taken)) as usize
    }

    fn place(&self, index: u32) -> usize {
        (index & (self.capacity - 1)) as usize
    }
}

#[cfg(test)]
mod tests;
