//! Kernel sockets: ports, queues of connections, and how many files a connection may have.

use super::host::{Step, ranges};
use super::{Finding, Subject};
use crate::base::limits::LISTEN_BACKLOG;
use crate::config::counted;

pub(super) fn look(subject: &Subject<'_>) -> Vec<Finding> {
    let admin = admin(subject);
    if subject.config.has_devices() {
        return admin.into_iter().collect();
    }
    let mut findings = vec![listeners(subject), connections(subject)];
    findings.extend(admin);
    if subject.config.socket_path.is_none() {
        findings.extend(ephemeral(subject));
        findings.push(queue(subject, "backlog", "proc/sys/net/core/somaxconn"));
        findings.push(queue(subject, "half-open", "proc/sys/net/ipv4/tcp_max_syn_backlog"));
        findings.extend(buffers(subject));
    }
    findings
}

fn listeners(subject: &Subject<'_>) -> Finding {
    const CHECK: &str = "listen";
    match subject.host.system.listeners(subject.config) {
        Ok(()) => Finding::ok(CHECK, "the addresses are this host's, and nobody listens there"),
        Err(error) => Finding::refused(CHECK, &error),
    }
}

fn admin(subject: &Subject<'_>) -> Option<Finding> {
    const CHECK: &str = "admin port";
    let address = subject.config.admin?;
    if let Err(error) = subject.host.system.admin(subject.config) {
        return Some(Finding::refused(CHECK, &error));
    }
    Some(match address.ip().is_loopback() {
        true => Finding::ok(CHECK, format!("{address}, for this host alone")),
        false => Finding::warning(CHECK, format!("whoever reaches {address} sees keys of clients"))
            .mend(format!("--admin 127.0.0.1:{}", address.port())),
    })
}

fn connections(subject: &Subject<'_>) -> Finding {
    const CHECK: &str = "open files";
    match subject.host.system.connections(subject.config) {
        Ok(None) => {
            let most = counted(subject.config.connections_max as u64, "connection");
            Finding::ok(CHECK, format!("enough for {most}"))
        }
        Ok(Some(fewer)) => Finding::warning(CHECK, fewer),
        Err(error) => Finding::refused(CHECK, &error),
    }
}

/// A port that the kernel may hand out to an outgoing connection before it is listened on.
fn ephemeral(subject: &Subject<'_>) -> Option<Finding> {
    let range = subject.host.text("proc/sys/net/ipv4/ip_local_port_range")?;
    let mut ends = range.split_whitespace().filter_map(|end| end.parse::<u16>().ok());
    let (first, last) = (ends.next()?, ends.next()?);
    let config = subject.config;
    let own = [Some(config.port), config.open_batch_port()].into_iter().flatten();
    let port = own.into_iter().find(|port| (first..=last).contains(port))?;
    let reserved = subject.host.text("proc/sys/net/ipv4/ip_local_reserved_ports");
    let reserved = reserved.unwrap_or_default();
    let mut ranges = ranges(&reserved);
    if ranges.any(|(first, last)| (first..=last).contains(&usize::from(port))) {
        return None;
    }
    let list = if reserved.is_empty() { port.to_string() } else { format!("{reserved},{port}") };
    Some(
        Finding::warning(
            "port",
            format!("an outgoing connection of this host may take port {port} ({first}-{last})"),
        )
        .mend(format!("sysctl -w net.ipv4.ip_local_reserved_ports={list}")),
    )
}

/// A queue of connections that is shorter than what is asked for when listening.
fn queue(subject: &Subject<'_>, check: &'static str, path: &str) -> Finding {
    let name = path.trim_start_matches("proc/sys/").replace('/', ".");
    match subject.host.number::<i64>(path) {
        None => Finding::unknown(check, format!("/{path} cannot be read")),
        Some(has) if has < i64::from(LISTEN_BACKLOG) => Finding::warning(
            check,
            format!("{name} is {has}: of {LISTEN_BACKLOG} that connect at once some wait for 1 s"),
        )
        .steps(vec![Step::Write(path.to_owned(), LISTEN_BACKLOG.to_string())]),
        Some(has) => Finding::ok(check, format!("{name} is {has}")),
    }
}

/// The kernel's queue of frames for a core (its default is 1,000).
fn buffers(subject: &Subject<'_>) -> Option<Finding> {
    const DEFAULT: u64 = 1000;
    let path = "proc/sys/net/core/netdev_max_backlog";
    let has: u64 = subject.host.number(path)?;
    (has < DEFAULT).then(|| {
        Finding::warning(
            "frames",
            format!("net.core.netdev_max_backlog is {has}: frames of a burst are dropped"),
        )
        .steps(vec![Step::Write(path.to_owned(), DEFAULT.to_string())])
    })
}
