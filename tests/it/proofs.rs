//! The tables of docs/faults.md and docs/proofs.md name tests that exist, so that they cannot rot.
//!
//! A name is `BINARY path::to::test` or without the binary, in backticks. `path::*` is all tests of
//! a module, `path::begin_…` those whose name begins so, `…::name` and a name alone stand for any
//! module.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::tidy::{root, rust_files, shown};

/// One test, as `cargo nextest` lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    /// `cutover::it`; the library's own tests have the package's name.
    binary: String,
    /// `module::name`.
    path: String,
}

/// The binary and the modules that a file's place gives its tests.
fn place_of(name: &str) -> Option<(String, Vec<&str>)> {
    let (package, inside) = ["model", "proxy", "config"]
        .iter()
        .find_map(|part| Some((format!("cutover-{part}"), name.strip_prefix(&format!("{part}/"))?)))
        .unwrap_or_else(|| ("cutover".to_owned(), name));
    let inside = inside.strip_suffix(".rs")?;
    let (folder, rest) = inside.split_once('/')?;
    let mut modules: Vec<&str> = rest.split('/').collect();
    let binary = match folder {
        "src" => package,
        "tests" => format!("{package}::{}", modules.remove(0)),
        _ => return None,
    };
    modules.retain(|module| !["main", "lib"].contains(module));
    Some((binary, modules))
}

fn name_of_function(line: &str) -> Option<String> {
    let after = line.trim_start().split_once("fn ")?.1;
    Some(after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

/// All tests of one file. The tree is formatted: a module inside of a file begins and ends at the
/// first column.
fn tests_in(name: &str, text: &str) -> Vec<Test> {
    let Some((binary, modules)) = place_of(name) else { return Vec::new() };
    let (mut found, mut inner, mut is_next) = (Vec::new(), None, false);
    for line in text.lines() {
        if let Some(module) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
            inner = Some(module);
        } else if line == "}" {
            inner = None;
        }
        let word = line.trim_start();
        is_next |= word.starts_with("#[test]") || word.starts_with("#[tokio::test");
        if is_next && let Some(function) = name_of_function(line) {
            let path: Vec<&str> =
                modules.iter().copied().chain(inner).chain([function.as_str()]).collect();
            found.push(Test { binary: binary.clone(), path: path.join("::") });
            is_next = false;
        }
    }
    found
}

fn all_tests() -> BTreeSet<Test> {
    let read = |path: &std::path::PathBuf| fs::read_to_string(path).unwrap();
    rust_files().iter().flat_map(|path| tests_in(&shown(path), &read(path))).collect()
}

/// What stands in backticks and names tests: a path, or a name of at least four words.
fn names_in(page: &str) -> Vec<&str> {
    let spans = page.split('`').skip(1).step_by(2);
    let is_name = |span: &&str| {
        let last = span.split(' ').next_back().unwrap_or_default();
        let is_plain =
            last.chars().all(|c| c.is_ascii_alphanumeric() || ['_', ':', '*', '…'].contains(&c));
        is_plain && (last.contains("::") || last.matches('_').count() >= 3)
    };
    spans.filter(is_name).collect()
}

fn is_binary(wanted: &str, binary: &str) -> bool {
    let wanted = if wanted == "lib" { "cutover" } else { wanted };
    let is_part = binary.split("::").next() == Some(wanted) && wanted != "cutover";
    binary == wanted || is_part || binary.strip_prefix("cutover::") == Some(wanted)
}

/// Whether a name on a page means this test; the name of a module means all of it.
fn means(name: &str, test: &Test) -> bool {
    let (binary, path) = name.split_once(' ').map_or((None, name), |(b, path)| (Some(b), path));
    if binary.is_some_and(|wanted| !is_binary(wanted, &test.binary)) {
        return false;
    }
    let full = format!("::{}", test.path);
    let path = path.trim_start_matches("…").trim_start_matches("::");
    let path = path.strip_suffix("::").unwrap_or(path);
    match path.strip_suffix('*').or_else(|| path.strip_suffix('…')) {
        Some(begin) => full.contains(&format!("::{begin}")),
        None => full.ends_with(&format!("::{path}")) || full.contains(&format!("::{path}::")),
    }
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(Path::new("docs")).join(name)).unwrap()
}

fn check_names(page_name: &str, at_least: usize) {
    let (tests, text) = (all_tests(), page(page_name));
    let names = names_in(&text);
    assert!(names.len() >= at_least, "only {} names were found: {names:?}", names.len());
    let unknown: Vec<_> =
        names.into_iter().filter(|name| !tests.iter().any(|test| means(name, test))).collect();
    assert!(unknown.is_empty(), "docs/{page_name} names tests that do not exist: {unknown:#?}");
}

#[test]
fn every_test_that_the_pages_name_exists() {
    check_names("faults.md", 80);
    check_names("proofs.md", 70);
}

#[test]
fn every_fault_has_one_row_that_names_a_test_or_says_why_not() {
    let text = page("faults.md");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .filter(|cells: &Vec<&str>| cells[0].parse::<u32>().is_ok())
        .collect();
    let numbers: Vec<u32> = rows.iter().filter_map(|cells| cells[0].parse().ok()).collect();
    assert_eq!(numbers, (1..=59).collect::<Vec<_>>());
    for cells in rows {
        let [number, fault, _, shown] = cells[..] else { panic!("four columns: {cells:?}") };
        assert!(!fault.is_empty(), "{number}");
        let said = shown.to_lowercase();
        let says_why = ["not injected", "not yet"].iter().any(|words| said.contains(words));
        assert!(says_why || !names_in(shown).is_empty(), "{number}: {shown}");
    }
}

#[test]
fn names_are_read_as_they_are_meant() {
    let tests = all_tests();
    let count = |name: &str| tests.iter().filter(|test| means(name, test)).count();
    let own = "proofs::names_are_read_as_they_are_meant";
    for (name, wanted) in [
        (own.to_owned(), 1),
        (format!("it {own}"), 1),
        (format!("cutover::it {own}"), 1),
        (format!("e2e {own}"), 0),
        (format!("lib {own}"), 0),
        ("…::names_are_read_as_they_are_meant".to_owned(), 1),
        ("proofs::names_are_read_…".to_owned(), 1),
        ("proofs::*".to_owned(), 3),
        ("lib journal::worker::tests::a_full_queue_answers_at_once".to_owned(), 1),
        (
            "cutover-proxy worker::tests::a_worker_that_falls_begins_again_on_its_own_sockets"
                .into(),
            1,
        ),
        ("cutover-config::file on_disk::odd_files_are_refused".to_owned(), 1),
        ("it proofs::a_test_that_nobody_wrote".to_owned(), 0),
        ("full_queue_answers_at_once".to_owned(), 0),
    ] {
        assert_eq!(count(&name), wanted, "{name}");
    }
    assert!(tests.len() > 500, "{}", tests.len());
}
