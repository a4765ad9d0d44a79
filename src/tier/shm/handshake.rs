//! How a client attaches to a daemon: over a Unix socket, which both keep open as a sign of life.
//!
//! ```text
//! client  magic, version                        ->
//!         <-  magic, version, status, reason    with the segment and two eventfds (SCM_RIGHTS)
//! ```
//!
//! The kernel says who is at the other end (SO_PEERCRED). Each side accepts only its own user and
//! root: whoever has the rings can read and write every item, and a false daemon could answer
//! anything.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use arrayvec::ArrayVec;
use bytes::{Buf, BufMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Uid, geteuid};

const MAGIC: u64 = u64::from_le_bytes(*b"sunshm\0\x01");

/// Changes with every change of the messages.
const VERSION: u32 = 1;

const HELLO_BYTES: usize = 12;

/// Longest reason of a refusal, in bytes.
const REASON_BYTES: usize = 96;

const ANSWER_BYTES: usize = HELLO_BYTES + 4 + REASON_BYTES;

/// The segment, the client's doorbell, the daemon's doorbell.
const FILES: usize = 3;

/// What a daemon gives to a client.
#[derive(Debug)]
pub struct Given {
    /// The segment.
    pub segment: OwnedFd,
    /// The doorbell that wakes the client.
    pub client_bell: OwnedFd,
    /// The doorbell that wakes the daemon.
    pub daemon_bell: OwnedFd,
}

/// Why there is no attachment; the rest of a sentence that names the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

/// Whether the process at the other end may attach: it is this user's, or root's.
///
/// # Errors
/// It is another user's.
pub fn check_client(socket: &UnixStream) -> Result<(), Refusal> {
    match peer(socket)? {
        uid if uid == geteuid() || uid == Uid::ROOT => Ok(()),
        uid => Err(Refusal(format!("user {} may not attach", uid.as_raw()))),
    }
}

/// Whether the process at the other end may be attached to: it is this user's, or root's; any for
/// root, whose folders decide who can listen there.
///
/// # Errors
/// It is another user's.
pub fn check_daemon(socket: &UnixStream) -> Result<(), Refusal> {
    match peer(socket)? {
        uid if uid == geteuid() || uid == Uid::ROOT || geteuid().is_root() => Ok(()),
        uid => Err(Refusal(format!("it belongs to another user, {}", uid.as_raw()))),
    }
}

fn peer(socket: &UnixStream) -> Result<Uid, Refusal> {
    let peer = rustix::net::sockopt::socket_peercred(socket);
    peer.map(|peer| peer.uid).map_err(|errno| Refusal(format!("its user is unknown: {errno}")))
}

/// Asks for an attachment.
///
/// # Errors
/// The kernel's.
pub fn ask(socket: &UnixStream) -> io::Result<()> {
    let mut hello = ArrayVec::<u8, HELLO_BYTES>::new();
    put_start(&mut hello);
    send(socket, &hello, &mut SendAncillaryBuffer::default())
}

/// Receives a client's request. False: it has ended without one, as who only looks whether the name
/// is taken.
///
/// # Errors
/// It is none, or of another version, or does not arrive in time.
pub fn receive_request(socket: &UnixStream) -> Result<bool, Refusal> {
    let mut hello = [0; HELLO_BYTES];
    match rustix::net::recv(socket, &mut hello, RecvFlags::empty()) {
        Ok((0, _)) => Ok(false),
        Ok((n, _)) => check_start(&hello[..n]).map(|()| true),
        Err(_) => Err(Refusal("it asks for nothing".into())),
    }
}

/// Gives a client its attachment.
///
/// # Errors
/// The kernel's.
pub fn give(socket: &UnixStream, given: &Given) -> io::Result<()> {
    let files = [&given.segment, &given.client_bell, &given.daemon_bell].map(|file| file.as_fd());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let has_room = control.push(SendAncillaryMessage::ScmRights(&files));
    assert!(has_room, "room for three files");
    send(socket, &answer("")?, &mut control)
}

/// Refuses a client.
///
/// # Errors
/// The kernel's.
pub fn refuse(socket: &UnixStream, reason: &str) -> io::Result<()> {
    send(socket, &answer(reason)?, &mut SendAncillaryBuffer::default())
}

/// An answer; a refusal if there is a reason.
fn answer(reason: &str) -> io::Result<ArrayVec<u8, ANSWER_BYTES>> {
    let mut answer = ArrayVec::new();
    put_start(&mut answer);
    let reason = &reason.as_bytes()[..reason.len().min(REASON_BYTES)];
    let length = (reason.len() as u32).to_le_bytes();
    let parts = [&length[..], reason, &[0; REASON_BYTES][reason.len()..]];
    for part in parts {
        answer.try_extend_from_slice(part).map_err(io::Error::other)?;
    }
    Ok(answer)
}

/// Receives the daemon's answer. None: it has not arrived, and the socket does not wait for it.
///
/// # Errors
/// A refusal.
pub fn receive_answer(socket: &UnixStream) -> Result<Option<Given>, Refusal> {
    let mut bytes = [0; ANSWER_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let n = match received {
        Ok(message) => message.bytes,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
        Err(errno) => return Err(Refusal(format!("lost while attaching: {errno}"))),
    };
    let mut files: ArrayVec<OwnedFd, FILES> = ArrayVec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            files.extend(more.take(FILES));
        }
    }
    if n == 0 {
        return Err(Refusal("it closes the connection".into()));
    }
    check_start(&bytes[..n])?;
    let Some(mut rest) = bytes[..n].get(HELLO_BYTES..).filter(|rest| rest.len() > 4) else {
        return Err(Refusal("its answer is too short".into()));
    };
    let reason_bytes = rest.get_u32_le() as usize;
    if reason_bytes > 0 {
        let reason = &rest[..reason_bytes.min(rest.len())];
        return Err(Refusal(String::from_utf8_lossy(reason).escape_debug().to_string()));
    }
    match files.into_inner() {
        Ok([segment, client_bell, daemon_bell]) => {
            Ok(Some(Given { segment, client_bell, daemon_bell }))
        }
        Err(_) => Err(Refusal("its answer lacks the shared memory".into())),
    }
}

fn put_start<const N: usize>(message: &mut ArrayVec<u8, N>) {
    let mut start = [0; HELLO_BYTES];
    let mut put = &mut start[..];
    put.put_u64_le(MAGIC);
    put.put_u32_le(VERSION);
    let has_room = message.try_extend_from_slice(&start).is_ok();
    assert!(has_room, "a message begins with these");
}

fn check_start(mut message: &[u8]) -> Result<(), Refusal> {
    if message.len() < HELLO_BYTES || message.get_u64_le() != MAGIC {
        return Err(Refusal("it does not speak sunder's attachment protocol".into()));
    }
    match message.get_u32_le() {
        VERSION => Ok(()),
        version => Err(Refusal(format!("it attaches by version {version}, expected {VERSION}"))),
    }
}

/// Sends a message, which is so short that the kernel takes all of it or nothing.
fn send(
    socket: &UnixStream,
    message: &[u8],
    control: &mut SendAncillaryBuffer<'_, '_, '_>,
) -> io::Result<()> {
    let n = sendmsg(socket, &[IoSlice::new(message)], control, SendFlags::NOSIGNAL)?;
    if n == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn given() -> Given {
        let bell = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        Given { segment: bell(), client_bell: bell(), daemon_bell: bell() }
    }

    #[test]
    fn a_client_gets_three_files_or_a_reason() {
        let (client, daemon) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        check_client(&daemon).unwrap();
        check_daemon(&client).unwrap();
        ask(&client).unwrap();
        assert_eq!(receive_request(&daemon), Ok(true));
        assert!(receive_answer(&client).unwrap().is_none(), "not yet");
        give(&daemon, &given()).unwrap();
        assert!(receive_answer(&client).unwrap().is_some());
        refuse(&daemon, "it is full").unwrap();
        assert_eq!(receive_answer(&client).unwrap_err(), Refusal("it is full".into()));
        drop(daemon);
        assert!(receive_answer(&client).unwrap_err().0.contains("closes"));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let (mut client, daemon) = UnixStream::pair().unwrap();
        client.write_all(b"get key\r\n").unwrap();
        assert!(receive_request(&daemon).unwrap_err().0.contains("does not speak"));
        client.write_all(&[0; HELLO_BYTES]).unwrap();
        assert!(receive_request(&daemon).unwrap_err().0.contains("does not speak"));
        let mut other = answer("").unwrap();
        other[8] = 9;
        let (looks, asked) = UnixStream::pair().unwrap();
        drop(looks);
        assert_eq!(receive_request(&asked), Ok(false));
        for wrong in [&other[..], &other[..HELLO_BYTES], &[0; ANSWER_BYTES], &answer("").unwrap()] {
            client.write_all(wrong).unwrap();
            receive_answer(&daemon).unwrap_err();
        }
    }
}
