//! Output in pieces without copying, and how much of it one turn sends.

use super::*;

/// The kernel may accept any part of the pieces; a client that reads now and then gets every byte
/// once.
#[test]
fn pieces_arrive_completely_however_many_bytes_the_kernel_accepts() {
    let total = 12 * 1024 * 1024 + 77;
    let mut rig = Rig::new(Behaviour::SendPieces(total));
    let mut client = rig.connect();
    client.write_all(b"?").unwrap();
    rig.settle();
    assert!(rig.peer.written < total, "the kernel accepted everything at once");
    assert_eq!(rig.peer.closed, []);
    let mut got = Vec::new();
    rig.until("all of it arrived", |_| {
        read_some(&mut client, &mut got);
        got.len() == total
    });
    assert!(got == patterned(total));
    assert_eq!(rig.count(Counter::BytesWritten), total as u64);
    drop(client);
    rig.until("closed", |rig| rig.peer.closed.len() == 1);
    assert_eq!(rig.kernel.shared.free_buffers(), Shared::new().free_buffers());
}

#[test]
fn a_client_that_disconnects_between_pieces_is_closed_once() {
    let mut rig = Rig::new(Behaviour::SendPieces(64 * 1024 * 1024));
    for round in 1..=20 {
        let mut client = rig.connect();
        client.write_all(b"?").unwrap();
        let mut got = Vec::new();
        rig.until("some of it arrived", |_| {
            read_some(&mut client, &mut got);
            got.len() > round * 50_000
        });
        // With unread bytes this is a reset.
        drop(client);
        rig.until("it was closed", |rig| rig.peer.closed.len() == round);
    }
    rig.settle();
    assert_eq!((rig.kernel.connections(), rig.count(Counter::CurrConnections)), (0, 0));
    assert_eq!(rig.kernel.shared.free_buffers(), Shared::new().free_buffers());
}

/// However fast a client reads, and however much there is for it.
#[test]
fn one_turn_sends_at_most_a_share_to_a_connection() {
    let total = 48 * 1024 * 1024;
    // A visit for pending output, and one for an event; each ends with a system call.
    let share = 2 * (KERNEL_SEND_BYTES_PER_VISIT + KERNEL_SEND_PIECES * 4096) as u64;
    for behaviour in [Behaviour::Send(total), Behaviour::SendPieces(total)] {
        let mut rig = Rig::new(behaviour);
        let mut client = rig.connect();
        client.write_all(b"?").unwrap();
        client.set_nonblocking(false).unwrap();
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 1024 * 1024];
            let mut got = 0;
            while got < total {
                got += client.read(&mut buffer).unwrap();
            }
        });
        let mut before = 0;
        rig.until("all of it was sent", |rig| {
            let written = rig.count(Counter::BytesWritten);
            assert!(written - before <= share, "{} bytes in a turn", written - before);
            before = written;
            written == total as u64
        });
        reader.join().unwrap();
    }
}
