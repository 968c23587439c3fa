//! The last good tables: what the data plane served, so that a start needs nobody else.
//!
//! Owns the file `tables.json`: a line with form and checksum, then a line with the value. Knows
//! nothing of what is in it. The one before is kept beside it, for the day when the disk rots.
//! Invariant: what [`load`] returns was saved whole by [`save`].

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::record::{digest, hex};
use super::{JournalError, disk};

/// The name of the file in the state folder.
pub const FILE: &str = "tables.json";

/// The form that this program writes.
const FORM: u32 = 1;

/// Bytes at most: some hundred apps with a thousand endpoints each stay below it.
const MOST: u64 = 32 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Head {
    schema: String,
    sha256: String,
}

fn sum(body: &str) -> String {
    hex(&digest(&[b"cutover.tables", body.as_bytes()]))
}

/// Which file a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded<T> {
    /// The newest.
    Newest(T),
    /// The one before, because the newest is damaged in this way.
    Before(T, JournalError),
    /// There is none.
    Nothing,
}

/// Saves the tables; the ones before stay beside them.
///
/// # Errors
/// [`JournalError::Full`], [`JournalError::Disk`]: the old ones are still there.
/// [`JournalError::Newer`]: a newer Cutover wrote them, and they stay as they are.
pub fn save<T: Serialize>(folder: &Path, tables: &T) -> Result<(), JournalError> {
    let path = folder.join(FILE);
    let body = serde_json::to_string(tables)
        .map_err(|error| JournalError::Refused(format!("tables: {error}")))?;
    let head = Head { schema: format!("cutover.tables/{FORM}"), sha256: sum(&body) };
    let head = serde_json::to_string(&head)
        .map_err(|error| JournalError::Refused(format!("tables: {error}")))?;
    let there = read::<serde::de::IgnoredAny>(&path);
    if let Err(newer @ JournalError::Newer { .. }) = there {
        return Err(newer);
    }
    // Only a good file may become the one before.
    if matches!(there, Ok(Some(_))) {
        let before = disk::beside(&path, ".before");
        let step = disk::beside(&path, ".step");
        drop(std::fs::remove_file(&step));
        std::fs::hard_link(&path, &step)
            .and_then(|()| std::fs::rename(&step, &before))
            .map_err(|error| JournalError::io(&before, "keeping the one before", &error))?;
    }
    disk::replace_file(&path, format!("{head}\n{body}\n").as_bytes())
}

/// Loads the last good tables.
///
/// # Errors
/// [`JournalError::Newer`] when a newer Cutover wrote them; otherwise what is wrong with the newest
/// ones, when the ones before are damaged or missing, too.
pub fn load<T: DeserializeOwned>(folder: &Path) -> Result<Loaded<T>, JournalError> {
    let path = folder.join(FILE);
    let wrong = match read(&path) {
        Ok(Some(tables)) => return Ok(Loaded::Newest(tables)),
        Ok(None) => None,
        Err(error @ JournalError::Newer { .. }) => return Err(error),
        Err(error) => Some(error),
    };
    let before = read(&disk::beside(&path, ".before"));
    match (wrong, before) {
        (None, Ok(None)) => Ok(Loaded::Nothing),
        (None, Ok(Some(tables))) => {
            let what = "it is missing".to_owned();
            Ok(Loaded::Before(tables, JournalError::Corrupt { path, what }))
        }
        (Some(wrong), Ok(Some(tables))) => Ok(Loaded::Before(tables, wrong)),
        (Some(wrong), _) | (None, Err(wrong)) => Err(wrong),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, JournalError> {
    let corrupt =
        |what: &str| JournalError::Corrupt { path: path.to_owned(), what: what.to_owned() };
    let Some(bytes) = disk::read_file(path, MOST)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| corrupt("it is not text"))?;
    let (head, body) = text.split_once('\n').ok_or_else(|| corrupt("it has no first line"))?;
    let body = body.strip_suffix('\n').ok_or_else(|| corrupt("its end is missing"))?;
    let head: Head =
        serde_json::from_str(head).map_err(|_| corrupt("its first line is not the usual one"))?;
    let form = head.schema.strip_prefix("cutover.tables/").and_then(|n| n.parse::<u32>().ok());
    match form {
        Some(FORM) => {}
        Some(newer) if newer > FORM => {
            let what = format!("form {newer}");
            return Err(JournalError::Newer { path: path.to_owned(), what, known: FORM });
        }
        _ => return Err(corrupt("its first line names no known form")),
    }
    if sum(body) != head.sha256 {
        return Err(corrupt("its checksum does not fit"));
    }
    serde_json::from_str(body).map(Some).map_err(|error| corrupt(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Value = Vec<String>;

    fn saved(texts: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for text in texts {
            save(folder.path(), &vec![(*text).to_owned()]).unwrap();
        }
        folder
    }

    #[test]
    fn tables_come_back_as_saved() {
        let folder = saved(&[]);
        assert_eq!(load::<Value>(folder.path()), Ok(Loaded::Nothing));
        let folder = saved(&["a", "b"]);
        assert_eq!(load(folder.path()), Ok(Loaded::Newest(vec!["b".to_owned()])));
    }

    #[test]
    fn a_flipped_bit_or_a_cut_anywhere_gives_the_one_before() {
        let folder = saved(&["a", "b"]);
        let path = folder.path().join(FILE);
        let good = std::fs::read(&path).unwrap();
        let damaged = (0..good.len()).flat_map(|at| {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << (at % 8);
            [flipped, good[..at].to_vec()]
        });
        for bytes in damaged {
            std::fs::write(&path, &bytes).unwrap();
            match load::<Value>(folder.path()) {
                Ok(Loaded::Before(value, _)) => assert_eq!(value, ["a"]),
                // A flip within the form's number reads as a newer form, which is refused too.
                Err(JournalError::Newer { .. }) => {}
                other => panic!("{other:?} from {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
    }

    #[test]
    fn a_newer_file_stays_as_it_is() {
        let folder = saved(&["a"]);
        let path = folder.path().join(FILE);
        let newer = "{\"schema\":\"cutover.tables/2\",\"sha256\":\"x\"}\n[]\n";
        std::fs::write(&path, newer).unwrap();
        let refused = save(folder.path(), &vec!["b"]);
        assert!(matches!(refused, Err(JournalError::Newer { .. })), "{refused:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), newer);
    }

    #[test]
    fn a_damaged_file_never_becomes_the_one_before() {
        let folder = saved(&["a", "b"]);
        std::fs::write(folder.path().join(FILE), "rubbish").unwrap();
        save(folder.path(), &vec!["c"]).unwrap();
        std::fs::write(folder.path().join(FILE), "rubbish").unwrap();
        let Ok(Loaded::Before(value, _)) = load::<Value>(folder.path()) else { panic!() };
        assert_eq!(value, ["a"]);
    }
}
