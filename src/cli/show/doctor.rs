//! What `doctor` found, as people read it.

use crate::api::wire::{After, Doctor};

/// A finding a line, with what to type below it.
pub(in crate::cli) fn doctor(found: &Doctor) -> String {
    let mut lines = Vec::new();
    for finding in &found.findings {
        let whose = if finding.ours { "ours" } else { "danger" };
        lines.push(format!("{whose:<8} {}", finding.what));
        match (finding.fixable, finding.command.as_str()) {
            (true, _) => lines.push("           cutover doctor --fix".to_owned()),
            (false, "") => {}
            (false, command) => lines.push(format!("           {command}")),
        }
    }
    lines.extend(found.not_looked.iter().map(|what| format!("not seen {what}")));
    if found.findings.is_empty() {
        lines.push(format!("{}: nothing was found.", found.app));
    }
    lines.join("\n")
}

/// What became of what was to be mended. `found`: as it was before.
pub(in crate::cli) fn mended(found: &Doctor, left: &Doctor) -> String {
    let of = |is: After| {
        let ids = left.mended.iter().filter(move |mended| mended.is == is).map(|m| &m.id);
        ids.map(|id| {
            let was = found.findings.iter().find(|finding| finding.id == *id);
            format!("  {}", was.map_or(id, |finding| &finding.what))
        })
    };
    let mut lines = vec![format!("Mended {} of {}.", of(After::Gone).count(), left.mended.len())];
    for (is, heading) in [
        (After::There, "Still there:"),
        (After::NotKnown, "Not known, for it could not be looked for again:"),
    ] {
        let mut what = of(is).peekable();
        if what.peek().is_some() {
            lines.push(heading.to_owned());
            lines.extend(what);
        }
    }
    if left.goes_on {
        lines.push("The mending goes on; look again in a while: cutover doctor".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::{Finding, Mended};

    #[test]
    fn a_finding_says_whose_it_is_and_what_to_type() {
        let finding = |what: &str, ours, command: &str, fixable| Finding {
            id: what.to_owned(),
            what: what.to_owned(),
            ours,
            command: command.to_owned(),
            fixable,
        };
        let mut found = Doctor {
            schema: "cutover.doctor/1".to_owned(),
            app: "shop".parse().unwrap(),
            findings: vec![
                finding("this host is full: disk 93 %", false, "docker system df", false),
                finding("files, checkout of r9, which is not on record", true, "", true),
            ],
            not_looked: vec!["containers and image pins: Docker does not answer".to_owned()],
            mended: Vec::new(),
            goes_on: false,
        };
        insta::assert_snapshot!(doctor(&found));
        found.findings.clear();
        found.not_looked.clear();
        assert_eq!(doctor(&found), "shop: nothing was found.");
    }

    #[test]
    fn what_was_not_mended_is_named() {
        let finding = |id: &str| Finding {
            id: id.to_owned(),
            what: format!("what is {id}"),
            ours: true,
            command: String::new(),
            fixable: true,
        };
        let found = Doctor {
            schema: "cutover.doctor/1".to_owned(),
            app: "shop".parse().unwrap(),
            findings: ["a", "b", "c"].map(finding).into(),
            not_looked: Vec::new(),
            mended: Vec::new(),
            goes_on: false,
        };
        let after = |ids: &[(&str, After)], goes_on| Doctor {
            mended: ids.iter().map(|(id, is)| Mended { id: (*id).to_owned(), is: *is }).collect(),
            goes_on,
            ..found.clone()
        };
        let all = after(&[("a", After::Gone), ("b", After::Gone)], false);
        assert_eq!(mended(&found, &all), "Mended 2 of 2.");
        let some = after(&[("a", After::There), ("b", After::Gone), ("c", After::NotKnown)], true);
        assert_eq!(
            mended(&found, &some),
            "Mended 1 of 3.\nStill there:\n  what is a\n\
             Not known, for it could not be looked for again:\n  what is c\n\
             The mending goes on; look again in a while: cutover doctor"
        );
    }
}
