//! This machine's names and addresses, as others on the network see them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of all interfaces that are up, without those of this machine alone.
pub fn addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "the network interfaces cannot be listed");
        Vec::new()
    });
    interfaces
        .iter()
        .filter(|interface| !interface.is_loopback())
        .map(if_addrs::Interface::ip)
        .collect()
}

/// The router of version 4.
pub fn gateway() -> Option<Ipv4Addr> {
    gateway_in(&std::fs::read_to_string("/proc/net/route").ok()?)
}

fn gateway_in(table: &str) -> Option<Ipv4Addr> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (to, via) = (fields.next()?, fields.next()?);
        let via = u32::from_str_radix(via, 16).ok()?;
        (to == "00000000" && via != 0).then(|| Ipv4Addr::from(via.to_le_bytes()))
    })
}

/// The router of version 6, and the number of the interface that it is behind.
pub fn gateway6() -> Option<(Ipv6Addr, u32)> {
    let table = std::fs::read_to_string("/proc/net/ipv6_route").ok()?;
    let (via, interface) = gateway6_in(&table)?;
    let all = if_addrs::get_if_addrs().ok()?;
    let own = all.iter().find(|own| own.name == interface)?;
    Some((via, own.index?))
}

fn gateway6_in(table: &str) -> Option<(Ipv6Addr, &str)> {
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (to, length, via) = (fields.first()?, fields.get(1)?, fields.get(4)?);
        let via = u128::from_str_radix(via, 16).ok()?;
        let is_default = *length == "00" && to.bytes().all(|digit| digit == b'0');
        (is_default && via != 0).then_some((Ipv6Addr::from(via), *fields.last()?))
    })
}

/// The name that the system has.
pub fn hostname() -> Option<String> {
    let system = rustix::system::uname();
    let name = system.nodename().to_str().ok()?;
    let first = name.split('.').next()?.to_ascii_lowercase();
    let usable = !first.is_empty()
        && first
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-');
    usable.then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_are_read_from_the_kernels_tables() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     wl0\t0001A8C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\n\
                     wl0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\n";
        assert_eq!(gateway_in(table), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(gateway_in("Iface\tDestination\tGateway\n"), None);
        let zeros = "0".repeat(32);
        let via = "fe800000000000000000000000000001";
        let six = format!(
            "{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200 lo\n\
             {zeros} 00 {zeros} 00 {via} 00000400 00000001 00000000 00000003 wl0\n"
        );
        let found = gateway6_in(&six);
        assert_eq!(found, Some(("fe80::1".parse().unwrap(), "wl0")));
    }
}
