//! Types of columns, as `format_type` writes them: which hold every value of another.
//!
//! INVARIANT: what is not known to hold every value is not called wider.

/// Changes of a column's type that hold every value.
const WIDER: [(&str, &str); 7] = [
    ("smallint", "integer"),
    ("smallint", "bigint"),
    ("integer", "bigint"),
    ("real", "double precision"),
    ("character varying", "text"),
    ("character", "text"),
    ("timestamp without time zone", "timestamp with time zone"),
];

/// Types of which the one with the greater number holds all that the other does. Others, such as
/// `bit(8)`, hold values of exactly that length.
const GROWING: [&str; 10] = [
    "character varying",
    "character",
    "bit varying",
    "numeric",
    "time without time zone",
    "time with time zone",
    "timestamp without time zone",
    "timestamp with time zone",
    "interval",
    "interval day to second",
];

/// A type's name, with what stands behind its numbers, and these: how much it holds, how much of
/// that behind the point.
type Parts = (String, Option<(i64, i64)>);

/// Whether every value of one type is one of the other. Lengths, precisions and scales count.
pub(super) fn is_wider(from: &str, to: &str) -> bool {
    let ((from, was), (to, now)) = (split(from), split(to));
    match (from == to, was, now) {
        (true, _, None) => true,
        (true, None, Some(_)) => false,
        (true, Some((size, scale)), Some((new_size, new_scale))) => {
            let is_growing = GROWING.contains(&to.trim_end_matches("[]"));
            let holds = new_scale >= scale && new_size - new_scale >= size - scale;
            is_growing && holds
        }
        (false, _, now) => now.is_none() && WIDER.contains(&(from.as_str(), to.as_str())),
    }
}

/// What cannot be read as numbers stays a part of the name.
fn split(text: &str) -> Parts {
    let read = || {
        let (name, rest) = text.split_once('(')?;
        let (numbers, suffix) = rest.split_once(')')?;
        let mut numbers = numbers.split(',').map(|number| number.trim().parse::<i32>().ok());
        let size = numbers.next()??;
        let scale = match numbers.next() {
            Some(scale) => scale?,
            None => 0,
        };
        let name = format!("{}{suffix}", name.trim());
        numbers.next().is_none().then_some((name, Some((i64::from(size), i64::from(scale)))))
    };
    read().unwrap_or_else(|| (text.to_owned(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_holds_every_value_is_no_loss() {
        for (from, to) in [
            ("character varying(20)", "character varying(40)"),
            ("character varying(20)", "character varying"),
            ("character varying(20)", "text"),
            ("character varying(20)[]", "character varying(40)[]"),
            ("integer", "bigint"),
            ("numeric(10,2)", "numeric(12,2)"),
            ("numeric(10,2)", "numeric(12,4)"),
            ("numeric(10,2)", "numeric"),
            ("timestamp(3) without time zone", "timestamp(6) without time zone"),
            ("timestamp(3) without time zone", "timestamp with time zone"),
        ] {
            assert!(is_wider(from, to), "{from} to {to}");
            assert!(!is_wider(to, from), "{to} to {from}");
        }
        assert!(!is_wider("text", "integer"));
    }

    #[test]
    fn every_number_and_all_of_the_name_count() {
        for (from, to) in [
            ("numeric(10,2)", "numeric(10,0)"),
            ("numeric(10,2)", "numeric(12,8)"),
            ("numeric(10,2)", "numeric(10,4)"),
            ("numeric(5,2)", "numeric(5,-2)"),
            ("timestamp(3) with time zone", "timestamp(3) without time zone"),
            ("timestamp(3) with time zone", "timestamp(6) without time zone"),
            ("character varying(20)", "character varying(20)[]"),
            ("character varying(20)[]", "character varying(20)"),
            ("bit(8)", "bit(16)"),
            ("geometry(Point,4326)", "geometry(Polygon,4326)"),
            ("text", "text COLLATE \"C\""),
        ] {
            assert!(!is_wider(from, to), "{from} to {to}");
        }
    }
}
