//! `--at TIME`: a moment as people type it, in the time zone of this machine.
//!
//! `HH:MM` is the next time that a clock on the wall shows it. A time of day that the zone skips or
//! has twice (clocks are put forward or back) is refused: it has to be written with its offset.

use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};

/// When a rollback shall happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// Then, in milliseconds since the Unix epoch.
    Time(i64),
    /// Not any more: what was set is taken back.
    Never,
}

/// How a time is written.
const FORMS: &str = "write 03:00, \"tomorrow 03:00\", +2h, or 2026-11-27T03:00:00+08:00; \
                     \"never\" takes back what was set";

/// Reads a moment.
///
/// # Errors
/// What is wrong with it, and how it is written.
pub(super) fn parse(text: &str) -> Result<At, String> {
    let zone = crate::text::zone();
    read(text.trim(), &Timestamp::now().to_zoned(zone))
}

fn read(text: &str, now: &Zoned) -> Result<At, String> {
    if text == "never" {
        return Ok(At::Never);
    }
    let wrong = || format!("\"{text}\" is not a time: {FORMS}");
    let zone = now.time_zone();
    if let Some(after) = text.strip_prefix('+') {
        let after: SignedDuration = after.trim().parse().map_err(|_| wrong())?;
        let after = Duration::try_from(after).map_err(|_| wrong())?;
        let then = now.timestamp().checked_add(after).map_err(|_| wrong())?;
        return Ok(At::Time(then.as_millisecond()));
    }
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return Ok(At::Time(stamp.as_millisecond()));
    }
    let (days, time) = match text.split_once(' ') {
        Some(("today", time)) => (Some(0), time),
        Some(("tomorrow", time)) => (Some(1), time),
        _ => (None, text),
    };
    let time = clock(time.trim()).ok_or_else(wrong)?;
    let on = |days: i64| -> Result<i64, String> {
        let date = now.date().checked_add(days.days()).map_err(|_| wrong())?;
        exactly(date.to_datetime(time), zone, text)
    };
    match days {
        Some(days) => on(days).map(At::Time),
        None if now.time() < time => on(0).map(At::Time),
        None => on(1).map(At::Time),
    }
}

/// `3:00` or `03:00` or `03:00:30`, nothing else.
fn clock(text: &str) -> Option<Time> {
    let fields: Vec<&str> = text.split(':').collect();
    let number = |field: &&str| {
        let is_short = (1..=2).contains(&field.len()) && field.bytes().all(|b| b.is_ascii_digit());
        if is_short { field.parse::<i8>().ok() } else { None }
    };
    let numbers: Option<Vec<i8>> = fields.iter().map(number).collect();
    match numbers?.as_slice() {
        [hour, minute] => Time::new(*hour, *minute, 0, 0).ok(),
        [hour, minute, second] => Time::new(*hour, *minute, *second, 0).ok(),
        _ => None,
    }
}

fn exactly(local: jiff::civil::DateTime, zone: &TimeZone, text: &str) -> Result<i64, String> {
    let stamp = zone.to_ambiguous_zoned(local).unambiguous().map_err(|_| {
        format!(
            "\"{text}\": clocks are put forward or back then, so it is no one moment; write it \
             with its offset, as 2026-11-27T03:00:00+08:00"
        )
    })?;
    Ok(stamp.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(now: &str, text: &str) -> Result<String, String> {
        let now: Zoned = now.parse().unwrap();
        read(text, &now).map(|at| match at {
            At::Never => "never".to_owned(),
            At::Time(millis) => {
                let stamp = Timestamp::from_millisecond(millis).unwrap();
                stamp.to_zoned(now.time_zone().clone()).strftime("%F %T %:z").to_string()
            }
        })
    }

    #[test]
    fn a_time_is_the_next_moment_that_it_names() {
        let now = "2026-11-27T01:10:00+08:00[Asia/Shanghai]";
        for (text, meant) in [
            ("03:00", "2026-11-27 03:00:00 +08:00"),
            ("3:00", "2026-11-27 03:00:00 +08:00"),
            ("03:00:30", "2026-11-27 03:00:30 +08:00"),
            ("01:10", "2026-11-28 01:10:00 +08:00"),
            ("00:30", "2026-11-28 00:30:00 +08:00"),
            ("today 00:30", "2026-11-27 00:30:00 +08:00"),
            ("tomorrow 03:00", "2026-11-28 03:00:00 +08:00"),
            ("+2h", "2026-11-27 03:10:00 +08:00"),
            ("+1h30m", "2026-11-27 02:40:00 +08:00"),
            ("2026-11-30T12:00:00Z", "2026-11-30 20:00:00 +08:00"),
            ("2026-11-30T12:00:00+01:00", "2026-11-30 19:00:00 +08:00"),
            ("never", "never"),
        ] {
            assert_eq!(at(now, text).as_deref(), Ok(meant), "{text}");
        }
    }

    #[test]
    fn what_is_no_one_moment_is_refused() {
        let now = "2026-11-27T01:10:00+08:00[Asia/Shanghai]";
        for text in [
            "",
            "3",
            "3pm",
            "25:00",
            "03:60",
            "003:00",
            "+",
            "+-2h",
            "-2h",
            "2h ago",
            "soon",
            "yesterday 03:00",
            "2026-11-30",
            "2026-11-30T12:00:00",
            "12:00:00:00",
            "+1mo",
        ] {
            let said = at(now, text).expect_err(text);
            assert!(said.contains("is not a time: write 03:00"), "{text}: {said}");
        }
        // Clocks go back at 03:00 and forward at 02:00 in Berlin.
        for (now, text) in [
            ("2026-10-24T20:00:00+02:00[Europe/Berlin]", "02:30"),
            ("2026-03-28T20:00:00+01:00[Europe/Berlin]", "02:30"),
        ] {
            let said = at(now, text).expect_err(text);
            assert!(said.contains("clocks are put forward or back"), "{said}");
        }
        let kept = at("2026-10-24T20:00:00+02:00[Europe/Berlin]", "03:30");
        assert_eq!(kept.as_deref(), Ok("2026-10-25 03:30:00 +01:00"));
    }
}
