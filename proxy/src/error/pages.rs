//! The answers that Cutover gives itself: short, honest, without a trace of the inside.
//!
//! JSON for those who ask for it; else the operator's own page where there is one for the status,
//! HTML for those who ask for that, plain text otherwise. Invariant: the only outside text in a
//! page of ours is the request id, which was checked to be harmless.

use std::collections::HashMap;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response};

use super::Fault;
use crate::forward::Answer;
use crate::message::OwnPages;

/// The operator's own pages, ready to be sent.
#[derive(Debug, Default)]
pub(crate) struct Pages(HashMap<u16, Bytes>);

impl Pages {
    /// The page for an answer, if the operator has one.
    pub(crate) fn of(&self, fault: Fault) -> Option<Bytes> {
        self.0.get(&fault.status().as_u16()).cloned()
    }
}

impl From<&OwnPages> for Pages {
    fn from(own: &OwnPages) -> Self {
        let ready = |(status, html): (&u16, &String)| (*status, Bytes::from(html.clone()));
        Self(own.html.iter().map(ready).collect())
    }
}

const HTML: &str = "text/html; charset=utf-8";

/// What a client would like to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taste {
    Html,
    Json,
    Text,
}

impl Taste {
    /// By the first of the types in `Accept` that we have.
    pub(crate) fn of(accept: Option<&HeaderValue>) -> Self {
        let Some(accept) = accept.and_then(|value| value.to_str().ok()) else {
            return Self::Text;
        };
        accept
            .split(',')
            .find_map(|part| match part.split(';').next()?.trim() {
                "text/html" | "application/xhtml+xml" => Some(Self::Html),
                kind if kind == "application/json" || kind.ends_with("+json") => Some(Self::Json),
                _ => None,
            })
            .unwrap_or(Self::Text)
    }
}

/// The answer for a fault.
pub(crate) fn page(
    fault: Fault,
    taste: Taste,
    request_id: &str,
    own: Option<Bytes>,
) -> Response<Answer> {
    let status = fault.status();
    let (kind, text) = match (taste, own) {
        (Taste::Json, _) => ("application/json", Bytes::from(json(fault, request_id))),
        (_, Some(page)) => (HTML, page),
        (Taste::Html, None) => (HTML, Bytes::from(html(fault, request_id))),
        (Taste::Text, None) => {
            let text = format!("{status}\n{}\nrequest id: {request_id}\n", fault.words());
            ("text/plain; charset=utf-8", Bytes::from(text))
        }
    };
    let mut response = Response::new(Answer::full(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert("x-request-id", id);
    }
    if status == http::StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from(fault.retry_after_s()));
    }
    if fault.closes() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn html(fault: Fault, request_id: &str) -> String {
    let status = fault.status();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{status}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>body{{font:16px/1.5 \
         system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1em}}small{{color:#666}}\
         </style></head><body><h1>{status}</h1><p>{}.</p><p><small>Request id: {request_id}\
         </small></p></body></html>\n",
        sentence(fault.words())
    )
}

fn json(fault: Fault, request_id: &str) -> String {
    format!(
        "{{\"status\":{},\"error\":\"{}\",\"request_id\":\"{request_id}\"}}\n",
        fault.status().as_u16(),
        fault.words()
    )
}

fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_client_reads() {
        for (accept, wanted) in [
            ("text/html,application/xhtml+xml,*/*;q=0.8", Taste::Html),
            ("application/json", Taste::Json),
            ("application/problem+json; q=1, text/html", Taste::Json),
            ("*/*", Taste::Text),
        ] {
            let accept = HeaderValue::from_static(accept);
            assert_eq!(Taste::of(Some(&accept)), wanted, "{accept:?}");
        }
        assert_eq!(Taste::of(None), Taste::Text);
    }

    #[test]
    fn no_page_needs_escaping() {
        let id = "0123abc";
        for fault in [Fault::NoRoute, Fault::NoEndpoint, Fault::Upload, Fault::TooLate] {
            assert!(!fault.words().contains(['"', '<', '&', '\\']), "{fault:?}");
            let value: serde_json::Value = serde_json::from_str(&json(fault, id)).unwrap();
            assert_eq!(value["request_id"], id);
        }
    }
}
