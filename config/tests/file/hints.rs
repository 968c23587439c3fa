//! What a hint tells to write is TOML: for every key of the schema, with every wrong kind of value.

use std::collections::BTreeSet;

use cutover_config::Problems;
use serde_json::{Map, Value, json};

use super::{compose, parse, places};

/// Every hint that is given about a text.
fn hints(text: &str) -> Vec<String> {
    let problems = match parse(text, &[]) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    let Problems { problems, .. } = problems;
    problems.into_iter().filter_map(|problem| problem.hint).collect()
}

/// Follows references, and takes the first of several forms.
fn resolved<'s>(schema: &'s Value, mut of: &'s Value) -> &'s Value {
    while let Some(name) = of["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
        of = &schema["$defs"][name];
    }
    of
}

/// Wraps a value in what leads to it.
type Wrap<'w> = &'w dyn Fn(Value) -> Value;

/// The file with each key below `of` having each wrong value, one at a time.
fn walk(schema: &Value, of: &Value, wrap: Wrap<'_>, files: &mut Vec<Value>) {
    let of = resolved(schema, of);
    for bad in
        [json!(42), json!("odd text"), json!(true), json!([7]), json!(["odd"]), json!({"x": 1})]
    {
        files.push(wrap(bad));
    }
    files.push(wrap(json!([])));
    files.push(wrap(json!({})));
    files.push(wrap(json!("")));
    for (key, inner) in of["properties"].as_object().into_iter().flatten() {
        let under = |value: Value| wrap(Value::Object(Map::from_iter([(key.clone(), value)])));
        walk(schema, inner, &under, files);
    }
    if of["additionalProperties"].is_object() {
        let under = |value: Value| wrap(json!({ "shop": value }));
        walk(schema, &of["additionalProperties"], &under, files);
    }
    let items = resolved(schema, &of["items"]);
    if items["properties"].is_object() {
        walk(schema, items, &|value: Value| wrap(json!([value])), files);
    }
}

fn is_toml(text: &str) -> bool {
    toml::from_str::<toml::Table>(text).is_ok()
}

/// The bracketed text that begins here, whole.
fn bracketed(text: &str) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..=at];
        }
    }
    text
}

/// What of a hint looks like something to write and is no TOML.
fn wrong_pieces(hint: &str) -> Vec<String> {
    // Between back quotes stand names and commands.
    let plain: String = hint.split('`').step_by(2).collect();
    let mut wrong = Vec::new();
    let begins = |at: usize| at == 0 || plain[..at].ends_with([' ', '(']);
    let ends_before = |at: usize| !plain[..at].trim_end().ends_with('=');
    for (at, _) in plain.match_indices('[').filter(|(at, _)| begins(*at) && ends_before(*at)) {
        let piece = bracketed(&plain[at..]);
        if !is_toml(piece) && !is_toml(&format!("x = {piece}")) {
            wrong.push(piece.to_owned());
        }
    }
    for (at, _) in plain.match_indices(" = ") {
        let key = plain[..at].rsplit([' ', '{', '(']).next().unwrap_or_default();
        let value = &plain[at + 3..];
        let ends = (1..=value.len()).rev().filter(|end| value.is_char_boundary(*end));
        if !ends.map(|end| format!("{key} = {}", &value[..end])).any(|piece| is_toml(&piece)) {
            wrong.push(format!("{key} = {value}"));
        }
    }
    wrong
}

#[test]
fn every_hint_that_says_what_to_write_says_it_in_toml() {
    let schema = cutover_config::schema();
    let mut files = Vec::new();
    walk(&schema, &schema, &|value| value, &mut files);
    let texts = files.iter().filter_map(|file| toml::to_string(file).ok());
    let mut all: BTreeSet<String> = texts.flat_map(|text| hints(&text)).collect();
    for text in [
        include_str!("../files/six_mistakes.toml"),
        include_str!("../files/not_yet.toml"),
        include_str!("../files/design.toml"),
        "shop\n",
        "",
    ] {
        all.extend(hints(text));
    }
    assert!(all.len() > 60, "few hints were given: {all:#?}");
    let wrong: Vec<_> = all
        .iter()
        .flat_map(|hint| wrong_pieces(hint).into_iter().map(move |p| (p, hint)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_piece_that_is_no_toml_is_found() {
    for bad in [
        "write [apps.shop.rollout.steps[0]] on a line of its own",
        "write keep = daily 7",
        "write it like [\"one\" \"two\"]",
    ] {
        assert_eq!(wrong_pieces(bad).len(), 1, "{bad}");
    }
    for good in ["write [[listen]] on a line", "add port = 3000 to it", "write [200, 204], or 2"] {
        assert_eq!(wrong_pieces(good), [""; 0], "{good}");
    }
}

#[test]
fn steps_that_are_no_sections_are_told_how_to_be_written_and_that_is_accepted() {
    let rollout =
        |steps: &str| compose(&format!("{}\n[apps.shop.rollout]\nsteps = {steps}", super::ROUTE));
    for bad in ["\"10%\"", "[\"1%\", \"5%\"]", "[10]", "10"] {
        let said: BTreeSet<String> = hints(&rollout(bad)).into_iter().collect();
        let hint = said.iter().find(|hint| hint.contains("weight")).expect(bad);
        let written = bracketed(&hint[hint.find('[').expect("a list")..]);
        assert!(parse(&rollout(written), &[]).is_ok(), "{bad}: {hint}");
        assert!(!places(&rollout(bad)).is_empty());
    }
    let routes = compose("routes = \"backend\"");
    let said = hints(&routes).join("\n");
    assert!(said.contains("[[apps.shop.routes]] on a line of its own"), "{said}");
}
