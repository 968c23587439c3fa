//! Which backups are kept: the newest of each of so many days, weeks and months.
//!
//! Pure. A day and a week are those of the operator's time zone; a week begins on Monday. The
//! newest backup that was read back completely is never let go, nor one that a plan names. What was
//! saved because something was about to be replaced or dropped, what came from elsewhere and what
//! is damaged stands for no day: it goes a month after it was made. An archive that is missing, or
//! short, at the moment is no damage that was read: it stands for no day either, and stays.

use std::collections::BTreeSet;

use cutover_model::Millis;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::Backup;

/// How long a backup is kept that stands for no day, in milliseconds.
const APART_FOR_MS: i64 = 30 * 24 * 3_600 * 1_000;

/// How many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Days, each with its newest backup.
    pub daily: u32,
    /// Weeks, each with its newest backup.
    pub weekly: u32,
    /// Months, each with its newest backup.
    pub monthly: u32,
}

/// The ids of those that may go, oldest first. `named`: those that something still needs.
#[must_use]
pub fn may_go(
    backups: &[Backup],
    keep: Keep,
    (now, zone): (Millis, &TimeZone),
    named: &BTreeSet<String>,
) -> Vec<String> {
    let mut kept: BTreeSet<&str> = named.iter().map(String::as_str).collect();
    let mut newest_first: Vec<&Backup> = backups.iter().collect();
    newest_first.sort_by_key(|backup| std::cmp::Reverse(backup.manifest.at));
    let verified = newest_first
        .iter()
        .find(|backup| backup.manifest.verified_at.is_some() && backup.manifest.damaged.is_none());
    kept.extend(verified.map(|backup| backup.id()));
    for backup in newest_first.iter().filter(|backup| !backup.manifest.is_way_back()) {
        let manifest = &backup.manifest;
        // Data may be much older than the backup of it, as that of an import.
        let made = match manifest.made_at {
            // Noted by nobody yet when it was made.
            Millis(0) => manifest.verified_at.unwrap_or(manifest.at),
            made => made,
        };
        let made = made.max(manifest.at);
        // What is only seen in passing is no reason to remove anything.
        if now.0 - made.0 <= APART_FOR_MS || backup.is_only_seen {
            kept.insert(backup.id());
        }
    }
    let scheduled = || newest_first.iter().filter(|backup| backup.manifest.is_way_back());
    kept.extend(newest_of(scheduled(), keep.daily, |backup| day(backup, zone)));
    kept.extend(newest_of(scheduled(), keep.weekly, |backup| monday(day(backup, zone))));
    kept.extend(newest_of(scheduled(), keep.monthly, |backup| day(backup, zone).first_of_month()));
    let gone = newest_first.iter().rev().filter(|backup| !kept.contains(backup.id()));
    gone.map(|backup| backup.id().to_owned()).collect()
}

fn newest_of<'b>(
    newest_first: impl Iterator<Item = &'b &'b Backup>,
    most: u32,
    period: impl Fn(&Backup) -> Date,
) -> Vec<&'b str> {
    let (mut kept, mut last) = (Vec::new(), None);
    for backup in newest_first {
        let this = period(backup);
        if last == Some(this) {
            continue;
        }
        if kept.len() >= most as usize {
            break;
        }
        last = Some(this);
        kept.push(backup.id());
    }
    kept
}

fn day(backup: &Backup, zone: &TimeZone) -> Date {
    let at = Timestamp::from_millisecond(backup.manifest.at.0).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_zoned(zone.clone()).date()
}

fn monday(date: Date) -> Date {
    let back = i32::from(date.weekday().to_monday_zero_offset());
    date.checked_sub(jiff::Span::new().days(back)).unwrap_or(date)
}
