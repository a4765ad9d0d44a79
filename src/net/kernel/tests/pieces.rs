//! Output in pieces from where they lie, and how much of it one turn sends.

use super::*;

/// What the kernel takes of pieces ends anywhere in them; a client that reads now and then gets
/// every byte once.
#[test]
fn pieces_arrive_whole_whatever_the_kernel_takes_at_once() {
    let total = 12 * 1024 * 1024 + 77;
    let mut rig = Rig::new(Behaviour::SendPieces(total));
    let mut client = rig.connect();
    client.write_all(b"?").unwrap();
    rig.settle();
    assert!(rig.peer.written < total, "the kernel took it all; it proves nothing");
    assert_eq!(rig.peer.closed, []);
    let mut got = Vec::new();
    rig.until("all of it came", |_| {
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
fn a_client_that_goes_away_amid_pieces_is_closed_once() {
    let mut rig = Rig::new(Behaviour::SendPieces(64 * 1024 * 1024));
    for round in 1..=20 {
        let mut client = rig.connect();
        client.write_all(b"?").unwrap();
        let mut got = Vec::new();
        rig.until("some of it came", |_| {
            read_some(&mut client, &mut got);
            got.len() > round * 50_000
        });
        // With bytes unread this is a reset.
        drop(client);
        rig.until("it was closed", |rig| rig.peer.closed.len() == round);
    }
    rig.settle();
    assert_eq!((rig.kernel.connections(), rig.count(Counter::CurrConnections)), (0, 0));
    assert_eq!(rig.kernel.shared.free_buffers(), Shared::new().free_buffers());
}

/// However fast a client reads, and however much there is for it.
#[test]
fn nobody_is_sent_more_than_a_share_in_one_turn() {
    let total = 48 * 1024 * 1024;
    // A visit for what was pending, and one for what was announced; each ends with a system call.
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
