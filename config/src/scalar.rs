//! Values that are written as one text: durations, addresses, networks, hosts, paths and so on.
//!
//! Each is checked by itself here. What a value means together with others is asked in `check`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cutover_model::Weight;

use crate::checked::{HostName, PathPrefix, PortKey, StatusRange, Sticky, Transport};
use crate::network::Network;
use crate::read::{FromText, text_schema};

/// Longer is a mistake, and could not be added to a clock.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A duration, as `"10s"` or `"1m 30s"`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span(pub(crate) Duration);

impl FromText for Span {
    const WHAT: &'static str = "a duration";
    const EXAMPLE: &'static str = "\"10s\", \"1m 30s\" or \"1h\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let bad = || format!("\"{text}\" is not a duration");
        let bare_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if bare_number {
            return Err(format!("\"{text}\" has no unit"));
        }
        // A day is 24 hours here; a month or a year is refused.
        let span: jiff::Span = text.parse().map_err(|_| bad())?;
        let relative = jiff::SpanRelativeTo::days_are_24_hours();
        let duration = span.to_duration(relative).map_err(|_| bad())?;
        let duration =
            Duration::try_from(duration).map_err(|_| format!("\"{text}\" is negative"))?;
        match duration > LONGEST {
            true => Err(format!("\"{text}\" is longer than a year")),
            false => Ok(Self(duration)),
        }
    }
}
text_schema!(Span, {
    "type": "string",
    "description": "a duration with its unit: 10s, 1m 30s, 1h",
    "examples": ["10s", "1m 30s"]
});

/// A share of the clients or a rate, as `"1%"` or `"12.5%"`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share(pub(crate) Weight);

impl FromText for Share {
    const WHAT: &'static str = "a percentage in quotes";
    const EXAMPLE: &'static str = "\"1%\" or \"12.5%\"";

    fn from_text(text: &str) -> Result<Self, String> {
        if !text.trim_end().ends_with('%') {
            return Err(format!("\"{text}\" has no percent sign"));
        }
        text.parse().map(Self).map_err(|error: cutover_model::WeightError| error.to_string())
    }
}
text_schema!(Share, { "type": "string", "pattern": "^[0-9]{1,3}(\\.[0-9]{1,2})? ?%$" });

/// An address to listen on or to connect to, with its port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address(pub(crate) SocketAddr);

impl FromText for Address {
    const WHAT: &'static str = "an address with a port";
    const EXAMPLE: &'static str = "\"127.0.0.1:9001\" or \"[::1]:9001\"";

    fn from_text(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let reason = match text.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => match host {
                "" | "*" => {
                    format!("\"{text}\" does not say which address: 0.0.0.0 is all of IPv4")
                }
                _ => format!("\"{host}\" is not an IP address; names are not looked up"),
            },
            _ if text.parse::<std::net::IpAddr>().is_ok() => format!("\"{text}\" has no port"),
            _ => format!("\"{text}\" is not an address with a port"),
        };
        Err(reason)
    }
}
text_schema!(Address, { "type": "string", "examples": ["0.0.0.0:80", "[::]:80"] });

impl FromText for Network {
    const WHAT: &'static str = "a network";
    const EXAMPLE: &'static str = "\"10.0.0.0/8\" or \"::1/128\"";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: crate::network::NetworkError| error.to_string())
    }
}
text_schema!(Network, { "type": "string", "examples": ["127.0.0.0/8", "::1/128"] });

/// A path of the file system, as it was written.
#[derive(Debug, Clone)]
pub(crate) struct FilePath(pub(crate) String);

impl FilePath {
    /// The path, from the folder of the operator's file if it is a relative one.
    pub(crate) fn within(&self, folder: &Path) -> PathBuf {
        folder.join(self.0.strip_prefix("./").unwrap_or(&self.0))
    }
}

impl FromText for FilePath {
    const WHAT: &'static str = "a path";
    const EXAMPLE: &'static str = "\"secrets/db\" or \"/etc/shop/db\"";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the path is empty".to_owned());
        }
        if text.chars().any(char::is_control) {
            return Err("a path cannot have a NUL or another control character".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}
text_schema!(FilePath, { "type": "string", "minLength": 1 });

/// Text that must not be shown.
#[derive(Clone)]
pub(crate) struct Hidden(pub(crate) String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl FromText for Hidden {
    const WHAT: &'static str = "a text";
    const EXAMPLE: &'static str = "\"this\", in quotes; or name a file that holds it";

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("the secret is empty".to_owned()),
            text if text.contains('\0') => Err("a NUL character cannot stand in here".to_owned()),
            text => Ok(Self(text.to_owned())),
        }
    }
}
text_schema!(Hidden, { "type": "string", "minLength": 1 });

impl FromText for HostName {
    const WHAT: &'static str = "a host name";
    const EXAMPLE: &'static str = "\"shop.example.com\"";

    fn from_text(text: &str) -> Result<Self, String> {
        Self::new(text)
    }
}
text_schema!(HostName, { "type": "string", "examples": ["shop.example.com"] });

impl FromText for PathPrefix {
    const WHAT: &'static str = "a path";
    const EXAMPLE: &'static str = "\"/api\"";

    fn from_text(text: &str) -> Result<Self, String> {
        Self::new(text)
    }
}
text_schema!(PathPrefix, { "type": "string", "pattern": "^/" });

/// A path with a query, to ask a service for.
#[derive(Debug, Clone)]
pub(crate) struct Target(pub(crate) String);

impl FromText for Target {
    const WHAT: &'static str = "a path to ask for";
    const EXAMPLE: &'static str = "\"/api/health\"";

    fn from_text(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("\"{text}\" does not begin with /"));
        }
        match text.chars().all(|c| c.is_ascii_graphic() && c != '#') {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("{text:?} has a character that a request cannot carry")),
        }
    }
}
text_schema!(Target, { "type": "string", "pattern": "^/" });

impl FromText for Sticky {
    const WHAT: &'static str = "a way to know clients again";
    const EXAMPLE: &'static str = "\"cookie\", \"ip\", \"header:NAME\" or \"off\"";
    const LEAD: &'static str = "write";

    fn from_text(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("header:")) {
            ("cookie", _) => Ok(Self::Cookie),
            ("ip", _) => Ok(Self::Ip),
            ("off", _) => Ok(Self::Off),
            (_, Some(name)) if is_header_name(name) => Ok(Self::Header(name.to_ascii_lowercase())),
            (_, Some(name)) => Err(format!("\"{name}\" is not the name of a header")),
            _ => Err(format!("\"{text}\" is not {}", Self::WHAT)),
        }
    }
}
text_schema!(Sticky, { "type": "string", "pattern": "^(cookie|ip|off|header:.+)$" });

fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// A status, or a class of them, as `"200"` or `"2xx"`.
impl crate::read::Read for StatusRange {
    fn read(node: &crate::tree::Node, sink: &mut crate::problem::Sink) -> Option<Self> {
        use crate::tree::Value;
        let text = match &node.value {
            Value::Integer(number) => number.to_string(),
            Value::Text(text) | Value::Loose(text) => text.clone(),
            _ => String::new(),
        };
        let range = match text.as_bytes() {
            [class @ b'1'..=b'5', b'x', b'x'] => {
                let first = u16::from(class - b'0') * 100;
                Some(Self { first, last: first + 99 })
            }
            _ => text
                .parse()
                .ok()
                .filter(|status| (100..600).contains(status))
                .map(|status| Self { first: status, last: status }),
        };
        if range.is_none() {
            sink.wrong(&node.place, format!("`{}` is not an HTTP status", node.place.key))
                .hint("write 200, [200, 204], or \"2xx\" for all of a kind");
        }
        range
    }
}
text_schema!(StatusRange, {
    "anyOf": [
        { "type": "integer", "minimum": 100, "maximum": 599 },
        { "type": "string", "pattern": "^[1-5]xx$" }
    ]
});

impl PortKey {
    /// Reads `9229`, `5353/udp` or `backend:9229`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn from_text(text: &str) -> Result<Self, String> {
        let bad = || format!("\"{text}\" is not a published port");
        let (rest, transport) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Transport::Tcp),
            Some((rest, "udp")) => (rest, Transport::Udp),
            Some(_) => return Err(bad()),
        };
        let (service, port) = match rest.rsplit_once(':') {
            Some((service, port)) => {
                let service = cutover_model::ServiceName::new(service);
                (Some(service.map_err(|error| error.to_string())?), port)
            }
            None => (None, rest),
        };
        let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?;
        Ok(Self { service, port, transport })
    }
}
