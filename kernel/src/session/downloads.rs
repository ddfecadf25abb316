//! What a confined kernel may download.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde::Deserialize;
use url::Host;

/// The servers that a confined kernel may download from, and how much. It never connects to loopback, link-local, private or other special
/// addresses, whatever a name resolves to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Downloads {
    /// The allowed servers; none means no downloads.
    pub servers: Vec<Server>,
    /// Maximum size of a download, in bytes.
    pub size: u64,
}

/// The servers with a name.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum Server {
    /// `*`: all of them.
    Any,
    /// `*.example.org`: those below this domain, but not itself.
    Below(String),
    /// `data.example.org`
    Named(String),
}

/// The text is not the name of a server.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a server: write data.example.org, *.example.org, or * for all")]
pub struct InvalidServer(String);

impl FromStr for Server {
    type Err = InvalidServer;

    fn from_str(text: &str) -> Result<Self, InvalidServer> {
        let domain = |text: &str| match Host::parse(text) {
            Ok(Host::Domain(name)) if !name.contains('*') && !name.is_empty() => Ok(name),
            _ => Err(InvalidServer(text.to_owned())),
        };
        match text.strip_prefix("*.") {
            _ if text == "*" => Ok(Self::Any),
            Some(rest) => Ok(Self::Below(domain(rest)?)),
            None => Ok(Self::Named(domain(text)?)),
        }
    }
}

impl TryFrom<String> for Server {
    type Error = InvalidServer;

    fn try_from(text: String) -> Result<Self, InvalidServer> {
        text.parse()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(domain) => write!(f, "*.{domain}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl Server {
    fn includes(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Below(domain) => name.strip_suffix(domain.as_str()).is_some_and(|start| start.ends_with('.')),
            Self::Named(own) => own == name,
        }
    }
}

impl Downloads {
    /// Checks a URL, also one that a server redirects to. Returns a message if it is not allowed.
    pub(super) fn check(&self, url: &Url) -> Result<(), String> {
        let allowed = || match &self.servers[..] {
            [] => "this kernel may not download anything".to_owned(),
            servers => {
                let servers: Vec<String> = servers.iter().map(Server::to_string).collect();
                format!("this kernel may only download from {}", servers.join(", "))
            }
        };
        let address = match url.host() {
            Some(Host::Domain(name)) if self.servers.iter().any(|server| server.includes(name.trim_end_matches('.'))) => {
                return Ok(());
            }
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            _ => return Err(allowed()),
        };
        match self.servers.contains(&Server::Any) {
            true if is_public(address) => Ok(()),
            true => Err(not_public(&address.to_string())),
            false => Err(allowed()),
        }
    }
}

/// Resolves names to public addresses only.
pub(super) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // the port is that of the URL
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<_> = found.filter(|address| is_public(address.ip())).collect();
            match public.is_empty() {
                true => Err(not_public(name.as_str()).into()),
                false => Ok(Box::new(public.into_iter()) as Addrs),
            }
        })
    }
}

fn not_public(server: &str) -> String {
    format!("{server} has no public address, and this kernel may not connect to others")
}

/// Returns whether an address is reachable from everywhere. Others are those of the registries of special addresses of IANA.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        // this network; shared; protocol assignments; benchmarks; reserved
        [0, ..] | [100, 64..=127, ..] | [192, 0, 0, _] | [198, 18 | 19, ..] | [240..=255, ..] => true,
        _ => false,
    };
    !special
        && !address.is_private()
        && !address.is_loopback()
        && !address.is_link_local()
        && !address.is_multicast()
        && !address.is_documentation()
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| is_public_v4((u32::from(high) << 16 | u32::from(low)).into());
    match address.segments() {
        // IPv4 in IPv6: mapped, by a translator, by 6to4
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            embedded(high, low)
        }
        // documentation; protocol assignments, such as Teredo; unicast
        [0x2001, 0xdb8, ..] | [0x2001, 0..=0x1ff, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for public in [
            "1.1.1.1",
            "93.184.215.14",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for special in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
    }

    #[test]
    fn urls_are_allowed_by_their_server() {
        let downloads = |servers: &[&str]| Downloads {
            servers: servers.iter().map(|server| server.parse().unwrap()).collect(),
            size: 1,
        };
        let check = |servers: &[&str], url: &str| downloads(servers).check(&url.parse().unwrap());
        let some = ["data.example.org", "*.example.com"];
        for url in [
            "https://data.example.org/x",
            "http://DATA.example.org.:8080/",
            "https://a.b.example.com",
        ] {
            assert_eq!(check(&some, url), Ok(()), "{url}");
        }
        for url in [
            "https://example.org",
            "https://xdata.example.org",
            "https://example.com",
            "https://badexample.com",
            "https://data.example.org.evil.example",
            "https://data.example.org@evil.example",
            "http://1.1.1.1",
        ] {
            let error = check(&some, url).unwrap_err();
            assert_eq!(
                error, "this kernel may only download from data.example.org, *.example.com",
                "{url}"
            );
        }
        assert_eq!(check(&["*"], "http://1.1.1.1"), Ok(()));
        for url in [
            "http://127.1/",
            "http://0x7f.1",
            "http://[::1]:8765",
            "http://169.254.169.254/latest",
        ] {
            assert!(check(&["*"], url).unwrap_err().contains("has no public address"), "{url}");
        }
        assert_eq!(
            check(&[], "https://example.org").unwrap_err(),
            "this kernel may not download anything"
        );
        for wrong in ["", "http://example.org", "example.org:80", "a.*.org", "127.0.0.1", "*."] {
            assert!(wrong.parse::<Server>().is_err(), "{wrong}");
        }
    }
}
