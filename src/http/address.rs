//! `--http ADDR:PORT`: where the server listens.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::str::FromStr;

/// Where a bare port listens.
const LOOPBACK: &str = "127.0.0.1";

/// An address with its port. **Without an address, it is loopback.**
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress(String);

/// It is no such address.
#[derive(Debug, thiserror::Error)]
#[error("give ADDRESS:PORT, for example 127.0.0.1:9187, or [::]:9187 for all addresses")]
pub struct NoAddress;

impl FromStr for ListenAddress {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
            return Ok(Self(format!("{LOOPBACK}:{port}")));
        }
        let is_name = |host: &str| {
            !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
        };
        let is_host_and_port =
            text.rsplit_once(':').is_some_and(|(host, port)| is_name(host) && port.parse::<u16>().is_ok());
        let is_address = text.parse::<SocketAddr>().is_ok() || is_host_and_port;
        // Without a port.
        let is_bare = text.parse::<IpAddr>().is_ok();
        if is_address && !is_bare { Ok(Self(text.to_owned())) } else { Err(NoAddress) }
    }
}

impl ListenAddress {
    /// Listens there.
    pub(super) fn bind(&self) -> io::Result<TcpListener> {
        TcpListener::bind(&self.0)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_loopback_and_an_address_needs_a_port() {
        let cases = [
            ("9187", Some("127.0.0.1:9187")),
            (":9187", Some("127.0.0.1:9187")),
            ("127.0.0.1:0", Some("127.0.0.1:0")),
            ("0.0.0.0:9187", Some("0.0.0.0:9187")),
            ("[::1]:9187", Some("[::1]:9187")),
            ("localhost:9187", Some("localhost:9187")),
            ("localhost", None),
            ("127.0.0.1", None),
            ("::1", None),
            ("::1:9187", None),
            ("127.0.0.1:http", None),
            ("127.0.0.1:70000", None),
            ("http://127.0.0.1:9187", None),
            (" 127.0.0.1:9187", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let parsed = text.parse::<ListenAddress>().ok().map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }
}
