//! What the environment and `.env` say to compose: which files, which project, which profiles.
//!
//! Pure but for [`here`]. What only the operator's shell says is lost to a daemon that a service
//! manager starts, so it goes into the file that is written; what `.env` says compose finds again
//! by itself, but for the files, which are always written out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// What was said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Around {
    /// `COMPOSE_FILE`, split; empty when nothing is said.
    pub files: Vec<PathBuf>,
    /// `COMPOSE_PROJECT_NAME`, when the environment says it.
    pub project: Option<String>,
    /// `COMPOSE_PROFILES`, when the environment says it.
    pub profiles: Option<BTreeSet<String>>,
}

/// What this process's environment and the folder's `.env` say.
#[must_use]
pub fn here(folder: &Path) -> Around {
    let file = std::fs::read_to_string(folder.join(".env")).unwrap_or_default();
    of(|name| std::env::var(name).ok(), &file)
}

/// What an environment and the text of an `.env` file say; the environment wins.
#[must_use]
pub fn of(environment: impl Fn(&str) -> Option<String>, env_file: &str) -> Around {
    let said = |name: &str| environment(name).or_else(|| value_of(env_file, name));
    let separator = said("COMPOSE_PATH_SEPARATOR").filter(|text| !text.is_empty());
    let separator = separator.unwrap_or_else(|| ":".to_owned());
    let files = said("COMPOSE_FILE").unwrap_or_default();
    let profiles = |text: String| {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    };
    Around {
        files: files.split(&separator).filter(|f| !f.is_empty()).map(PathBuf::from).collect(),
        project: environment("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()),
        profiles: environment("COMPOSE_PROFILES").map(profiles),
    }
}

/// The last value of a variable in an `.env` file, without its quotes and its comment.
fn value_of(text: &str, wanted: &str) -> Option<String> {
    let value = |line: &str| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=')?;
        (name.trim() == wanted).then(|| {
            let value = value.trim();
            match value.chars().next().filter(|first| matches!(first, '"' | '\'')) {
                Some(quote) => value[1..].split(quote).next().unwrap_or_default().to_owned(),
                None => value.split(" #").next().unwrap_or_default().trim_end().to_owned(),
            }
        })
    };
    text.lines().filter_map(value).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(environment: &[(&str, &str)], env_file: &str) -> Around {
        let find = |name: &str| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        of(find, env_file)
    }

    fn files(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn files_come_from_the_environment_or_from_the_env_file() {
        let text = "A=1\nexport COMPOSE_FILE='a.yml:b.yml'\nCOMPOSE_FILE=c.yml:d.yml # two\n";
        assert_eq!(said(&[], text).files, files(&["c.yml", "d.yml"]));
        assert_eq!(said(&[("COMPOSE_FILE", "e.yml")], text).files, files(&["e.yml"]));
        let other = "COMPOSE_PATH_SEPARATOR=;\nCOMPOSE_FILE=\"a:b.yml;c.yml\"\n";
        assert_eq!(said(&[], other).files, files(&["a:b.yml", "c.yml"]));
        assert_eq!(said(&[], "# COMPOSE_FILE=x.yml\nMY_COMPOSE_FILE=y.yml\n"), Around::default());
    }

    #[test]
    fn project_and_profiles_are_kept_only_when_a_daemon_would_not_find_them() {
        let text = "COMPOSE_PROJECT_NAME=infile\nCOMPOSE_PROFILES=infile\n";
        assert_eq!(said(&[], text), Around::default());
        let shell = [("COMPOSE_PROJECT_NAME", "store"), ("COMPOSE_PROFILES", "debug, mail")];
        let around = said(&shell, text);
        assert_eq!(around.project.as_deref(), Some("store"));
        let both = ["debug", "mail"].map(str::to_owned);
        assert_eq!(around.profiles, Some(BTreeSet::from(both)));
        let none = said(&[("COMPOSE_PROFILES", "")], text).profiles;
        assert_eq!(none, Some(BTreeSet::new()), "said to be none");
    }
}
