//! Lists of networks: `--allow`.

use std::net::Ipv6Addr;

use super::{Parsed, ValueError};
use crate::base::limits::NETWORKS_MAX;
use crate::base::networks::{Network, NetworkError, Networks};

/// Networks, comma-separated; an address is the network of itself, `localhost` is 127.0.0.0/8
/// and ::1.
///
/// # Errors
/// If one of them is not.
pub(crate) fn networks(text: &str) -> Parsed<Vec<Network>> {
    let mut networks = Vec::new();
    for word in text.split(',') {
        if word == "localhost" {
            networks.push(Network::of(Ipv6Addr::LOCALHOST.into()));
            networks.extend("127.0.0.0/8".parse::<Network>());
        } else {
            networks.push(word.parse().map_err(|error| wrong(word, error))?);
        }
    }
    Ok(networks)
}

fn wrong(word: &str, error: NetworkError) -> ValueError {
    let expected = match error {
        NetworkError::Syntax => "comma-separated networks or addresses, such as \
                                 10.0.0.0/8,2001:db8::/32,10.1.2.3, or localhost"
            .to_owned(),
        NetworkError::Prefix(bits_max) => {
            format!("at most {bits_max} behind the slash, the bits of such an address")
        }
        NetworkError::HostBits(network, address) => {
            format!("{network} for the network, or {address} for the address alone")
        }
    };
    ValueError::new(word, expected)
}

/// The lists that were given for one flag.
///
/// # Errors
/// If they are longer than a server looks through for each connection.
pub(crate) fn all_networks(flag: &str, lists: Vec<Vec<Network>>) -> Result<Networks, String> {
    let networks: Vec<Network> = lists.into_iter().flatten().collect();
    match networks.len() <= NETWORKS_MAX {
        true => Ok(Networks::new(networks)),
        false => Err(format!(
            "{flag}: has {} networks; expected at most {NETWORKS_MAX}, so join neighbours to \
             larger ones",
            networks.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn localhost_is_both_families() {
        let list = all_networks("--allow", vec![networks("10.0.0.0/8,localhost").expect("a list")]);
        let list = list.expect("few");
        for inside in [Ipv4Addr::new(10, 2, 3, 4), Ipv4Addr::new(127, 3, 0, 1)] {
            assert!(list.contains(inside.into()), "{inside}");
        }
        assert!(list.contains(Ipv6Addr::LOCALHOST.into()));
        assert!(!list.contains(Ipv4Addr::new(11, 0, 0, 1).into()));
    }

    #[test]
    fn a_wrong_one_is_told_with_a_way_out() {
        for (wrong, said) in [
            ("10.0.0.5/24", "got '10.0.0.5/24', expected 10.0.0.0/24 for the network, or 10.0.0.5"),
            ("10.0.0.0/33", "expected at most 32"),
            ("::/129", "expected at most 128"),
            ("10.0.0.0/8,", "got '', expected comma-separated"),
            ("example.org", "got 'example.org', expected comma-separated"),
        ] {
            let line = networks(wrong).expect_err(wrong).to_string();
            assert!(line.contains(said), "{line}");
        }
        let many = vec![vec![Network::of(Ipv4Addr::LOCALHOST.into()); 200]; 2];
        assert!(all_networks("--allow", many).is_err());
    }
}
