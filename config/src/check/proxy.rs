//! `[proxy]`: settings of the data plane and their defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{Surroundings, deadline};
use crate::checked::{Cookie, ERROR_PAGES, Proxy, SameSite, Secure, Sticky, Timeouts};
use crate::network::Network;
use crate::problem::Sink;
use crate::raw::{RawCookie, RawProxy, RawTimeouts};
use crate::read::{At, Keyed};
use crate::scalar::FilePath;

/// Checks `[proxy]`, or makes the defaults.
pub(super) fn check(raw: Option<&RawProxy>, around: &Surroundings, sink: &mut Sink) -> Proxy {
    let trusted = raw.and_then(|raw| raw.trusted_proxies.as_ref());
    let trusted_proxies = networks(trusted, &[], "anybody could claim any address", sink);
    let from = raw.and_then(|raw| raw.override_from.as_ref());
    let override_from = networks(from, &Network::LOOPBACK, "anybody could choose a color", sink);
    let sticky = raw.and_then(|raw| raw.sticky.as_ref());
    let most = raw.and_then(|raw| raw.max_connections.as_ref());
    let drain = raw.and_then(|raw| raw.drain_deadline.as_ref());
    let cookie = raw.and_then(|raw| raw.cookie.as_ref());
    let timeouts = raw.and_then(|raw| raw.timeouts.as_ref());
    Proxy {
        workers: raw.and_then(|raw| raw.workers.as_ref()).map(|at| at.value.small()),
        trusted_proxies,
        override_from,
        sticky: sticky.map_or(Sticky::Cookie, |at| at.value.clone()),
        cookie: cookie.map(|at| self::cookie(&at.value, sink)).unwrap_or_default(),
        timeouts: self::timeouts(timeouts.map(|at| &at.value), sink),
        max_connections: most.map(|at| at.value.count()),
        drain_deadline: deadline(drain, Duration::from_secs(30), sink),
        via: raw.and_then(|raw| raw.via.as_ref()).is_none_or(|at| at.value),
        access_log: raw.and_then(|raw| raw.access_log.as_ref()).map(|at| around.path(Some(at), "")),
        balancer_path: raw
            .and_then(|raw| raw.balancer_path.as_ref())
            .and_then(|at| balancer_path(at, sink)),
        error_pages: raw
            .and_then(|raw| raw.error_pages.as_ref())
            .map(|at| error_pages(&at.value, around, sink))
            .unwrap_or_default(),
    }
}

fn balancer_path(at: &At<String>, sink: &mut Sink) -> Option<String> {
    let path = &at.value;
    let is_good = path.starts_with('/')
        && path.bytes().all(|b| b.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&b));
    if !is_good && !sink.touched(&at.place.key) {
        sink.wrong(&at.place, format!("\"{path}\" is not a path"))
            .hint("write it without host and query, as \"/balancer\"");
    }
    is_good.then(|| path.clone())
}

fn error_pages(
    raw: &Keyed<FilePath>,
    around: &Surroundings,
    sink: &mut Sink,
) -> BTreeMap<u16, PathBuf> {
    let mut pages = BTreeMap::new();
    for entry in &raw.0 {
        match entry.name.value.parse() {
            Ok(status) if ERROR_PAGES.contains(&status) => {
                pages.insert(status, around.file(&entry.item, sink));
            }
            _ => {
                let what = format!("\"{}\" is no answer of the proxy's own", entry.name.value);
                sink.wrong(&entry.name.place, what)
                    .hint("write 404, 502, 503 or 504, as 503 = \"pages/503.html\"");
            }
        }
    }
    pages
}

fn networks(
    list: Option<&At<Vec<At<Network>>>>,
    default: &[Network],
    danger: &str,
    sink: &mut Sink,
) -> Vec<Network> {
    let Some(list) = list else { return default.to_vec() };
    for network in list.value.iter().filter(|network| network.value.prefix() == 0) {
        sink.warn(&network.place, format!("{} is everybody: {danger}", network.value))
            .hint("name only the machines that stand in front of Cutover");
    }
    list.value.iter().map(|at| at.value).collect()
}

fn cookie(raw: &RawCookie, sink: &mut Sink) -> Cookie {
    let secure = raw.secure.as_ref().map(|at| at.value).unwrap_or_default();
    let same_site = raw.same_site.as_ref().map(|at| at.value).unwrap_or_default();
    if let Some(at) = raw.same_site.as_ref().filter(|at| at.value == SameSite::None)
        && secure != Secure::Always
    {
        sink.wrong(&at.place, "browsers throw a cookie away that has SameSite=None without Secure")
            .hint("add secure = \"always\", or write \"lax\"");
    }
    Cookie { domain: raw.domain.as_ref().map(|at| at.value.clone()), secure, same_site }
}

fn timeouts(raw: Option<&RawTimeouts>, sink: &mut Sink) -> Timeouts {
    let mut get = |field: fn(&RawTimeouts) -> &Option<At<crate::scalar::Span>>, seconds: u64| {
        deadline(raw.and_then(|raw| field(raw).as_ref()), Duration::from_secs(seconds), sink)
    };
    Timeouts {
        header: get(|raw| &raw.header, 10),
        body_progress: get(|raw| &raw.body_progress, 30),
        write_stall: get(|raw| &raw.write_stall, 30),
        idle: get(|raw| &raw.idle, 75),
        upstream_connect: get(|raw| &raw.upstream_connect, 3),
        upstream_response: get(|raw| &raw.upstream_response, 60),
        upstream_progress: get(|raw| &raw.upstream_progress, 60),
        upstream_idle: get(|raw| &raw.upstream_idle, 4),
        tunnel_idle: get(|raw| &raw.tunnel_idle, 3600),
    }
}
