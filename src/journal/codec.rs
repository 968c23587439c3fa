//! The translation between the model's facts and the bytes that the journal keeps.
//!
//! A stored form lives for ever: an old kind or version is lifted step by step where it is read and
//! never edited where it stands. A kind or version that this program does not know is refused, and
//! nothing is changed, because guessing at a newer program's facts could undo what it did.
//! Invariant: what was encoded by any released version decodes to what it meant then.

use serde_json::Value;

/// One step that lifts an old stored form.
pub struct Lift {
    /// The stored kind that it takes.
    pub kind: &'static str,
    /// The version that it takes.
    pub version: u32,
    /// The kind that it makes.
    pub to_kind: &'static str,
    /// The version that it makes.
    pub to_version: u32,
    /// The change; an error says in plain words what the old form lacks.
    pub change: fn(Value) -> Result<Value, String>,
}

/// Why stored bytes are no fact that this program knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A newer Cutover wrote it.
    #[error(
        "a newer Cutover wrote facts of the kind \"{kind}\", version {version}, which this one does \
         not know. Nothing was changed. Install the newer version again"
    )]
    Unknown {
        /// The stored kind.
        kind: String,
        /// The stored version.
        version: u32,
    },
    /// The bytes are whole (their hash is right) but do not have the kind's form.
    #[error("a fact of the kind \"{kind}\", version {version}, cannot be read: {why}")]
    Malformed {
        /// The stored kind.
        kind: String,
        /// The stored version.
        version: u32,
        /// What does not fit.
        why: String,
    },
}

/// Lifts a stored form to one of the `known` kinds and versions.
///
/// # Errors
/// [`CodecError::Unknown`] when no steps lead there, [`CodecError::Malformed`] when one fails.
pub fn lift(
    lifts: &[Lift],
    known: &[(&'static str, u32)],
    kind: &str,
    version: u32,
    value: Value,
) -> Result<(String, Value), CodecError> {
    let (mut kind, mut version, mut value) = (kind.to_owned(), version, value);
    // Each step is used at most once, so a circle of steps ends as unknown.
    for _ in 0..=lifts.len() {
        if known.iter().any(|(name, number)| *name == kind && *number == version) {
            return Ok((kind, value));
        }
        let Some(step) = lifts.iter().find(|l| l.kind == kind && l.version == version) else {
            break;
        };
        value = (step.change)(value).map_err(|why| CodecError::Malformed {
            kind: kind.clone(),
            version,
            why,
        })?;
        (kind, version) = (step.to_kind.to_owned(), step.to_version);
    }
    Err(CodecError::Unknown { kind, version })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIFTS: [Lift; 2] = [
        Lift {
            kind: "moved",
            version: 1,
            to_kind: "moved",
            to_version: 2,
            change: |mut value| {
                let percent = value["percent"].as_u64().ok_or("no percent")?;
                value["points"] = json!(percent * 100);
                Ok(value)
            },
        },
        Lift {
            kind: "moved",
            version: 2,
            to_kind: "split_changed",
            to_version: 1,
            change: |value| Ok(json!({"after": value["points"]})),
        },
    ];
    const KNOWN: [(&str, u32); 2] = [("split_changed", 1), ("noted", 3)];

    #[test]
    fn an_old_form_is_lifted_step_by_step() {
        let lifted = lift(&LIFTS, &KNOWN, "moved", 1, json!({"percent": 5}));
        assert_eq!(lifted, Ok(("split_changed".to_owned(), json!({"after": 500}))));
    }

    #[test]
    fn a_newer_kind_or_version_is_refused() {
        for (kind, version) in [("noted", 4), ("noted", 1), ("teleported", 1)] {
            let error = lift(&LIFTS, &KNOWN, kind, version, json!({})).unwrap_err();
            assert!(error.to_string().contains("newer Cutover"), "{error}");
        }
    }

    #[test]
    fn an_old_form_that_lacks_something_is_reported() {
        let error = lift(&LIFTS, &KNOWN, "moved", 1, json!({})).unwrap_err();
        assert!(error.to_string().contains("no percent"), "{error}");
    }

    #[test]
    fn a_circle_of_steps_ends() {
        let back = |value| Ok(value);
        let circle = [
            Lift { kind: "a", version: 1, to_kind: "b", to_version: 1, change: back },
            Lift { kind: "b", version: 1, to_kind: "a", to_version: 1, change: back },
        ];
        assert!(lift(&circle, &KNOWN, "a", 1, json!({})).is_err());
    }
}
