//! The names by which a server may be addressed. A page of an attacker whose name points to this machine (DNS
//! rebinding) still says that name in its requests, and is refused by it.

use std::net::{IpAddr, SocketAddr};

/// The names of a server, without ports: those differ behind a tunnel, and no attack needs them to be right.
#[derive(Debug, Clone)]
pub struct Hosts {
    listen: IpAddr,
    names: Vec<String>,
}

impl Hosts {
    /// The names of a server that listens there: `localhost`, its address, and `more` that people have given it.
    pub fn new(listen: SocketAddr, more: &[String]) -> Hosts {
        let mut names: Vec<String> = more.iter().map(|name| name_of(name).to_ascii_lowercase()).collect();
        names.push("localhost".to_owned());
        Hosts { listen: listen.ip().to_canonical(), names }
    }

    /// Whether a `Host` header is one of them. A server that listens on all addresses has all addresses: an address
    /// cannot be made to point elsewhere.
    pub fn accepts(&self, host: &str) -> bool {
        let name = name_of(host);
        match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => {
                let address = address.to_canonical();
                address == self.listen || address.is_loopback() || self.listen.is_unspecified()
            }
            Err(_) => self.names.iter().any(|own| own.eq_ignore_ascii_case(name.trim_end_matches('.'))),
        }
    }
}

/// The name in `NAME` or `NAME:PORT`.
pub(super) fn name_of(host: &str) -> &str {
    if let Some(end) = host.find(']').filter(|_| host.starts_with('[')) {
        return &host[..=end];
    }
    match host.split_once(':') {
        // More than one colon: an address of IPv6 without brackets.
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

/// Whether an `Origin` header is this server's own, under the name by which it was addressed.
pub(super) fn is_same_origin(origin: &str, host: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .filter_map(|scheme| origin.strip_prefix(scheme))
        .any(|authority| !host.is_empty() && authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(listen: &str, host: &str) -> bool {
        Hosts::new(listen.parse().unwrap(), &["ci.example:443".to_owned()]).accepts(host)
    }

    #[test]
    fn a_server_answers_to_its_own_names_only() {
        let local = "127.0.0.1:4650";
        for host in
            ["localhost", "localhost:4650", "LOCALHOST:1", "localhost.", "127.0.0.1:4650", "[::1]:4650", "ci.example"]
        {
            assert!(accepts(local, host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.7",
            "[",
            ":",
            "localhost:1:2",
        ] {
            assert!(!accepts(local, host), "{host}");
        }
        assert!(accepts("10.0.0.7:80", "10.0.0.7"));
        assert!(!accepts("10.0.0.7:80", "10.0.0.8"));
        assert!(accepts("0.0.0.0:80", "10.0.0.8:80"));
        assert!(!accepts("[::]:80", "evil.example"));
    }

    #[test]
    fn an_origin_is_compared_with_its_port() {
        assert!(is_same_origin("http://localhost:4650", "localhost:4650"));
        assert!(is_same_origin("https://ci.example", "CI.example"));
        for origin in
            ["http://localhost:3000", "null", "", "http://localhost:4650.evil.example", "ftp://localhost:4650"]
        {
            assert!(!is_same_origin(origin, "localhost:4650"), "{origin}");
        }
        assert!(!is_same_origin("http://", ""));
    }
}
