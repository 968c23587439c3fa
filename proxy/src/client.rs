//! Who a client is, and which color it gets.
//!
//! A client keeps its slot for a rollout by the signed cookie `cutover`, a browser's first
//! navigation draws one, everybody else is known by a hash of Authorization or the address.
//! Invariant: the color depends on the client's id and the rollout's salt alone; nobody can choose
//! an id, and an override needs an allowed peer or a signature.

mod address;
mod cookie;
mod preview;

use std::net::IpAddr;

use cutover_model::{Color, Slot, Split};
use hmac::{Hmac, Mac};
use http::header::{ACCEPT, AUTHORIZATION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sha2::Sha256;

pub(crate) use address::{Scheme, Visitor, visitor};
pub use preview::{PREVIEW_PARAMETER, preview_token};
pub(crate) use preview::{Preview, strip_preview_cookie, without_token};

use crate::forward::was_forwarded;
use crate::message::{Routed, Sticky};
use crate::table::AppTable;
use crate::worker::inbound::Inbound;
use cookie::Id;

/// Asks for a color: `green`, or a signed token.
pub(crate) const COLOR_HEADER: HeaderName = HeaderName::from_static("x-cutover-color");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Keys made from the one key of the settings, each for one use.
#[derive(Clone)]
pub(crate) struct Keys {
    cookie: Hmac<Sha256>,
    key: Hmac<Sha256>,
    /// Makes slots and names differ between hosts.
    seed: u64,
    preview: Hmac<Sha256>,
    /// What we add to `Via`.
    pub(crate) via: Option<HeaderValue>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(secret)")
    }
}

fn mac(key: &[u8], use_for: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of any length: the error cannot happen, and an empty key would only make
    // slots and cookies differ.
    let keyed = |key: &[u8]| {
        <Hmac<Sha256> as Mac>::new_from_slice(key).unwrap_or_else(|_| Mac::new(&[0; 64].into()))
    };
    let mut derive = keyed(key);
    derive.update(use_for);
    keyed(&derive.finalize().into_bytes())
}

impl Keys {
    pub(crate) fn new(key: &[u8; 32], via: Option<&str>) -> Self {
        let seed = first_eight(&mac(key, b"cutover seed v1").finalize().into_bytes());
        Self {
            cookie: mac(key, b"cutover cookie v1"),
            key: mac(key, b"cutover key v1"),
            seed,
            preview: mac(key, b"cutover preview v1"),
            via: via.and_then(|name| HeaderValue::from_str(&format!("1.1 {name}")).ok()),
        }
    }

    /// A keyed hash of what a client is known by: the first eight bytes of an HMAC.
    fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hash = self.key.clone();
        for part in parts {
            hash.update(part);
        }
        first_eight(&hash.finalize().into_bytes())
    }

    /// The key of an address: the whole of IPv4, the network part of IPv6, since a client may
    /// change the rest at will.
    pub(crate) fn address(&self, ip: IpAddr) -> u64 {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.hash(&[b"4", &ip.octets()]),
            IpAddr::V6(ip) => self.hash(&[b"6", ip.octets().get(..8).unwrap_or_default()]),
        }
    }

    /// The slot of a client. Keys are drawn by us or made by an HMAC, so nobody knows or chooses
    /// one, and mixing need only be even, not secret.
    fn slot(&self, key: u64, salt: u64) -> Slot {
        Slot::from_hash(mix(key ^ mix(salt ^ self.seed)))
    }

    /// What a client is called in records: tells clients apart and leads back to nobody.
    pub(crate) fn name(&self, key: u64) -> u64 {
        mix(key ^ self.seed.rotate_left(32))
    }
}

fn first_eight(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The finalizer of SplitMix64: every bit of the input moves half of the output's.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// How the color of a request was chosen.
#[derive(Debug)]
pub(crate) enum Choice {
    /// One color has everything: nobody asked who the client is.
    Sole(Color),
    /// By the client's slot.
    Slot {
        color: Color,
        /// What the client is known by.
        key: u64,
        /// A new id, to be kept in a cookie, and whether the client came over TLS.
        fresh: Option<(Id, Scheme)>,
    },
    /// By an override.
    Forced(Color),
    /// A preview link was followed: no upstream is asked.
    Preview(Preview),
}

impl Choice {
    pub(crate) fn color(&self, app: &AppTable) -> Color {
        match self {
            Self::Sole(color) | Self::Forced(color) | Self::Slot { color, .. } => *color,
            Self::Preview(_) => app.spec.split.stable,
        }
    }

    pub(crate) fn routed(&self) -> Routed {
        match self {
            Self::Forced(_) | Self::Preview(_) => Routed::Forced,
            Self::Sole(_) | Self::Slot { .. } => Routed::Slot,
        }
    }

    /// What the client is known by, if that was looked at.
    pub(crate) fn key(&self) -> Option<u64> {
        match self {
            Self::Slot { key, .. } => Some(*key),
            _ => None,
        }
    }

    /// Sets the cookie of a client that is new, unless others would get the same answer from a
    /// cache.
    pub(crate) fn set_cookie(&self, app: &AppTable, inbound: &Inbound, headers: &mut HeaderMap) {
        if let Self::Slot { fresh: Some((id, scheme)), .. } = self
            && let Sticky::Cookie(spec) = &app.spec.sticky
            && !cookie::is_shared(headers)
        {
            cookie::set(*id, &inbound.worker.shared.keys, spec, *scheme, headers);
        }
    }
}

/// Chooses the color of a request.
pub(crate) fn choose(app: &AppTable, parts: &Parts, inbound: &Inbound, visitor: Visitor) -> Choice {
    if let Some(forced) = &inbound.forced {
        return Choice::Forced(forced.1);
    }
    let keys = &inbound.worker.shared.keys;
    if let Some(preview) = preview::link(parts, keys, &app.spec.app) {
        return Choice::Preview(preview);
    }
    if let Some(color) = asked(app, parts, inbound) {
        return Choice::Forced(color);
    }
    let split = app.spec.split;
    if let Some(color) = split.sole() {
        return Choice::Sole(color);
    }
    by_slot(app, split, parts, inbound, visitor)
}

/// The color that an override asks for, if it may.
fn asked(app: &AppTable, parts: &Parts, inbound: &Inbound) -> Option<Color> {
    let keys = &inbound.worker.shared.keys;
    if let Some(value) = parts.headers.get(COLOR_HEADER) {
        let text = value.to_str().unwrap_or_default();
        if let Ok(color) = text.parse() {
            let peer = inbound.peer.ip();
            let from = &inbound.worker.settings().override_from;
            let allowed = from.iter().any(|net| net.contains(peer));
            // Behind another proxy the peer says nothing about who asks.
            return (allowed && !was_forwarded(&parts.headers)).then_some(color);
        }
        if let Some(color) = preview::verify(keys, &app.spec.app, text) {
            return Some(color);
        }
    }
    preview::cookie(&parts.headers, keys, &app.spec.app)
}

fn by_slot(
    app: &AppTable,
    split: Split,
    parts: &Parts,
    inbound: &Inbound,
    visitor: Visitor,
) -> Choice {
    let keys = &inbound.worker.shared.keys;
    let (key, fresh) = match &app.spec.sticky {
        Sticky::Off => (rand::random(), None),
        Sticky::Ip => (inbound.address_key(visitor.ip), None),
        Sticky::Header(name) => {
            let value = parts.headers.get(name.as_str()).map(HeaderValue::as_bytes);
            let key = value.map(|value| keys.hash(&[b"header", value]));
            (key.unwrap_or_else(|| inbound.address_key(visitor.ip)), None)
        }
        Sticky::Cookie(_) => by_cookie(parts, inbound, visitor),
    };
    let color = split.color(keys.slot(key, app.spec.salt.0));
    Choice::Slot { color, key, fresh }
}

fn by_cookie(parts: &Parts, inbound: &Inbound, visitor: Visitor) -> (u64, Option<(Id, Scheme)>) {
    let keys = &inbound.worker.shared.keys;
    if let Some(id) = cookie::find(&parts.headers, keys) {
        return (id.key(), None);
    }
    if is_navigation(parts) {
        let id = Id::draw();
        return (id.key(), Some((id, address::scheme(&parts.headers, inbound))));
    }
    let key = match parts.headers.get(AUTHORIZATION) {
        Some(value) => keys.hash(&[b"authorization", value.as_bytes()]),
        None => inbound.address_key(visitor.ip),
    };
    (key, None)
}

/// Whether a person's browser goes to a page, and so will keep a cookie.
fn is_navigation(parts: &Parts) -> bool {
    if parts.method != Method::GET {
        return false;
    }
    match parts.headers.get(FETCH_MODE) {
        Some(mode) => mode.as_bytes() == b"navigate",
        None => {
            let accept = parts.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
            accept.is_some_and(|accept| accept.contains("text/html"))
        }
    }
}
