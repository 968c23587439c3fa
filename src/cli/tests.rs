//! Help that teaches, words that parse, exit codes that never change.

use clap::CommandFactory as _;
use insta::assert_snapshot;

use super::*;

#[test]
fn the_command_line_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn help() {
    assert_snapshot!(Cli::command().term_width(100).render_help());
}

#[test]
fn help_of_every_command() {
    let mut command = Cli::command().term_width(100);
    command.build();
    let all = command.get_subcommands_mut().filter(|command| command.get_name() != "help");
    let texts: Vec<String> = all.map(|command| command.render_help().to_string()).collect();
    assert_snapshot!(texts.join("\n----\n"));
}

#[test]
fn the_groups_of_the_help_name_every_command_and_no_other() {
    let command = Cli::command();
    let mut known: Vec<&str> = command.get_subcommands().map(|c| c.get_name()).collect();
    let rows = GROUPS.lines().filter_map(|line| line.strip_prefix("  "));
    let mut named: Vec<&str> = rows.filter_map(|line| line.split_whitespace().next()).collect();
    known.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, known);
}

#[test]
fn every_command_has_an_example_or_a_word_more() {
    for command in Cli::command().get_subcommands() {
        assert!(command.get_after_help().is_some(), "{}", command.get_name());
    }
}

#[test]
fn wrong_words_are_refused() {
    for words in [
        "shift 101%",
        "shift ten",
        "rollback --to 5",
        "undo 40",
        "deploy --at-once --no-traffic",
        "deploy --image backend",
        "deploy --dirty --ref v1",
        "status --watch --check",
        "note o40",
        "teleport",
    ] {
        let words = std::iter::once("cutover").chain(words.split(' '));
        assert!(Cli::try_parse_from(words.clone()).is_err(), "{:?}", words.collect::<Vec<_>>());
    }
}

#[test]
fn exit_codes_are_what_scripts_rely_on() {
    let codes = Exit::ALL.map(Exit::code);
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 69, 77, 78]);
    for exit in Exit::ALL {
        assert_eq!(Exit::from_code(exit.code()), exit);
    }
    assert_eq!(Exit::from_code(200), Exit::Failed);
}
