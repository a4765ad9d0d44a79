//! Serving on kernel sockets: binds them before any worker starts, and gives each its own. Nothing
//! here touches a connection.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::attach::{Attaching, Listening};
use super::crew::{Crew, Plan};
use super::kept::Files;
use super::{Part, ServeError, addresses_of, attach_place, batch_place, idle, takeover};
use crate::base::networks::Networks;
use crate::config::{Batch, Config};
use crate::mailbox::Mailbox;
use crate::net::kernel::{self, Address, Inherited, Kernel, Listener};
use crate::orchestrator::{Orchestrator, PortRole};
use crate::report::{self, Event};

/// Descriptors that are not connections: listeners, epoll, standard streams, the device's.
const FILES_RESERVED: u64 = 64;

pub fn serve<O: Orchestrator>(
    plan: &Plan<'_, impl Fn(&Part<'_>) -> Result<O, ServeError> + Sync>,
) -> Result<(), ServeError> {
    let config = plan.config;
    let (listeners, place) = listeners(config);
    let bind = kernel::KernelConfig { listeners, admission: Arc::clone(&plan.shared.admission) };
    let workers = plan.pins.len();
    let attach = config.attach.as_ref();
    // First, so that whoever finds the clients' socket finds this one, too.
    let listen = || attach.map(Listening::bind).transpose();
    let listening = plan.opened.patience.until(listen)?;
    let mut inherited = plan.opened.inherited.lock().unwrap_or_else(PoisonError::into_inner);
    let bound =
        || kernel::bind_or_inherit(&bind, workers, &mut inherited).map_err(ServeError::Bind);
    let sockets = plan.opened.patience.until(bound)?;
    // What is not listened on any more is closed.
    *inherited = Inherited::default();
    drop(inherited);
    let generation = plan.opened.files.as_ref().map(Files::generation);
    let start = |it: Listening| it.start(&sockets, plan.shared, generation);
    let attaching = listening.map(start).transpose()?;
    let mailboxes = Mailbox::mesh(workers);
    for (mailbox, sockets) in mailboxes.iter().zip(&sockets) {
        let waker = sockets.waker();
        mailbox.doorbell().connect(Box::new(move || waker.wake()));
    }
    let (unfinished, gate) = Default::default();
    let crew = Crew { plan, place: &place, idle: idle(config, 0), parks: false, unfinished, gate };
    let open =
        |sockets, worker: usize| Ok(Kernel::new(sockets, Arc::clone(&plan.shared.stats[worker])));
    let spares = sockets.first().map(|sockets| Arc::clone(sockets.spares()));
    let ready = || {
        attaching.iter().for_each(Attaching::workers_are_ready);
        if let Some(spares) = spares.filter(|_| plan.is_offered) {
            let kept = plan.opened.admin.iter().try_for_each(|admin| spares.keep(admin.as_fd()));
            if let Err(error) = kept {
                let text = format_args!("--admin cannot be taken over: {error}");
                report::tell(Event::TakeoverRefused.line(text));
            }
            takeover::offer(config, spares, Arc::clone(plan.shared));
        }
    };
    crew.run(mailboxes, sockets, open, ready)
}

/// Where to listen, and that in words.
pub(super) fn listeners(config: &Config) -> (Vec<Listener>, String) {
    let tcp = |port, to: PortRole| {
        addresses_of(config, to, port).into_iter().map(move |address| {
            let address = Address::Tcp(address);
            Listener {
                address,
                number: to.listener(),
                allow: config.allow(to).clone(),
                proxies: config.proxies.clone(),
            }
        })
    };
    let unix = |path: &Path, to: PortRole| {
        let address = Address::Unix { path: path.to_owned(), mode: config.socket_mode };
        let allow = Networks::default();
        Listener { address, number: to.listener(), allow, proxies: None }
    };
    let mut all: Vec<Listener> = match &config.socket_path {
        Some(path) => vec![unix(path, PortRole::Main)],
        None => tcp(config.port, PortRole::Main).collect(),
    };
    let main: Vec<_> = all.iter().map(|listener| listener.address.to_string()).collect();
    match config.batch() {
        Some(Batch::Port(port)) => all.extend(tcp(port, PortRole::Batch)),
        Some(Batch::Socket(path)) => all.push(unix(path, PortRole::Batch)),
        None => {}
    }
    (all, main.join(", ") + &batch_place(config) + &attach_place(config))
}

/// Whether nobody else can listen at `address` beside the listeners.
pub(crate) fn listens_at(config: &Config, address: SocketAddr) -> bool {
    let is_all = |one: IpAddr, other: IpAddr| {
        // On most hosts `::` is all of IPv4, too.
        one.is_unspecified() && (one.is_ipv6() || other.is_ipv4())
    };
    listeners(config).0.iter().any(|listener| match listener.address {
        Address::Tcp(own) => {
            let (own_ip, ip) = (own.ip(), address.ip());
            own.port() == address.port()
                && (own_ip == ip || is_all(own_ip, ip) || is_all(ip, own_ip))
        }
        Address::Unix { .. } => false,
    })
}

/// Allows as many open files as there may be connections. Returns how many connections there can
/// be: fewer than asked for where the host allows fewer files, which is logged.
pub(super) fn files_for(connections: usize) -> Result<usize, ServeError> {
    let connections_max = allow_files(connections)?;
    if connections_max < connections {
        report::tell(Event::Limited.line(fewer(connections_max, connections)));
    }
    Ok(connections_max)
}

/// What is said of fewer connections than were asked for.
pub(super) fn fewer(connections_max: usize, connections: usize) -> String {
    let most = connections_max as u64 + FILES_RESERVED;
    format!(
        "--max-connections: {connections_max} instead of {connections}, because the host allows \
         {most} open files; raise that (ulimit -Hn, LimitNOFILE=), or ask for fewer"
    )
}

/// Allows as many open files as there may be connections, or as the host allows. Returns for how
/// many connections these are enough.
pub(super) fn allow_files(connections: usize) -> Result<usize, ServeError> {
    let wanted = connections as u64 + FILES_RESERVED;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(connections);
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    if setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok() {
        return Ok(connections);
    }
    let most = limit.maximum.unwrap_or(u64::MAX);
    let refused = ServeError::Files { connections, limit: most };
    if most <= FILES_RESERVED {
        return Err(refused);
    }
    let raised = Rlimit { current: Some(most), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|_| refused)?;
    Ok((most - FILES_RESERVED) as usize)
}
