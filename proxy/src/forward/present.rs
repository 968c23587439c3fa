//! Which of the fields that matter to us a message has, found in one pass over its names.
//!
//! Most messages have few of them: knowing that spares a hash for each field that is not there.
//! Invariant: a field that is set in [`Present`] is in the map, and one that is not set is not.

use http::HeaderMap;

/// A set of fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Present(u32);

macro_rules! fields {
    ($($bit:ident = $place:literal: $name:literal),* $(,)?) => {
        impl Present {
            $(pub(crate) const $bit: Self = Self(1 << $place);)*
        }
        const FIELDS: &[(&str, Present)] = &[$(($name, Present::$bit)),*];
    };
}

fields! {
    CONNECTION = 0: "connection",
    KEEP_ALIVE = 1: "keep-alive",
    PROXY_CONNECTION = 2: "proxy-connection",
    TE = 3: "te",
    UPGRADE = 4: "upgrade",
    TRANSFER_ENCODING = 5: "transfer-encoding",
    HTTP2_SETTINGS = 6: "http2-settings",
    EXPECT = 7: "expect",
    CONTENT_LENGTH = 8: "content-length",
    VIA = 9: "via",
    FORWARDED = 10: "forwarded",
    FORWARDED_FOR = 11: "x-forwarded-for",
    FORWARDED_PROTO = 12: "x-forwarded-proto",
    FORWARDED_HOST = 13: "x-forwarded-host",
    FORWARDED_PORT = 14: "x-forwarded-port",
    REAL_IP = 15: "x-real-ip",
    REQUEST_ID = 16: "x-request-id",
    COLOR = 17: "x-cutover-color",
    COOKIE = 18: "cookie",
}

impl Present {
    /// A name that reads like one of ours with `_` for `-`.
    pub(crate) const TWIN: Self = Self(1 << 31);
    /// Fields that speak of one connection only.
    pub(crate) const HOP_BY_HOP: Self = Self(0b111_1111);

    /// Looks at every name once.
    pub(crate) fn look(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::default(), |sum, name| sum.and(Self::of(name.as_str())))
    }

    /// What one name means.
    pub(crate) fn of(name: &str) -> Self {
        let length = name.len();
        let longest = BY_LENGTH.len();
        let Some(range) = (length < longest).then(|| BY_LENGTH[length]) else {
            return Self::default();
        };
        for (ours, field) in SORTED.get(range.0..range.1).unwrap_or_default() {
            // The last letter tells most of them apart.
            if name.as_bytes().last() == ours.as_bytes().last() {
                if name == *ours {
                    return *field;
                }
                if is_twin(name, ours) {
                    return Self::TWIN;
                }
            }
        }
        Self::default()
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it has any of these.
    pub(crate) fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }
}

fn is_twin(name: &str, ours: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.bytes().zip(ours.bytes()).all(|(a, b)| fold(a) == b)
}

const COUNT: usize = FIELDS.len();
const LONGEST: usize = 18;

/// The fields in the order of their length.
const SORTED: [(&str, Present); COUNT] = {
    let mut sorted = [("", Present(0)); COUNT];
    let mut at = 0;
    let mut length = 0;
    while length < LONGEST {
        let mut field = 0;
        while field < COUNT {
            if FIELDS[field].0.len() == length {
                sorted[at] = FIELDS[field];
                at += 1;
            }
            field += 1;
        }
        length += 1;
    }
    assert!(at == COUNT, "a name is longer than LONGEST");
    sorted
};

/// Where in `SORTED` the names of a length are.
const BY_LENGTH: [(usize, usize); LONGEST] = {
    let mut ranges = [(0, 0); LONGEST];
    let mut at = 0;
    let mut length = 0;
    while length < LONGEST {
        let from = at;
        while at < COUNT && SORTED[at].0.len() == length {
            at += 1;
        }
        ranges[length] = (from, at);
        length += 1;
    }
    ranges
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_its_twin_is_told_apart() {
        for (name, field) in FIELDS {
            assert_eq!(Present::of(name), *field, "{name}");
            let twin = name.replacen('-', "_", 1);
            if twin != *name {
                assert_eq!(Present::of(&twin), Present::TWIN, "{twin}");
            }
        }
        for other in ["", "host", "accept", "x-other", "my_field", "transfer-encodings", "tx"] {
            assert_eq!(Present::of(other), Present::default(), "{other}");
        }
    }
}
