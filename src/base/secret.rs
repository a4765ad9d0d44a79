//! Numbers that no peer can guess, from the kernel.
//!
//! Hash seeds and the keys behind initial sequence numbers come only from here, never from a
//! constant or a clock.

/// Random bytes from the kernel.
///
/// # Panics
/// If the kernel has no random numbers: the process must not run without them.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut done = 0;
    while done < N {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut bytes[done..], flags) {
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the kernel gives no random numbers: {error}"),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_secrets_differ() {
        assert_ne!(super::random::<16>(), super::random::<16>());
    }
}
