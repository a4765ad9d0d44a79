//! DPDK devices, and which addresses are on which. Reads words; what DPDK says of a device is
//! `net::nic`'s.

use std::fmt;
use std::net::IpAddr;

use super::{Cidr, Config, Parsed, ValueError, cidr};

/// An address of the server's own on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceAddress {
    /// The address and its network.
    pub cidr: Cidr,
    /// The name of its device; None: the only one there is.
    pub device: Option<String>,
}

impl From<Cidr> for DeviceAddress {
    fn from(cidr: Cidr) -> DeviceAddress {
        DeviceAddress { cidr, device: None }
    }
}

impl fmt::Display for DeviceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cidr.address, self.cidr.prefix_bits)?;
        self.device.as_ref().map_or(Ok(()), |device| write!(f, ",device={device}"))
    }
}

/// `CIDR[,device=NAME]`.
///
/// # Errors
/// If it is not that, or not a host's address.
pub(crate) fn device_address(text: &str) -> Parsed<DeviceAddress> {
    let Some((address, rest)) = text.split_once(',') else {
        return cidr(text).map(DeviceAddress::from);
    };
    let cidr = cidr(address)?;
    match rest.strip_prefix("device=") {
        Some(name) if !name.is_empty() && !name.contains(',') => {
            Ok(DeviceAddress { cidr, device: Some(device_name(name)) })
        }
        _ => Err(ValueError::new(text, "CIDR, or CIDR,device=NAME")),
    }
}

/// The name of a device: what is before the first comma, and of a PCI address the whole of it.
pub fn device_name(device: &str) -> String {
    let name = device.split(',').next().unwrap_or_default();
    let is_short = name.len() == "05:00.0".len() && name.as_bytes()[2] == b':';
    match name.contains(':') {
        true if is_short => format!("0000:{name}").to_lowercase(),
        true => name.to_lowercase(),
        false => name.to_owned(),
    }
}

impl Config {
    /// Whether clients come through devices, and not through kernel sockets.
    pub fn has_devices(&self) -> bool {
        !self.devices.is_empty()
    }

    /// The server's addresses on one of its devices.
    pub fn addresses_on(&self, device: &str) -> Vec<Cidr> {
        let name = device_name(device);
        let is_on = |one: &&DeviceAddress| one.device.as_ref().is_none_or(|on| *on == name);
        self.addresses.iter().filter(is_on).map(|one| one.cidr).collect()
    }

    /// The routers that one of its devices reaches.
    pub fn gateways_on(&self, device: &str) -> Vec<IpAddr> {
        let own = self.addresses_on(device);
        let is_near = |gateway: &&IpAddr| own.iter().any(|own| own.contains(gateway));
        self.gateways.iter().filter(is_near).copied().collect()
    }
}

/// Whether each device has addresses and each address a device.
///
/// # Errors
/// A line that says what does not.
pub(crate) fn check_devices(config: &Config) -> Result<(), String> {
    let names: Vec<_> = config.devices.iter().map(|device| device_name(device)).collect();
    for (n, name) in names.iter().enumerate() {
        if names[..n].contains(name) {
            return Err(format!("--device: {name} is given twice"));
        }
        if config.addresses_on(name).is_empty() {
            return Err(format!("--device: {name} has no --address"));
        }
    }
    for address in &config.addresses {
        match &address.device {
            Some(name) if !names.contains(name) => {
                let names = names.join(", ");
                return Err(format!("--address: {address}: no --device has that name, of {names}"));
            }
            None if names.len() > 1 => {
                return Err(format!(
                    "--address: {address} is on which device? Say {address},device={}",
                    names[0]
                ));
            }
            _ => {}
        }
    }
    let is_near = |gateway: &IpAddr| config.addresses.iter().any(|own| own.cidr.contains(gateway));
    match config.gateways.iter().find(|gateway| !is_near(gateway)) {
        Some(far) => Err(format!("--gateway: {far} is in the network of no --address")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(devices: &[&str], addresses: &[&str], gateways: &[&str]) -> Result<Config, String> {
        let config = Config {
            devices: devices.iter().map(ToString::to_string).collect(),
            addresses: addresses.iter().map(|text| device_address(text).unwrap()).collect(),
            gateways: gateways.iter().map(|text| text.parse().unwrap()).collect(),
            ..Config::default()
        };
        check_devices(&config).map(|()| config)
    }

    #[test]
    fn an_address_names_its_device_where_there_are_several() {
        let two = ["net_tap0,iface=tap0", "05:00.0"];
        let on = ["10.0.0.5/24,device=net_tap0", "10.1.0.5/24,device=0000:05:00.0"];
        let config = checked(&two, &on, &["10.1.0.1"]).unwrap();
        let ip = |cidr: Cidr| cidr.address.to_string();
        let of = |device| config.addresses_on(device).into_iter().map(ip).collect::<Vec<_>>();
        assert_eq!(of(two[0]), ["10.0.0.5"]);
        assert_eq!(of(two[1]), ["10.1.0.5"]);
        assert!(config.gateways_on(two[0]).is_empty());
        assert_eq!(config.gateways_on(two[1]).len(), 1);
        let one = checked(&two[..1], &["10.0.0.5/24", "fd00::5/64"], &[]).unwrap();
        assert_eq!(one.addresses_on(two[0]).len(), 2);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let two = ["net_tap0,iface=tap0", "net_tap1,iface=tap1"];
        let refused = |addresses: &[&str]| checked(&two, addresses, &[]).unwrap_err();
        let on_0 = "10.0.0.5/24,device=net_tap0";
        assert!(refused(&["10.0.0.5/24", "10.1.0.5/24"]).contains(",device=net_tap0"));
        assert!(refused(&[on_0]).contains("net_tap1 has no --address"));
        let unknown = refused(&[on_0, "10.1.0.5/24,device=net_tap1", "10.2.0.5/24,device=tap2"]);
        assert!(unknown.contains("no --device has that name"), "{unknown}");
        let twice = checked(&["05:00.0", "0000:05:00.0"], &["10.0.0.5/24"], &[]).unwrap_err();
        assert_eq!(twice, "--device: 0000:05:00.0 is given twice");
        let far = checked(&two[..1], &[on_0], &["10.9.0.1"]).unwrap_err();
        assert!(far.starts_with("--gateway: 10.9.0.1"), "{far}");
        for text in
            ["10.0.0.5/24,", "10.0.0.5/24,device=", "10.0.0.5/24,dev=a", "10.0.0.5,device=a"]
        {
            assert!(device_address(text).is_err(), "{text}");
        }
    }
}
