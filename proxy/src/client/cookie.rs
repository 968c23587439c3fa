//! The cookie `cutover`: `v1.<random id>.<HMAC>`.
//!
//! It says only that we drew this id; it holds nothing about the person. Invariant: an id without a
//! valid tag is no id, and an answer that a shared cache may keep carries no cookie.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::Mac;
use http::header::{CACHE_CONTROL, COOKIE, EXPIRES, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use subtle::ConstantTimeEq;

use super::{Keys, Scheme};
use crate::message::{CookieSpec, SameSite, Secure};

/// The cookie's name.
const NAME: &str = "cutover=";
/// Bytes of the tag that are kept.
const TAG: usize = 16;
/// How long a browser keeps it: longer than rollouts take.
const MAX_AGE_SECONDS: u32 = 30 * 24 * 3600;

/// A client's random id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id([u8; 16]);

impl Id {
    pub(crate) fn draw() -> Self {
        Self(rand::random())
    }

    /// Half of the id: it was drawn by us, so it is as good as any hash of it.
    pub(crate) fn key(self) -> u64 {
        super::first_eight(&self.0)
    }

    fn tag(self, keys: &Keys) -> [u8; TAG] {
        tag(&keys.cookie, &self.0)
    }

    fn text(self, keys: &Keys) -> String {
        format!("v1.{}.{}", BASE64.encode(self.0), BASE64.encode(self.tag(keys)))
    }

    fn parse(text: &str, keys: &Keys) -> Option<Self> {
        let (id, tag) = text.strip_prefix("v1.")?.split_once('.')?;
        let id = Self(decode(id)?);
        let tag: [u8; TAG] = decode(tag)?;
        bool::from(tag.ct_eq(&id.tag(keys))).then_some(id)
    }
}

/// The first bytes of an HMAC.
pub(super) fn tag(mac: &hmac::Hmac<sha2::Sha256>, message: &[u8]) -> [u8; TAG] {
    let mut mac = mac.clone();
    mac.update(message);
    let whole = mac.finalize().into_bytes();
    let mut tag = [0; TAG];
    tag.copy_from_slice(whole.get(..TAG).unwrap_or(&[0; TAG]));
    tag
}

/// Sixteen bytes in base64, exactly.
pub(super) fn decode(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 18];
    let length =
        (text.len() == 22).then(|| BASE64.decode_slice(text, &mut bytes).ok()).flatten()?;
    bytes.get(..length)?.try_into().ok()
}

fn split(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes().split(|byte| *byte == b';')
}

/// The values of a request's cookies of this name (written with its `=`). What else the lines hold,
/// in whatever bytes, hides none of them.
pub(super) fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    headers.get_all(COOKIE).iter().flat_map(split).filter_map(move |cookie| {
        std::str::from_utf8(cookie.trim_ascii().strip_prefix(name.as_bytes())?).ok()
    })
}

/// Takes the cookies of this name (written with its `=`) out; the others stay as they are, byte for
/// byte.
pub(super) fn strip(headers: &mut HeaderMap, name: &str) {
    let is_other = |cookie: &&[u8]| !cookie.trim_ascii().starts_with(name.as_bytes());
    if headers.get_all(COOKIE).iter().flat_map(split).all(|cookie| is_other(&cookie)) {
        return;
    }
    let mut kept = Vec::new();
    for line in headers.get_all(COOKIE) {
        let others: Vec<&[u8]> = split(line).filter(is_other).collect();
        let line = others.join(&b';');
        kept.extend(
            HeaderValue::from_bytes(line.trim_ascii_start()).ok().filter(|l| !l.is_empty()),
        );
    }
    headers.remove(COOKIE);
    for line in kept {
        headers.append(COOKIE, line);
    }
}

/// The id in the request's cookies, if its tag is ours.
pub(super) fn find(headers: &HeaderMap, keys: &Keys) -> Option<Id> {
    values(headers, NAME).find_map(|value| Id::parse(value, keys))
}

/// Adds `Set-Cookie`.
pub(super) fn set(id: Id, keys: &Keys, spec: &CookieSpec, scheme: Scheme, headers: &mut HeaderMap) {
    let text = id.text(keys);
    let domain = spec.domain.as_ref().map(|d| format!("; Domain={d}")).unwrap_or_default();
    let site = match spec.same_site {
        SameSite::Lax => "Lax",
        SameSite::Strict => "Strict",
        SameSite::None => "None",
    };
    let secure = match (spec.secure, scheme) {
        (Secure::Always, _) | (Secure::Auto, Scheme::Https) => "; Secure",
        _ => "",
    };
    let line = format!(
        "{NAME}{text}; Path=/; Max-Age={MAX_AGE_SECONDS}; HttpOnly; SameSite={site}{domain}{secure}"
    );
    if let Ok(value) = HeaderValue::from_str(&line) {
        headers.append(SET_COOKIE, value);
    }
}

/// Whether a shared cache may give this answer to others (RFC 9111, section 3, read strictly).
pub(super) fn is_shared(headers: &HeaderMap) -> bool {
    let mut found = false;
    let mut shared = false;
    for line in headers.get_all(CACHE_CONTROL) {
        let line = String::from_utf8_lossy(line.as_bytes()).to_ascii_lowercase();
        for part in line.split(',').map(str::trim) {
            found = true;
            let name = part.split('=').next().unwrap_or_default();
            match name {
                "private" | "no-store" | "no-cache" => return false,
                "public" | "s-maxage" | "immutable" => shared = true,
                "max-age" => shared |= part != "max-age=0",
                _ => {}
            }
        }
    }
    let expires = headers.get(EXPIRES).map(HeaderValue::as_bytes);
    shared || !found && expires.is_some_and(|when| !matches!(when, b"0" | b"-1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(byte: u8) -> Keys {
        Keys::new(&[byte; 32], None)
    }

    #[test]
    fn an_id_is_found_again_and_only_with_our_tag() {
        let id = Id::draw();
        let text = id.text(&keys(1));
        let header = format!("a=b; cutover=v1.x.y; cutover={text}; c=d");
        let header = [b"raw=\xFF\x80; ", header.as_bytes()].concat();
        let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_bytes(&header).unwrap())]);
        assert_eq!(find(&headers, &keys(1)), Some(id));
        assert_eq!(find(&headers, &keys(2)), None);
        let mut forged = text.into_bytes();
        forged[4] ^= 1;
        assert_eq!(Id::parse(std::str::from_utf8(&forged).unwrap(), &keys(1)), None);
    }

    #[test]
    fn shared_answers_are_recognised() {
        for (line, shared) in [
            ("public", true),
            ("public, max-age=60", true),
            ("max-age=60", true),
            ("s-maxage=1", true),
            ("max-age=0", false),
            ("max-age=60, private", false),
            ("no-store", false),
            ("no-cache, max-age=9", false),
            ("must-revalidate", false),
            ("\u{f6}, Public", true),
        ] {
            let line_value = HeaderValue::from_bytes(line.as_bytes()).unwrap();
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, line_value)]);
            assert_eq!(is_shared(&headers), shared, "{line}");
        }
        assert!(!is_shared(&HeaderMap::new()));
        let expires = HeaderValue::from_static("Thu, 01 Dec 2044 16:00:00 GMT");
        assert!(is_shared(&HeaderMap::from_iter([(EXPIRES, expires)])));
    }

    #[test]
    fn the_cookie_has_the_attributes_that_were_asked_for() {
        let mut headers = HeaderMap::new();
        let spec = CookieSpec {
            domain: Some("a.test".into()),
            secure: Secure::Always,
            same_site: SameSite::Strict,
        };
        set(Id::draw(), &keys(1), &spec, Scheme::Http, &mut headers);
        let line = headers[SET_COOKIE].to_str().unwrap();
        assert!(line.starts_with("cutover=v1."), "{line}");
        assert!(line.ends_with("HttpOnly; SameSite=Strict; Domain=a.test; Secure"), "{line}");
    }
}
