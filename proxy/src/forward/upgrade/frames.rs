//! Where WebSocket frames end (RFC 6455, section 5.2), so that a tunnel can be closed politely.
//!
//! It reads lengths only and changes nothing. Invariant: after any bytes it knows whether it stands
//! between two frames.

/// The longest frame header: two bytes, eight of length, four of mask.
const HEADER: usize = 14;

/// "Going away" (1001) from a server: not masked.
pub(super) const CLOSE_TO_CLIENT: &[u8] = &[0x88, 0x02, 0x03, 0xE9];
/// "Service restart" (1012): the client is asked to come back.
pub(super) const COME_BACK: &[u8] = &[0x88, 0x02, 0x03, 0xF4];
/// 1001 from a client: masked, with a mask of zeros.
pub(super) const CLOSE_TO_UPSTREAM: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE9];

/// The place in one direction's stream of frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; HEADER],
    have: usize,
    payload: u64,
}

impl Frames {
    /// Whether the last byte ended a frame.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0 && self.payload == 0
    }

    /// Reads on to the end of the current frame or of the bytes; says how far that was.
    pub(super) fn until_boundary(&mut self, bytes: &[u8]) -> usize {
        let mut read = 0;
        while let Some(byte) = bytes.get(read) {
            if self.payload > 0 {
                let left = usize::try_from(self.payload).unwrap_or(usize::MAX);
                let here = left.min(bytes.len() - read);
                self.payload -= here as u64;
                read += here;
            } else {
                self.header[self.have] = *byte;
                self.have += 1;
                read += 1;
                if let Some(payload) = self.whole_header() {
                    self.payload = payload;
                    self.have = 0;
                }
            }
            if self.is_between() {
                return read;
            }
        }
        read
    }

    /// Reads all of the bytes.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let read = self.until_boundary(bytes);
            bytes = bytes.get(read..).unwrap_or_default();
        }
    }

    /// The payload's length, when the header is complete.
    fn whole_header(&self) -> Option<u64> {
        if self.have < 2 {
            return None;
        }
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        let (extra, short) = match self.header[1] & 0x7F {
            126 => (2, None),
            127 => (8, None),
            length => (0, Some(u64::from(length))),
        };
        if self.have < 2 + extra + mask {
            return None;
        }
        let long = self.header.iter().skip(2).take(extra);
        Some(short.unwrap_or_else(|| long.fold(0, |sum, byte| sum << 8 | u64::from(*byte))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x82];
        match length {
            0..126 => bytes.push(mask | u8::try_from(length).unwrap()),
            126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        bytes.extend(std::iter::repeat_n(7, if masked { length + 4 } else { length }));
        bytes
    }

    #[test]
    fn boundaries_are_found_however_the_bytes_come() {
        let frames = [frame(0, true), frame(5, false), frame(300, true), frame(70_000, false)];
        let stream: Vec<u8> = frames.concat();
        let mut ends = Vec::new();
        let mut at = 0;
        for frame in &frames {
            at += frame.len();
            ends.push(at);
        }
        for step in [1, 2, 3, 64, stream.len()] {
            let mut tracker = Frames::default();
            let mut at = 0;
            for part in stream.chunks(step) {
                tracker.pass(part);
                at += part.len();
                assert_eq!(tracker.is_between(), ends.contains(&at), "{step} {at}");
            }
        }
        let mut tracker = Frames::default();
        assert_eq!(tracker.until_boundary(&stream), ends[0]);
        assert_eq!(tracker.until_boundary(&stream[ends[0]..]), ends[1] - ends[0]);
    }
}
