//! A debug server composed from the library: `debug_server [PORT]`.

use sunder::config::Config;
use sunder::orchestrator::l1_only::L1Only;
use sunder::serve::{ServeError, Server};

fn main() -> Result<(), ServeError> {
    let port = std::env::args().nth(1).and_then(|word| word.parse().ok());
    let config = Config { port: port.unwrap_or(11211), ..Config::default() };
    let server = Server::new(&config)?.until_signals()?;
    server.run(|worker| Ok(L1Only::new(worker.memory(64 << 20)?)))
}
