//! What a request is addressed to: host, path, port, and what the upstream gets to see of it.
//!
//! RFC 9112 section 3.2 is the source of the rules. Invariant: after `read` there is exactly one
//! `Host`, it agrees with the request line, and the request line is in origin form.

use std::net::Ipv6Addr;

use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Uri, Version};

use crate::error::Fault;
use crate::message::StripPrefix;
use crate::table::{RouteTable, Table};
use crate::worker::inbound::Inbound;

/// Where a request wants to go.
#[derive(Debug)]
pub(crate) struct Target {
    /// The `Host` as it goes on; empty for HTTP/1.0 without one.
    pub(crate) host: HeaderValue,
    /// Where in `host` the name without port ends.
    name_end: usize,
}

/// Checks the request line and `Host`, and brings both into the form that goes on.
pub(crate) fn read(parts: &mut Parts) -> Result<Target, Fault> {
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err(Fault::Unsupported("the methods CONNECT and TRACE are not supported"));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.clone(),
        (Some(_), Some(_)) => return Err(Fault::Malformed("the request has two Host lines")),
        (None, _) if parts.version == Version::HTTP_10 => HeaderValue::from_static(""),
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
    let path = parts.uri.path();
    let asterisk = path == "*" && parts.method == Method::OPTIONS;
    if !path.starts_with('/') && !asterisk {
        return Err(Fault::Malformed("the address in the request line has no path"));
    }
    Ok(Target { host, name_end })
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
    ) -> Option<(usize, usize)> {
        let path = parts.uri.path();
        if let Some(forced) = &inbound.forced {
            // A color's own address: the app is known. Its host's routes first, then any. The port
            // in `Host` stands for a listener's, if a route asks for that one.
            let at = table.apps.iter().position(|app| app.spec.app == forced.0)?;
            let app = table.apps.get(at)?;
            let on = self.port().filter(|on| app.spec.routes.iter().any(|r| r.on == Some(*on)));
            let by_host = table.index.find(self.name(), path, on.unwrap_or(inbound.port));
            if let Some(place) = by_host.filter(|place| place.app == at) {
                return Some((at, place.route));
            }
            let place = app.paths.find(path, on).or_else(|| app.paths.find(path, None))?;
            return Some((at, place.route));
        }
        table.index.find(self.name(), path, inbound.port).map(|place| (place.app, place.route))
    }
}

/// Takes the route's prefix away, if the route says so.
pub(crate) fn rewrite(parts: &mut Parts, route: &RouteTable) -> Result<(), Fault> {
    if route.strip == StripPrefix::Keep || route.prefix.is_empty() {
        return Ok(());
    }
    let old = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = old.strip_prefix(&*route.prefix).unwrap_or(old);
    let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
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
            let found = name_end(value.as_bytes())
                .map(|name_end| Target { host: value.clone(), name_end }.name().to_owned());
            assert_eq!(found.as_deref(), name, "{host}");
        }
    }
}
