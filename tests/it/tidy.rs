//! The house rules that no compiler holds: arrows between folders, sizes, names, headers.
//!
//! Each finding names file and line and what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file without its tests.
const MOST_LINES: usize = 500;
/// Columns of a line.
const MOST_COLUMNS: usize = 100;
/// Files side by side in one folder; ARCHITECTURE.md says why not fewer.
const MOST_FILES: usize = 16;

const EMPTY_NAMES: [&str; 12] = [
    "util", "utils", "common", "helper", "helpers", "misc", "manager", "handler", "service",
    "context", "data", "info",
];

/// Which modules of `src/` a module may name. All modules stand here. `crash` is where tests kill the
/// program; `text` is words and numbers.
const ARROWS: [(&str, &[&str]); 16] = [
    ("main", &["cli"]),
    (
        "cli",
        &["client", "daemon", "demo", "init", "adopt", "api", "text", "host", "journal", "report"],
    ),
    ("client", &["api"]),
    ("demo", &["daemon", "client", "api", "text", "cli"]),
    ("daemon", &["api", "controller", "reconciler", "journal", "host", "adopt", "text"]),
    ("api", &["controller", "text", "host", "journal", "report"]),
    ("controller", &["reconciler", "journal", "host", "adopt", "text", "crash"]),
    ("reconciler", &["host", "adopt", "text", "crash"]),
    ("adopt", &["host", "text", "journal"]),
    ("init", &["host", "text"]),
    ("report", &["text"]),
    ("host", &["text"]),
    ("journal", &[]),
    ("text", &[]),
    ("crash", &[]),
    ("lib", &[]),
];

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn rust_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["src", "model", "proxy", "config", "tests", "benches", "examples/shop/app/src"] {
        collect(&root().join(folder), &mut found);
    }
    assert!(found.len() > 20, "the tree was not found: {found:?}");
    found.sort();
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map(|entry| entry.expect("a readable folder").path()) {
        if entry.is_dir() && entry.file_name().is_some_and(|name| name != "target") {
            collect(&entry, found);
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            found.push(entry);
        }
    }
}

pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Whether the file holds tests only.
fn is_test(path: &Path) -> bool {
    let name = shown(path);
    name.starts_with("tests/") || name.contains("/tests/") || name.ends_with("tests.rs")
}

fn check(rule: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

#[test]
fn files_are_short_and_lines_fit() {
    let mut findings = Vec::new();
    for path in rust_files() {
        let text = fs::read_to_string(&path).expect("a readable file");
        let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(&text);
        let lines = before_tests.lines().count();
        if lines > MOST_LINES && !is_test(&path) {
            findings.push(format!("{}: {lines} lines; split it", shown(&path)));
        }
        for (number, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > MOST_COLUMNS && !line.contains("http") && !is_test(&path) {
                findings.push(format!("{}:{}: {columns} columns", shown(&path), number + 1));
            }
        }
    }
    check("files have 500 lines and lines 100 columns at most", findings);
}

#[test]
fn every_file_says_what_it_is() {
    let without = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a readable file");
        !text.starts_with("//!")
    };
    let findings = rust_files().iter().filter(|path| without(path)).map(|p| shown(p)).collect();
    check("a file opens with //!: what it owns and what it does not do", findings);
}

#[test]
fn names_mean_something() {
    let mut findings = Vec::new();
    for path in rust_files() {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let stem = stem.unwrap_or_default();
        if EMPTY_NAMES.contains(&stem.as_str()) || stem == "mod" {
            findings.push(format!("{}: name it by its noun or verb", shown(&path)));
        }
    }
    check("no file has an empty name", findings);
}

#[test]
fn folders_are_small() {
    let mut counts: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for path in rust_files().iter().filter(|path| !is_test(path)) {
        *counts.entry(path.parent().expect("a folder").to_owned()).or_default() += 1;
    }
    let full = counts.into_iter().filter(|(_, count)| *count > MOST_FILES);
    let findings = full.map(|(folder, count)| format!("{}: {count}", shown(&folder))).collect();
    check("a folder with more files wants a folder inside", findings);
}

#[test]
fn arrows_run_one_way() {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for path in rust_files() {
        let name = shown(&path);
        let Some(inside) = name.strip_prefix("src/") else { continue };
        let module = inside.split(['/', '.']).next().unwrap_or_default().to_owned();
        seen.insert(module.clone());
        let Some(allowed) = arrows.get(module.as_str()) else {
            findings.push(format!("{name}: {module} is not in the list of arrows"));
            continue;
        };
        let text = fs::read_to_string(&path).expect("a readable file");
        for (line, other) in named(&text, depth(inside)) {
            let is_module = arrows.contains_key(other.as_str());
            if is_module && other != module && !allowed.contains(&other.as_str()) {
                findings.push(format!("{name}:{line}: {module} -> {other}"));
            }
        }
    }
    let gone = arrows.keys().filter(|module| !seen.contains(**module));
    findings.extend(gone.map(|module| format!("{module} is in the list of arrows, and no module")));
    check("the arrows of ARCHITECTURE.md", findings);
}

/// How many `super` lead from a file below `src/` to the crate: 1 for `api.rs`, 2 for `api/wire.rs`.
fn depth(inside: &str) -> usize {
    inside.split('/').count()
}

/// The names that a file calls right below the crate, each with its line: by `crate::`, by `cutover::`
/// in the program's own file, and by as many `super::` as lead up there; groups in braces too.
fn named(text: &str, depth: usize) -> Vec<(usize, String)> {
    // Tests beside the code are one module deeper.
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let up = "super::".repeat(depth);
    let mut found = Vec::new();
    for root in ["crate::", "cutover::", &up] {
        for (at, _) in text.match_indices(root) {
            let before = text[..at].chars().next_back();
            let is_longer = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
            let is_remark = text[..at].rsplit('\n').next().unwrap_or("").contains("//");
            if is_longer || is_remark || (root == up && at >= code.len()) {
                continue;
            }
            let line = text[..at].matches('\n').count() + 1;
            let names = first_names(&text[at + root.len()..]);
            found.extend(names.into_iter().map(|name| (line, name)));
        }
    }
    found
}

/// `a::b` names `a`; `{a, b::{c, d}}` names `a` and `b`.
fn first_names(path: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = path.strip_prefix('{') else { return vec![word(path)] };
    let (mut names, mut deep, mut begins) = (Vec::new(), 0, true);
    for (at, letter) in group.char_indices() {
        match letter {
            '}' if deep == 0 => break,
            '{' => deep += 1,
            '}' => deep -= 1,
            ',' if deep == 0 => begins = true,
            _ if begins && !letter.is_whitespace() => {
                names.push(word(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

#[test]
fn every_way_to_name_a_module_is_seen() {
    let text = "use crate::{api::{wire, Desk}, text};\nuse crate::{\n    host,\n    journal::Store,\n};\n\
                fn a() { crate::daemon::run(); super::super::cli::go() }\n// crate::demo\n\
                use super::own;\nuse other_crate::init;\n#[cfg(test)]\nmod tests {\n\
                use super::super::near;\nuse crate::client;\n}\n";
    let mut names = named(text, 2);
    names.sort();
    let expected = [
        (1, "api"),
        (1, "text"),
        (2, "host"),
        (2, "journal"),
        (6, "cli"),
        (6, "daemon"),
        (13, "client"),
    ];
    let expected: Vec<_> = expected.map(|(line, name)| (line, name.to_owned())).into();
    assert_eq!(names, expected);
}

#[test]
fn only_daemon_and_cli_see_the_operators_file() {
    let mut findings = Vec::new();
    for path in rust_files() {
        let name = shown(&path);
        let sees = ["src/daemon", "src/cli", "src/demo", "src/init", "src/main.rs"];
        if !name.starts_with("src/") || sees.iter().any(|part| name.starts_with(part)) {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a readable file");
        if text.contains("cutover_config::") {
            findings.push(name);
        }
    }
    check("parts get their own small settings", findings);
}

#[test]
fn packages_point_down() {
    for (package, banned) in [
        ("model", vec!["tokio", "hyper", "cutover-", "jiff", "rand"]),
        ("proxy", vec!["bollard", "rusqlite", "cutover-config", "tokio-postgres"]),
        ("config", vec!["tokio", "hyper", "cutover-proxy"]),
    ] {
        let manifest = fs::read_to_string(root().join(package).join("Cargo.toml")).expect("it");
        let wanted = manifest.split("[dependencies]").nth(1).expect("dependencies");
        let wanted = wanted.split("[dev-dependencies]").next().unwrap_or(wanted);
        for name in banned {
            let hit = wanted.lines().find(|line| line.starts_with(name));
            assert!(hit.is_none(), "{package} must not depend on {name}: {hit:?}");
        }
    }
}
