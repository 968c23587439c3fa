//! The table of all commands in docs/commands.md is what the program says of itself.

use std::collections::BTreeMap;
use std::fs;

use crate::daemon::Cutover;
use crate::tidy::root;

/// The commands of `cutover --help`, each with what it does; their lines stand two blanks in.
fn told(help: &str) -> BTreeMap<String, String> {
    let groups = help.lines().skip_while(|line| *line != "Begin");
    let groups = groups.take_while(|line| !line.starts_with("Something is wrong"));
    let rows = groups.filter_map(|line| line.strip_prefix("  ")?.split_once("  "));
    rows.map(|(name, what)| (name.to_owned(), what.trim().to_owned())).collect()
}

#[test]
fn the_table_of_commands_says_what_the_help_says_and_exit_codes_that_exist() {
    let cutover = Cutover::start(None);
    let told = told(&cutover.good(&["--help"]));
    assert!(told.len() > 25, "{told:?}");
    let page = fs::read_to_string(root().join("docs/commands.md")).unwrap();
    let table = page.split("\n## ").find(|part| part.starts_with("All commands")).unwrap();
    let mut written = BTreeMap::new();
    for row in table.lines().filter_map(|line| line.strip_prefix("| `")) {
        let [name, what, codes] =
            row.trim_end_matches(" |").splitn(3, " | ").collect::<Vec<_>>().try_into().unwrap();
        for code in codes.split(", ").filter(|code| *code != "-") {
            assert!(page.contains(&format!("\n| {code} | ")), "{name}: {code} is no exit code");
        }
        written.insert(name.trim_end_matches('`').to_owned(), what.to_owned());
    }
    assert_eq!(written, told);
    for name in told.keys() {
        assert!(cutover.good(&["help", name]).contains("Usage: cutover"), "{name}");
    }
}
