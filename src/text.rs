//! How times, amounts and counts read, everywhere the same.

use std::io::ErrorKind;
use std::time::Duration;

use jiff::tz::TimeZone;

/// The system's own time zone, where `TZ` says nothing.
const LOCAL: &str = "/etc/localtime";

/// `0.7 ms`, `1.9 s`, `41 s`, `1 min 48 s`, `2 h 38 min`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let millis = duration.as_secs_f64() * 1_000.0;
    match seconds {
        0 if millis < 100.0 => format!("{millis:.1} ms"),
        0..=9 => format!("{:.1} s", duration.as_secs_f64()),
        10..=59 => format!("{seconds} s"),
        60..=3_599 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 mistake`, `2 mistakes`: a number with its noun.
#[must_use]
pub fn number_of(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// `14 kB`, `755 MB`, `1.9 GB`: thousands, not 1,024.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| bytes >= *unit) else {
        return format!("{bytes} B");
    };
    let tenths = bytes / (unit / 10);
    match tenths {
        0..=99 => format!("{}.{} {name}", tenths / 10, tenths % 10),
        _ => format!("{} {name}", tenths / 10),
    }
}

/// `03:07:41`, in the time zone of this machine.
#[must_use]
pub fn clock(millis: i64) -> String {
    let Ok(stamp) = jiff::Timestamp::from_millisecond(millis) else { return "?".to_owned() };
    stamp.to_zoned(zone()).strftime("%H:%M:%S").to_string()
}

/// The time zone of this machine.
///
/// The file is read as it is: looking its name up would list the whole time zone database first,
/// some sixty folders, and the first line of a rollback would wait for that.
#[must_use]
pub fn zone() -> TimeZone {
    if std::env::var_os("TZ").is_some() {
        return TimeZone::system();
    }
    match std::fs::read(LOCAL) {
        Ok(bytes) => TimeZone::tzif("local", &bytes).unwrap_or_else(|_| TimeZone::system()),
        Err(error) if error.kind() == ErrorKind::NotFound => TimeZone::UTC,
        Err(_) => TimeZone::system(),
    }
}

/// `26 Nov 22:31`, in the time zone of this machine.
#[must_use]
pub fn day(millis: i64) -> String {
    let Ok(stamp) = jiff::Timestamp::from_millisecond(millis) else { return "?".to_owned() };
    stamp.to_zoned(zone()).strftime("%-d %b %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        for (millis, text) in [
            (0, "0.0 ms"),
            (1, "1.0 ms"),
            (1_900, "1.9 s"),
            (41_200, "41 s"),
            (108_000, "1 min 48 s"),
            (9_480_000, "2 h 38 min"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn one_is_not_many() {
        for (number, text) in [(0, "0 mistakes"), (1, "1 mistake"), (2, "2 mistakes")] {
            assert_eq!(number_of(number, "mistake"), text);
        }
    }

    #[test]
    fn the_zone_that_is_read_is_the_one_that_is_looked_up() {
        let (read, looked_up) = (zone(), TimeZone::system());
        for month in 0..24 {
            let stamp = jiff::Timestamp::from_second(1_790_000_000 + month * 2_600_000).unwrap();
            assert_eq!(read.to_offset(stamp), looked_up.to_offset(stamp), "{stamp}");
        }
    }

    #[test]
    fn sizes_have_two_or_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (14_200, "14 kB"),
            (755_000_000, "755 MB"),
            (1_940_000_000, "1.9 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn counts_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
    }
}
