//! Preview: a signed token that lets its holder see one color of one app until it expires.
//!
//! `<color>.<expiry>.<tag>`, in the header `X-Cutover-Color`, in the cookie `cutover_preview`, or
//! in the query `cutover-preview` of a link, which sets the cookie and goes to the clean address.
//! Invariant: a token is good for the app that it was made for only, and never after its expiry.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use cutover_model::{AppName, Color};
use http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use subtle::ConstantTimeEq;

use super::Keys;
use super::cookie::{self, decode, tag};

/// The query parameter of a preview link.
pub const PREVIEW_PARAMETER: &str = "cutover-preview";
const COOKIE_NAME: &str = "cutover_preview=";

/// A token for one color of one app, signed with the settings' cookie key. A link to it is
/// `http://host/?cutover-preview=<token>`.
#[must_use]
pub fn preview_token(key: &[u8; 32], app: &AppName, color: Color, expires: SystemTime) -> String {
    sign(&Keys::new(key, None), app, color, seconds(expires))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

fn sign(keys: &Keys, app: &AppName, color: Color, expires: u64) -> String {
    let message = format!("{app}.{color}.{expires}");
    format!("{color}.{expires}.{}", BASE64.encode(tag(&keys.preview, message.as_bytes())))
}

/// The color that a token gives, if it is ours, for this app and not expired.
pub(super) fn verify(keys: &Keys, app: &AppName, token: &str) -> Option<Color> {
    let mut parts = token.splitn(3, '.');
    let color: Color = parts.next()?.parse().ok()?;
    let expires: u64 = parts.next()?.parse().ok()?;
    let given = decode(parts.next()?)?;
    let ours = tag(&keys.preview, format!("{app}.{color}.{expires}").as_bytes());
    let good = bool::from(given.ct_eq(&ours)) && seconds(SystemTime::now()) < expires;
    good.then_some(color)
}

/// The color that the preview cookie gives.
pub(super) fn cookie(headers: &HeaderMap, keys: &Keys, app: &AppName) -> Option<Color> {
    cookie::values(headers, COOKIE_NAME).find_map(|token| verify(keys, app, token))
}

/// A preview link that was followed. Its `Debug` does not show the token.
pub(crate) struct Preview {
    /// The token, if it is good.
    token: Option<String>,
    /// The same address without the token.
    clean: String,
}

impl fmt::Debug for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = if self.token.is_some() { "***" } else { "none" };
        f.debug_struct("Preview").field("token", &token).field("clean", &self.clean).finish()
    }
}

/// Whether the request follows a preview link.
pub(super) fn link(parts: &Parts, keys: &Keys, app: &AppName) -> Option<Preview> {
    let query = parts.uri.query()?;
    if !query.contains(PREVIEW_PARAMETER) {
        return None;
    }
    let is_ours = |part: &&str| part.split('=').next() == Some(PREVIEW_PARAMETER);
    let ours = query.split('&').find(is_ours)?;
    let token = ours.split_once('=').map(|(_, token)| token).unwrap_or_default();
    let rest: Vec<&str> = query.split('&').filter(|part| !is_ours(part)).collect();
    // Two slashes at the start would lead to another host.
    let path = parts.uri.path().trim_start_matches(['/', '\\']);
    let mark = if rest.is_empty() { "" } else { "?" };
    Some(Preview {
        token: verify(keys, app, token).map(|_| token.to_owned()),
        clean: format!("/{path}{mark}{}", rest.join("&")),
    })
}

/// A request's target as it may be written down: a token in it is `***`, valid or not.
pub(crate) fn without_token(target: &str) -> Cow<'_, str> {
    let Some((path, query)) = target.split_once('?') else { return Cow::Borrowed(target) };
    if !query.contains(PREVIEW_PARAMETER) {
        return Cow::Borrowed(target);
    }
    let masked = |part: &str| match part.split_once('=') {
        Some((PREVIEW_PARAMETER, _)) => format!("{PREVIEW_PARAMETER}=***"),
        _ => part.to_owned(),
    };
    let parts: Vec<String> = query.split('&').map(masked).collect();
    Cow::Owned(format!("{path}?{}", parts.join("&")))
}

impl Preview {
    /// Sets the cookie and the way to the clean address; `None` if the token is not good.
    pub(crate) fn set(&self, headers: &mut HeaderMap) -> Option<()> {
        let token = self.token.as_ref()?;
        let cookie = format!("{COOKIE_NAME}{token}; Path=/; HttpOnly; SameSite=Lax");
        headers.insert(SET_COOKIE, HeaderValue::from_str(&cookie).ok()?);
        headers.insert(LOCATION, HeaderValue::from_str(&self.clean).ok()?);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Some(())
    }
}

/// Takes the preview cookie out of what goes to the upstream.
pub(crate) fn strip_preview_cookie(headers: &mut HeaderMap) {
    cookie::strip(headers, COOKIE_NAME);
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use http::header::COOKIE;

    fn app(name: &str) -> AppName {
        AppName::new(name).unwrap()
    }

    #[test]
    fn a_token_is_never_written_down() {
        let kept = |target| without_token(target).into_owned();
        assert_eq!(kept("/a?cutover-preview=green.9.x&b=1"), "/a?cutover-preview=***&b=1");
        assert_eq!(
            kept("/?b=1&cutover-preview=x&cutover-preview=y"),
            "/?b=1&cutover-preview=***&cutover-preview=***"
        );
        assert_eq!(kept("/?cutover-preview"), "/?cutover-preview");
        assert_eq!(kept("/cutover-preview=x?b=c"), "/cutover-preview=x?b=c");
        assert!(matches!(without_token("/a?b=c"), Cow::Borrowed("/a?b=c")));
    }

    #[test]
    fn a_token_is_for_one_app_one_color_and_some_time() {
        let keys = Keys::new(&[7; 32], None);
        let soon = SystemTime::now() + Duration::from_secs(60);
        let token = preview_token(&[7; 32], &app("shop"), Color::Green, soon);
        assert_eq!(verify(&keys, &app("shop"), &token), Some(Color::Green));
        assert_eq!(verify(&keys, &app("other"), &token), None);
        assert_eq!(verify(&Keys::new(&[8; 32], None), &app("shop"), &token), None);
        let blue = token.replace("green", "blue");
        assert_eq!(verify(&keys, &app("shop"), &blue), None);
        let past = SystemTime::now() - Duration::from_secs(1);
        let old = preview_token(&[7; 32], &app("shop"), Color::Green, past);
        assert_eq!(verify(&keys, &app("shop"), &old), None);
        for bad in ["", "green", "green.1", "green.x.y", "red.1.2", "green.18446744073709551615."] {
            assert_eq!(verify(&keys, &app("shop"), bad), None, "{bad}");
        }
    }

    #[test]
    fn a_link_leads_to_the_clean_address_of_the_same_host() {
        let keys = Keys::new(&[7; 32], None);
        for (uri, clean) in [
            ("/?cutover-preview=t", "/"),
            ("/a/b?x=1&cutover-preview=t&y=2", "/a/b?x=1&y=2"),
            ("//evil.test/?cutover-preview=t", "/evil.test/"),
        ] {
            let (parts, ()) = Request::get(uri).body(()).unwrap().into_parts();
            assert_eq!(link(&parts, &keys, &app("shop")).unwrap().clean, clean);
        }
        let (parts, ()) = Request::get("/?a=cutover-preview").body(()).unwrap().into_parts();
        assert!(link(&parts, &keys, &app("shop")).is_none());
    }

    #[test]
    fn the_upstream_does_not_see_the_preview_cookie() {
        for (lines, left) in [
            (&[&b"a=1; cutover_preview=t; b=2"[..], b"c=3"][..], &[&b"a=1; b=2"[..], b"c=3"][..]),
            (&[b"cutover_preview=t", b"c=3"], &[b"c=3"]),
            (&[b" cutover_preview=t;a=\xFF\xE4 ;;  b"], &[b"a=\xFF\xE4 ;;  b"]),
            (&[b"a=\xFF;cutover_preview=\xFF; cutover_preview"], &[b"a=\xFF; cutover_preview"]),
            (&[b"cutover_preview=1; cutover_preview=2"], &[]),
            (&[b";a=1; xcutover_preview=t "], &[b";a=1; xcutover_preview=t "]),
        ] {
            let line = |line: &&[u8]| (COOKIE, HeaderValue::from_bytes(line).unwrap());
            let mut headers = HeaderMap::new();
            headers.extend(lines.iter().map(line));
            strip_preview_cookie(&mut headers);
            let seen: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
            assert_eq!(seen, left, "{lines:?}");
        }
    }
}
