//! What `doctor` found, as people read it.

use crate::api::wire::Doctor;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::Finding;

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
        };
        insta::assert_snapshot!(doctor(&found));
        found.findings.clear();
        found.not_looked.clear();
        assert_eq!(doctor(&found), "shop: nothing was found.");
    }
}
