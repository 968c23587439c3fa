//! Where a client's messages begin and end, and whether their framing is beyond doubt.
//!
//! hyper resolves contradictions in framing silently (a length beside an encoding, a length given
//! twice, an odd encoding). This scanner reads the same bytes first and refuses what RFC 9112
//! section 6 leaves to guess. It owns no bytes and forwards nothing. Invariant: when it has lost
//! the thread it says so, and no later head of that connection is served.

/// The longest line that framing needs to be read from; longer ones cannot be framing lines.
const LINE: usize = 256;

type Rule = Result<(), &'static str>;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    /// Heads that have begun.
    heads: u64,
    /// The beginning of the current line.
    line: Vec<u8>,
    /// Bytes of the current line, which may be more than `line` holds.
    length: usize,
    head: Head,
    /// The last byte of the unfinished line is a carriage return.
    returned: bool,
    /// The head began with the bytes that were scanned last.
    fresh: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between messages; empty lines are allowed here.
    Between,
    Head,
    Sized(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    /// The thread is lost: `in_head` tells whether that was in the middle of a head.
    Lost {
        in_head: bool,
    },
}

#[derive(Debug, Default)]
struct Head {
    lines: u32,
    old: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            state: State::Between,
            heads: 0,
            line: Vec::new(),
            length: 0,
            head: Head::default(),
            returned: false,
            fresh: false,
        }
    }
}

impl Scanner {
    /// How many heads have begun.
    pub(crate) fn heads(&self) -> u64 {
        self.heads
    }

    /// A head has begun and not ended; one that was given up has not.
    pub(crate) fn is_mid_head(&self) -> bool {
        matches!(self.state, State::Head | State::Lost { in_head: true })
    }

    /// The unfinished head began with the last bytes.
    pub(crate) fn is_fresh_head(&self) -> bool {
        self.fresh
    }

    /// No message is unfinished.
    pub(crate) fn is_between(&self) -> bool {
        self.state == State::Between
    }

    /// Reads on.
    ///
    /// # Errors
    /// The rule that the message numbered [`Self::heads`] breaks.
    pub(crate) fn scan(&mut self, mut bytes: &[u8]) -> Rule {
        self.fresh = false;
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Lost { .. } => return Ok(()),
                State::Sized(left) => self.skip(bytes, left, State::Between, State::Sized),
                State::ChunkData(left) => self.skip(bytes, left, State::ChunkEnd, State::ChunkData),
                _ => match self.line(bytes) {
                    Ok(rest) => rest,
                    Err(rule) => {
                        self.state = State::Lost { in_head: self.state == State::Head };
                        return Err(rule);
                    }
                },
            };
        }
        Ok(())
    }

    fn skip<'a>(
        &mut self,
        bytes: &'a [u8],
        left: u64,
        then: State,
        still: fn(u64) -> State,
    ) -> &'a [u8] {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - here as u64;
        self.state = if left == 0 { then } else { still(left) };
        bytes.get(here..).unwrap_or_default()
    }

    /// Takes one line, or the part of it that is there.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], &'static str> {
        if self.state == State::Between && !matches!(bytes.first(), Some(b'\r' | b'\n')) {
            self.state = State::Head;
            self.heads += 1;
            self.head = Head::default();
            self.fresh = true;
        }
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.keep(bytes);
            return Ok(&[]);
        };
        let (mut now, rest) = bytes.split_at(end);
        if self.length == 0 {
            // The whole line is here: no copy.
            self.returned = now.last() == Some(&b'\r');
            now = now.strip_suffix(b"\r").unwrap_or(now);
            self.end_of_line(now, now.len())?;
        } else {
            self.keep(now);
            let line = std::mem::take(&mut self.line);
            let whole = line.strip_suffix(b"\r").unwrap_or(&line);
            let result = self.end_of_line(whole, self.length);
            self.line = line;
            self.line.clear();
            self.length = 0;
            result?;
        }
        Ok(rest.get(1..).unwrap_or_default())
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE.saturating_sub(self.line.len()).min(bytes.len());
        self.line.extend_from_slice(bytes.get(..room).unwrap_or_default());
        self.length += bytes.len();
        if let Some(last) = bytes.last() {
            self.returned = *last == b'\r';
        }
    }

    fn end_of_line(&mut self, line: &[u8], length: usize) -> Rule {
        let empty = line.is_empty() && length <= 1;
        match self.state {
            State::Head if empty => self.end_of_head(),
            State::Head => self.head.line(line),
            // hyper takes a lone line feed for the end of a line in a head only.
            State::ChunkSize | State::ChunkEnd | State::Trailers if !self.returned => {
                Err("a line in the request body does not end with carriage return and line feed")
            }
            State::ChunkSize => match chunk_size(line) {
                Some(0) => self.go(State::Trailers),
                Some(size) => self.go(State::ChunkData(size)),
                None => Err("the size of a chunk in the request body is not a number"),
            },
            State::ChunkEnd if empty => self.go(State::ChunkSize),
            State::ChunkEnd => Err("a chunk of the request body does not end where it should"),
            State::Trailers if empty => self.go(State::Between),
            _ => Ok(()),
        }
    }

    fn go(&mut self, state: State) -> Rule {
        self.state = state;
        Ok(())
    }

    fn end_of_head(&mut self) -> Rule {
        let next = match (self.head.chunked, self.head.length) {
            (true, Some(_)) => {
                return Err("the request has both a Content-Length and a Transfer-Encoding");
            }
            (true, None) if self.head.old => {
                return Err("a request of HTTP/1.0 cannot have a Transfer-Encoding");
            }
            (true, None) => State::ChunkSize,
            (false, Some(0) | None) => State::Between,
            (false, Some(length)) => State::Sized(length),
        };
        self.go(next)
    }
}

impl Head {
    fn line(&mut self, line: &[u8]) -> Rule {
        self.lines += 1;
        if self.lines == 1 {
            self.old = line.ends_with(b"HTTP/1.0");
            return Ok(());
        }
        // Only two names matter; both have a dash and their length gives them away.
        let Some(colon) = memchr::memchr(b':', line) else { return Ok(()) };
        let (name, value) = (line.get(..colon).unwrap_or_default(), line.get(colon + 1..));
        let value = value.unwrap_or_default().trim_ascii();
        if name.len() == 14 && name.eq_ignore_ascii_case(b"content-length") {
            return self.content_length(value);
        }
        if name.len() == 17 && name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("the only supported Transfer-Encoding is chunked, once");
            }
            self.chunked = true;
        }
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Rule {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(value).ok().filter(|_| digits);
        let length: Option<u64> = length.and_then(|text| text.parse().ok());
        match (length, self.length) {
            (None, _) => Err("the Content-Length is not a number"),
            (Some(new), Some(old)) if new != old => Err("two different Content-Length lines"),
            (Some(new), _) => {
                self.length = Some(new);
                Ok(())
            }
        }
    }
}

/// `1A3` or `1a3;extension`.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|b| *b == b';').next()?.trim_ascii();
    let text = std::str::from_utf8(digits).ok()?;
    let hex = !text.is_empty() && text.len() <= 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// Scans the text whole and byte by byte; both must agree.
    fn check(text: &str) -> (Rule, u64, bool) {
        let run = |step: usize| {
            let mut scanner = Scanner::default();
            let mut end = Ok(());
            for part in text.as_bytes().chunks(step) {
                end = end.and(scanner.scan(part));
            }
            (end, scanner.heads(), scanner.is_between())
        };
        let whole = run(text.len());
        for step in [1, 2, 3, 7, 16] {
            assert_eq!(run(step), whole, "in steps of {step}: {text:?}");
        }
        whole
    }

    #[test]
    fn messages_are_told_apart() {
        for (text, heads) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
            ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\nHost: b\n\n", 2),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n", 2),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\
                 T: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                2,
            ),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\ncontent-length: 3\r\n\r\nabc", 1),
            (&format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(5_000)), 1),
        ] {
            assert_eq!(check(text), (Ok(()), heads, true), "{text:?}");
        }
    }

    #[test]
    fn doubtful_framing_is_refused() {
        for lines in [
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 3",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: xchunked",
            "Content-Length: 3\r\nContent-Length: 4",
            "Content-Length: +3",
            "Content-Length: 3, 3",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
        ] {
            let (rule, heads, _) = check(&format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n"));
            assert!(rule.is_err() && heads == 1, "{lines}");
        }
        let old = check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        assert!(old.0.is_err());
    }

    #[test]
    fn a_bad_chunk_loses_the_thread() {
        let long = format!("0\r\nT: {}\n\r\n", "t".repeat(300));
        for body in [
            "zz\r\n",
            "\r\n",
            "3\r\nabcd\r\n",
            "-1\r\n",
            "11111111111111111\r\n",
            "3\nabc\r\n",
            "3;x=y\nabc\r\n",
            "3\r\nabc\n0\r\n",
            "0\n\r\n",
            "0\r\n\n",
            "0\r\nT: 1\n\r\n",
            &long,
        ] {
            let text = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            assert!(check(&text).0.is_err(), "{body:?}");
        }
    }

    /// Scans the bytes in pieces of these sizes, over and over.
    fn in_pieces(bytes: &[u8], sizes: &[usize]) -> (Rule, u64, State) {
        let mut scanner = Scanner::default();
        let (mut rule, mut rest, mut at) = (Ok(()), bytes, 0);
        while !rest.is_empty() {
            let size = sizes[at % sizes.len()].clamp(1, rest.len());
            rule = rule.and(scanner.scan(&rest[..size]));
            rest = &rest[size..];
            at += 1;
        }
        (rule, scanner.heads, scanner.state)
    }

    /// A message that is beyond doubt.
    fn message() -> impl Strategy<Value = Vec<u8>> {
        let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most);
        let end = prop_oneof![Just("\r\n"), Just("\n")];
        let body = prop_oneof![
            Just(None),
            bytes(300).prop_map(|body| Some((body, None))),
            (bytes(300), 1usize..50).prop_map(|(body, chunk)| Some((body, Some(chunk)))),
        ];
        (body, end, 0usize..400).prop_map(|(body, end, padding)| {
            let padding = "p".repeat(padding);
            let mut text = format!("POST / HTTP/1.1{end}X-Padding: {padding}{end}").into_bytes();
            match body {
                None => text.extend_from_slice(end.as_bytes()),
                Some((body, None)) => {
                    text.extend(format!("content-length:{}{end}{end}", body.len()).bytes());
                    text.extend_from_slice(&body);
                }
                Some((body, Some(chunk))) => {
                    text.extend(format!("Transfer-Encoding: chunked{end}{end}").bytes());
                    for part in body.chunks(chunk) {
                        text.extend(format!("{:X};x=y\r\n", part.len()).bytes());
                        text.extend_from_slice(part);
                        text.extend_from_slice(b"\r\n");
                    }
                    text.extend_from_slice(b"0\r\nX-Trailer: 1\r\n\r\n");
                }
            }
            text
        })
    }

    proptest! {
        #[test]
        fn good_messages_are_counted_however_they_come(
            messages in proptest::collection::vec(message(), 1..6),
            sizes in proptest::collection::vec(1usize..200, 1..20),
        ) {
            let seen = in_pieces(&messages.concat(), &sizes);
            prop_assert_eq!(seen, (Ok(()), messages.len() as u64, State::Between));
        }

        #[test]
        fn what_is_found_does_not_depend_on_the_pieces(
            messages in proptest::collection::vec(message(), 1..4),
            flips in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..6),
            sizes in proptest::collection::vec(1usize..200, 1..20),
        ) {
            let mut bytes = messages.concat();
            for (place, byte) in flips {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            let whole = in_pieces(&bytes, &[bytes.len()]);
            let pieces = in_pieces(&bytes, &sizes);
            prop_assert_eq!((whole.0, whole.1), (pieces.0, pieces.1));
        }
    }
}
