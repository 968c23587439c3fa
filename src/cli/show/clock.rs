//! Clock times as people read them, in their own time zone.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// A time zone to show times in.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Clock(TimeZone);

impl Clock {
    /// This machine's.
    pub(in crate::cli) fn local() -> Self {
        Self(crate::text::zone())
    }

    /// For tests.
    #[cfg(test)]
    pub(in crate::cli) fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    fn at(&self, millis: i64) -> Zoned {
        let stamp = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
        stamp.to_zoned(self.0.clone())
    }

    /// `03:07:41`
    pub(in crate::cli) fn time(&self, millis: i64) -> String {
        self.at(millis).strftime("%H:%M:%S").to_string()
    }

    /// `03:07:41.204`
    pub(in crate::cli) fn exact(&self, millis: i64) -> String {
        self.at(millis).strftime("%H:%M:%S%.3f").to_string()
    }

    /// `26 Nov 23:03`
    pub(in crate::cli) fn day(&self, millis: i64) -> String {
        self.at(millis).strftime("%-d %b %H:%M").to_string()
    }

    /// `27 Nov 01:10:02`
    pub(in crate::cli) fn full(&self, millis: i64) -> String {
        self.at(millis).strftime("%-d %b %H:%M:%S").to_string()
    }

    /// The time, with the day in front when it is not the day of `now`.
    pub(in crate::cli) fn near(&self, millis: i64, now: i64) -> String {
        let (then, today) = (self.at(millis), self.at(now));
        if then.date() == today.date() { self.time(millis) } else { self.day(millis) }
    }
}
