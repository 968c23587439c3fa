//! What a request is addressed to: host, path, port, and what the upstream gets to see of it.
//!
//! RFC 9112 section 3.2 is the source of the rules. Invariant: after `read` there is exactly one
//! `Host`, it agrees with the request line, and the request line is in origin form; no route is
//! chosen by a path that its application may read as another route's.

use std::net::{Ipv6Addr, SocketAddr};

use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Uri, Version};

use crate::error::Fault;
use crate::message::StripPrefix;
use crate::table::{PathIndex, RouteTable, Table};
use crate::worker::inbound::Inbound;

/// Where a request wants to go.
#[derive(Debug)]
pub(crate) struct Target {
    /// The `Host` as it goes on.
    pub(crate) host: HeaderValue,
    /// Where in `host` the name without port ends.
    name_end: usize,
    spelling: Spelling,
}

/// Checks the request line and `Host`, and brings both into the form that goes on.
///
/// `local` is where the client connected to: the address of an HTTP/1.0 request that names none.
pub(crate) fn read(parts: &mut Parts, local: SocketAddr) -> Result<Target, Fault> {
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err(Fault::Unsupported("the methods CONNECT and TRACE are not supported"));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.clone(),
        (Some(_), Some(_)) => return Err(Fault::Malformed("the request has two Host lines")),
        (None, _) if parts.version == Version::HTTP_10 => {
            let here = SocketAddr::new(local.ip().to_canonical(), local.port()).to_string();
            let host = HeaderValue::from_str(&here)
                .map_err(|_| Fault::Malformed("the request has no Host line"))?;
            parts.headers.insert(HOST, host.clone());
            host
        }
        (None, _) => return Err(Fault::Malformed("the request has no Host line")),
    };
    let host = match parts.uri.authority() {
        None => host,
        Some(authority) => {
            // Absolute form: the authority wins and replaces Host (RFC 9112, 3.2.2).
            let web = matches!(parts.uri.scheme_str(), Some("http" | "https"));
            if !web || authority.as_str().contains('@') {
                return Err(Fault::Malformed("the address in the request line is not usable"));
            }
            HeaderValue::from_str(authority.as_str())
                .map_err(|_| Fault::Malformed("the address in the request line is not usable"))?
        }
    };
    let name_end = name_end(host.as_bytes())
        .ok_or(Fault::Malformed("the Host line is not a host and a port"))?;
    if parts.uri.authority().is_some() {
        parts.headers.insert(HOST, host.clone());
        parts.uri = origin_form(&parts.uri);
    }
    // The version is each hop's own: upstreams are asked in ours (RFC 9110, 2.5).
    parts.version = Version::HTTP_11;
    let path = parts.uri.path();
    let asterisk = path == "*" && parts.method == Method::OPTIONS;
    if !path.starts_with('/') && !asterisk {
        return Err(Fault::Malformed("the address in the request line has no path"));
    }
    let spelling = Spelling::of(path);
    Ok(Target { host, name_end, spelling })
}

fn origin_form(uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned();
    Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
}

/// The end of the name in `name`, `name:port`, `[v6]:port`; `None` if it is none of these.
fn name_end(host: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(host).ok()?;
    let end = if let Some(inner) = text.strip_prefix('[') {
        let end = inner.find(']')?;
        inner.get(..end)?.parse::<Ipv6Addr>().ok()?;
        end + 2
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&b);
        host.get(..end)?.iter().all(|b| fits(*b)).then_some(end)?
    };
    let port = text.get(end..)?;
    let good = port.is_empty()
        || port.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    // An empty name with a port names nobody.
    (good && (end > 0 || port.is_empty())).then_some(end)
}

impl Target {
    /// The host without port and without a dot at its end.
    pub(crate) fn name(&self) -> &str {
        let name = self.host.as_bytes().get(..self.name_end).unwrap_or_default();
        let name = std::str::from_utf8(name).unwrap_or_default();
        name.strip_suffix('.').unwrap_or(name)
    }

    /// The port in `Host`.
    fn port(&self) -> Option<u16> {
        let port = self.host.as_bytes().get(self.name_end..)?.strip_prefix(b":")?;
        std::str::from_utf8(port).ok()?.parse().ok()
    }

    /// The app's and the route's index.
    pub(crate) fn find(
        &self,
        table: &Table,
        inbound: &Inbound,
        parts: &Parts,
    ) -> Result<(usize, usize), Fault> {
        let path = self.spelling.read(parts.uri.path());
        let by_host = table.index.paths(self.name());
        if let Some(forced) = &inbound.forced {
            // A color's own address: the app is known. Its host's routes first, then any. The port
            // in `Host` stands for a listener's, if a route asks for that one.
            let at = table.apps.iter().position(|app| app.spec.app == forced.0);
            let (at, app) =
                at.and_then(|at| Some((at, table.apps.get(at)?))).ok_or(Fault::NoRoute)?;
            self.spelling.allow(&app.paths)?;
            let on = self.port().filter(|on| app.spec.routes.iter().any(|r| r.on == Some(*on)));
            let by_host = by_host.find(path, on.or(Some(inbound.local.port())));
            if let Some(place) = by_host.filter(|place| place.app == at) {
                return Ok((at, place.route));
            }
            let place = app.paths.find(path, on).or_else(|| app.paths.find(path, None));
            return place.map(|place| (at, place.route)).ok_or(Fault::NoRoute);
        }
        self.spelling.allow(by_host)?;
        let place = by_host.find(path, Some(inbound.local.port())).ok_or(Fault::NoRoute)?;
        Ok((place.app, place.route))
    }
}

/// How a path is spelled.
#[derive(Debug, PartialEq, Eq)]
enum Spelling {
    /// As it is compared.
    Plain,
    /// With escapes of letters that need none: this is the same path without them (RFC 3986,
    /// 6.2.2.2).
    Escaped(String),
    /// With a segment `.` or `..`, or one that some application takes for one. Clients resolve
    /// them before they ask; what is left leads elsewhere than it seems to.
    Dotted,
}

impl Spelling {
    fn of(path: &str) -> Self {
        if !path.contains(['%', '\\']) && !path.contains("/.") {
            return Self::Plain;
        }
        let plain = unescape(path);
        // What applications take for a slash, and for the end of a segment's name.
        let slashes = plain.to_ascii_lowercase().replace("%2f", "/").replace("%5c", "/");
        let slashes = slashes.replace('\\', "/").replace("%3b", ";");
        let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
        if slashes.split('/').any(dots) {
            Self::Dotted
        } else if plain == path {
            Self::Plain
        } else {
            Self::Escaped(plain)
        }
    }

    /// The path by which routes are chosen and prefixes taken away.
    fn read<'a>(&'a self, path: &'a str) -> &'a str {
        match self {
            Self::Escaped(plain) => plain,
            Self::Plain | Self::Dotted => path,
        }
    }

    /// Refuses dots where a path decides.
    fn allow(&self, paths: &PathIndex) -> Result<(), Fault> {
        if *self == Self::Dotted && paths.decides() {
            return Err(Fault::Malformed("the path has a segment . or .., resolve it first"));
        }
        Ok(())
    }
}

/// The path with every escape of a letter, a digit or one of `-._~` undone.
fn unescape(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|b| b.is_ascii_alphanumeric() || b"-._~".contains(b)) {
            // `+1` is a number to the parser, but no escape.
            Some(byte) if !after.starts_with('+') => {
                plain.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                plain.push('%');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// Takes the route's prefix away, if the route says so.
pub(crate) fn rewrite(parts: &mut Parts, route: &RouteTable, target: &Target) -> Result<(), Fault> {
    if route.strip == StripPrefix::Keep || route.prefix.is_empty() {
        return Ok(());
    }
    let old = target.spelling.read(parts.uri.path());
    // One slash: two would name a host to whoever makes an address of it.
    let rest = old.strip_prefix(&*route.prefix).unwrap_or(old).trim_start_matches('/');
    let path = match parts.uri.query() {
        Some(query) => format!("/{rest}?{query}"),
        None => format!("/{rest}"),
    };
    let path = PathAndQuery::from_maybe_shared(Bytes::from(path))
        .map_err(|_| Fault::Malformed("the path is not usable without its prefix"))?;
    parts.uri = Uri::from(path);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_split_and_checked() {
        for (host, name) in [
            ("a.test", Some("a.test")),
            ("a.test:8080", Some("a.test")),
            ("a.test.:80", Some("a.test")),
            ("[::1]:80", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("127.0.0.1:", Some("127.0.0.1")),
            ("", Some("")),
            ("a b", None),
            ("a/b", None),
            ("u@a", None),
            ("a:80:80", None),
            ("a:x", None),
            (":80", None),
            ("[::1", None),
            ("[zz]", None),
            ("a\"", None),
        ] {
            let value = HeaderValue::from_str(host).unwrap();
            let found = name_end(value.as_bytes()).map(|name_end| {
                let target = Target { host: value.clone(), name_end, spelling: Spelling::Plain };
                target.name().to_owned()
            });
            assert_eq!(found.as_deref(), name, "{host}");
        }
    }

    #[test]
    fn paths_are_read_as_applications_read_them() {
        let escaped = |plain: &str| Spelling::Escaped(plain.to_owned());
        for (path, spelling) in [
            ("/", Spelling::Plain),
            ("*", Spelling::Plain),
            ("/a.b/.well-known/..x/...", Spelling::Plain),
            ("/a%20b%2Fc%zz%+1%", Spelling::Plain),
            ("/%41%2d%2E%5f%7Ex", escaped("/A-._~x")),
            ("/%E4%BD%A0%61", escaped("/%E4%BD%A0a")),
            ("/%e4%bd%a0", Spelling::Plain),
            ("/%2541", Spelling::Plain),
            ("/.", Spelling::Dotted),
            ("/a/../b", Spelling::Dotted),
            ("/a/%2E./b", Spelling::Dotted),
            ("/a/..%2Fb", Spelling::Dotted),
            ("/a%5c..%5cb", Spelling::Dotted),
            ("/a\\..\\b", Spelling::Dotted),
            ("/a/..;v=1/b", Spelling::Dotted),
            ("/a/..%3Bv=1/b", Spelling::Dotted),
        ] {
            assert_eq!(Spelling::of(path), spelling, "{path}");
        }
    }
}
