//! A block of IP addresses, as `10.0.0.0/8`.
//!
//! IPv4 addresses that arrive mapped into IPv6 (`::ffff:10.0.0.1`) count as the IPv4 ones. Bits
//! behind the prefix have to be zero, so that a slip (`10.1.0.0/8`) is seen.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::Serialize;

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not `address/bits`, nor a single address.
    #[error("\"{0}\" is not a network")]
    Malformed(String),
    /// The prefix is longer than the address.
    #[error("\"{text}\" asks for more than {most} bits")]
    TooLong {
        /// What was written.
        text: String,
        /// 32 or 128.
        most: u8,
    },
    /// Bits behind the prefix are set.
    #[error("\"{text}\" has bits behind its prefix; the network is {network}")]
    StrayBits {
        /// What was written.
        text: String,
        /// What was most likely meant.
        network: Network,
    },
}

impl Network {
    /// 127.0.0.0/8 and ::1/128.
    pub const LOOPBACK: [Self; 2] = [
        Self { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 },
        Self { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 },
    ];

    /// The first address of the block.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits are fixed.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether an address lies in the block.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match (self.address, address) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                first(address, self.prefix) == self.address
            }
            _ => false,
        }
    }
}

/// The first address of the block of `prefix` bits that an address lies in.
fn first(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    /// Reads `10.0.0.0/8`; an address without a prefix is a block of one.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let malformed = || NetworkError::Malformed(text.chars().take(60).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| malformed())?,
            None => most,
        };
        if prefix > most {
            return Err(NetworkError::TooLong { text: text.to_owned(), most });
        }
        let network = Self { address: first(address, prefix), prefix };
        if network.address != address {
            return Err(NetworkError::StrayBits { text: text.to_owned(), network });
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Network {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Network;

    #[track_caller]
    fn check(network: &str, inside: &[&str], outside: &[&str]) {
        let block: Network = network.parse().unwrap();
        for address in inside {
            assert!(block.contains(address.parse().unwrap()), "{address} lies in {network}");
        }
        for address in outside {
            assert!(!block.contains(address.parse().unwrap()), "{address} lies not in {network}");
        }
    }

    #[test]
    fn a_network_contains_its_block_and_no_more() {
        check("10.0.0.0/8", &["10.0.0.0", "10.255.255.255"], &["11.0.0.0", "9.255.255.255"]);
        check("0.0.0.0/0", &["1.2.3.4"], &["::1"]);
        check("::/0", &["::1"], &["1.2.3.4"]);
        check("::1/128", &["::1"], &["::2"]);
        check("127.0.0.0/8", &["::ffff:127.0.0.1"], &["::ffff:128.0.0.1"]);
        check("192.0.2.7", &["192.0.2.7"], &["192.0.2.8"]);
    }

    #[test]
    fn bits_behind_the_prefix_are_refused_with_the_right_block() {
        let error = "10.1.0.0/8".parse::<Network>().unwrap_err().to_string();
        assert_eq!(error, "\"10.1.0.0/8\" has bits behind its prefix; the network is 10.0.0.0/8");
        assert!("10.0.0.0/33".parse::<Network>().is_err());
        assert!("10.0.0.0/".parse::<Network>().is_err());
    }
}
