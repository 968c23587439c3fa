//! Paths as text. Nothing here asks a file system.

use std::path::{Component, Path, PathBuf};

/// The same path without `.` and `..`, as it is written: links are not followed.
#[must_use]
pub fn normal(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_without_detours_leads_to_the_same_place() {
        for (written, plain) in [
            ("/a/./b/../c", "/a/c"),
            ("/a/b/../../c/.", "/c"),
            ("/../a", "/a"),
            ("./a//b/", "a/b"),
            ("/a", "/a"),
        ] {
            assert_eq!(normal(Path::new(written)), Path::new(plain), "{written}");
        }
    }
}
