//! Tests that the wire table can fail: memcached behind a proxy that changes nothing passes, and
//! behind one that corrupts answers, drops a byte at a cut, or sends after the end, fails.

use crate::oracle::Oracle;
use crate::run::{Pace, Target};
use crate::table::Case;
use crate::{Score, compare};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

/// What a proxy does wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing: the proxy itself makes no difference.
    None,
    /// Changes one letter of an answer.
    Answer,
    /// Drops the last byte of the first piece of input, if that is not the end of a line.
    Cut,
    /// Appends to the answer when memcached has closed.
    Close,
}

/// Cases that are tried with a proxy: few, each affected by one of the faults.
const TRIED: &[&str] = &["text: set get delete", "text: get, 4000 bytes of line and no end"];

/// Runs all checks, each one a test.
pub fn run_all(memcached: SocketAddr, cases: &[Case], oracle: &mut Oracle, score: &mut Score) {
    let cases: Vec<Case> =
        cases.iter().filter(|case| TRIED.contains(&&case.name[..])).cloned().collect();
    if cases.is_empty() {
        // A filter on the command line excluded all of them.
        return;
    }
    for fault in [Fault::None, Fault::Answer, Fault::Cut, Fault::Close] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let target = Target::Tcp(listener.local_addr().expect("its address"));
        std::thread::spawn(move || proxy(&listener, memcached, fault));
        let mut found = Score { is_quiet: true, ..Score::default() };
        let name = format!("memcached behind a proxy with fault {fault:?}");
        compare(&name, &target, Pace::Ping, &cases, oracle, &mut found);
        let should = if matches!(fault, Fault::None) { 0..=0 } else { 1..=cases.len() };
        let result = match should.contains(&found.failed) {
            true => Ok(()),
            false => Err(format!("{} of {} cases differ", found.failed, cases.len())),
        };
        score.check(&name, result);
    }
}

/// Serves until the process ends.
fn proxy(listener: &TcpListener, upstream: SocketAddr, fault: Fault) {
    for client in listener.incoming() {
        let (Ok(client), Ok(server)) = (client, TcpStream::connect(upstream)) else { continue };
        std::thread::spawn(move || relay(&client, &server, fault));
    }
}

/// Copies bytes in both directions. The first error ends the direction, like an end of file.
fn relay(client: &TcpStream, server: &TcpStream, fault: Fault) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 64 * 1024];
            let mut is_first = true;
            while let Ok(n @ 1..) = (&mut &*client).read(&mut buffer) {
                let is_cut = is_first && buffer[n - 1] != b'\n' && matches!(fault, Fault::Cut);
                is_first = false;
                if (&mut &*server).write_all(&buffer[..n - usize::from(is_cut)]).is_err() {
                    break;
                }
            }
            // The other side may have closed already.
            let _ = server.shutdown(Shutdown::Write);
        });
        let mut buffer = [0; 64 * 1024];
        while let Ok(n @ 1..) = (&mut &*server).read(&mut buffer) {
            if matches!(fault, Fault::Answer) {
                spoil(&mut buffer[..n]);
            }
            if (&mut &*client).write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        if matches!(fault, Fault::Close) {
            let _ = (&mut &*client).write_all(b"ERROR\r\n");
        }
        let _ = client.shutdown(Shutdown::Both);
    });
}

fn spoil(answer: &mut [u8]) {
    let word = b"STORED";
    if let Some(at) = answer.windows(word.len()).position(|window| window == word) {
        answer[at] = b's';
    }
}
