//! What a flag on the command line replaces in the configuration file: the same flag, and what
//! cannot be used with it. So the command line takes precedence where the two would be refused
//! together, too.

use clap::ArgMatches;
use clap::parser::ValueSource;

const DEVICE: &[&str] = &["device", "address", "gateway", "faults"];
const SOCKETS: &[&str] = &["sock_path", "unix_socket", "use_domain_socket"];
const KERNEL: &[&str] = &[
    "bind",
    "sock_path",
    "unix_socket",
    "use_domain_socket",
    "bp_sock_path",
    "proxy_protocol",
    "takeover",
];

/// Flags, and what each of them replaces: both are ids of `serve`. A switch that is turned off
/// replaces only itself.
const REPLACED: &[(&[&str], &[&str])] = &[
    (&["l1"], &["memory_limit", "l1_inmem", "l1_sock", "chunked", "l1_batched"]),
    (&["memory_limit"], &["l1", "l1_inmem", "l1_sock", "chunked", "l1_batched"]),
    (&["l1_inmem"], &["l1", "memory_limit"]),
    (&["l1_sock", "chunked", "l1_batched"], &["l1", "memory_limit", "l1_inmem"]),
    (&["l2"], &["l2_enabled", "l2_sock"]),
    (&["l2_enabled"], &["l2"]),
    (&["cores"], &["workers"]),
    (&["workers"], &["cores"]),
    (&["bp"], &["bp_sock_path"]),
    (&["bp_sock_path"], &["bp"]),
    (&["device"], KERNEL),
    (&["bind", "sock_path", "unix_socket", "bp_sock_path", "proxy_protocol", "takeover"], DEVICE),
    // memcached's word for it is one of many, of which no other changes anything.
    (&["idle_timeout"], &["extended"]),
];

/// Whether the flag `id` of the file is replaced by what is `given` on the command line.
pub(super) fn is_replaced(id: &str, given: &ArgMatches) -> bool {
    let is_given = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
    let switch = |id: &str| given.try_get_one::<bool>(id).ok().flatten().copied();
    let replaces = |by: &str| is_given(by) && switch(by) != Some(false);
    let is_socket_off = is_given("use_domain_socket") && switch("use_domain_socket") == Some(false);
    is_given(id)
        || (is_socket_off && SOCKETS.contains(&id))
        || REPLACED.iter().any(|(by, ids)| ids.contains(&id) && by.iter().any(|by| replaces(by)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_together_is_replaced_both_ways() {
        let mut definition = super::super::definition();
        definition.build();
        let serve = definition.find_subcommand("serve").expect("it is one");
        let is_listed = |by: &str, id: &str| {
            REPLACED.iter().any(|(flags, ids)| flags.contains(&by) && ids.contains(&id))
        };
        let mut seen = 0;
        for arg in serve.get_arguments() {
            for other in serve.get_arg_conflicts_with(arg) {
                let (one, other) = (arg.get_id().as_str(), other.get_id().as_str());
                if one != other {
                    seen += 1;
                    assert!(is_listed(one, other) && is_listed(other, one), "{one} and {other}");
                }
            }
        }
        assert!(seen >= 6, "{seen}");
        let ids = REPLACED.iter().flat_map(|(by, ids)| by.iter().chain(*ids));
        for id in ids.chain(SOCKETS).chain(DEVICE) {
            assert!(serve.get_arguments().any(|arg| arg.get_id() == id), "{id}");
        }
    }
}
