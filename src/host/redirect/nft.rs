//! Sets, sees and removes our nftables table.
//!
//! Touches `inet cutover` (and the short-lived table of the check) and nothing else; the accepts in
//! other people's tables are in `firewall`. Every function may run twice.

use std::time::Duration;

use serde_json::Value;

use super::ruleset::KEEPING;
use super::tool;
use super::{RedirectError, Ruleset};

/// What the kernel holds under our name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// No such table.
    Absent,
    /// Exactly this ruleset.
    Ours,
    /// A table of that name with something else in it, in words.
    Differs(String),
}

/// Whether a rule like this one may be set here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// Yes: the kernel accepted it in a dry run.
    Granted,
    /// No, with the reason for the operator.
    Denied(String),
}

/// Asks the kernel in a dry run; changes nothing.
pub async fn is_permitted(ruleset: &Ruleset) -> Permission {
    let answer = match tool::run("nft", &["-c", "-f", "-"], &ruleset.text()).await {
        Ok(answer) => answer,
        Err(error) => return Permission::Denied(error.to_string()),
    };
    if answer.good {
        Permission::Granted
    } else {
        Permission::Denied(format!("the kernel refuses it: {}", answer.failure()))
    }
}

/// Replaces the table in one transaction.
///
/// # Errors
/// When `nft` refuses; then nothing was changed.
pub async fn apply(ruleset: &Ruleset) -> Result<(), RedirectError> {
    tool::run("nft", &["-f", "-"], &ruleset.text()).await?.success().map(drop)
}

/// Compares the kernel's table with the ruleset.
///
/// # Errors
/// When `nft` cannot be asked.
pub async fn observe(ruleset: &Ruleset) -> Result<Observed, RedirectError> {
    let answer = tool::run("nft", &["-j", "list", "table", "inet", ruleset.table()], "").await?;
    if !answer.good {
        return if is_absent(&answer.talk) { Ok(Observed::Absent) } else { Err(answer.failure()) };
    }
    let comments = rule_comments(&answer.text)?;
    let ours = comments.iter().filter(|comment| **comment == ruleset.comment()).count();
    Ok(if ours == ruleset.rules() && comments.len() == ours {
        Observed::Ours
    } else {
        Observed::Differs(format!(
            "the table had {} rules, {ours} of them ours; {} were expected",
            comments.len(),
            ruleset.rules()
        ))
    })
}

/// How long a packet that was kept from a destination NAT may take to the rule that leads it:
/// between the two lies the host's own loopback, whose packets wait while its cores are busy.
const IN_BETWEEN: Duration = Duration::from_millis(200);

/// Removes the table; one that is not there is fine.
///
/// First what keeps connections from a destination NAT, then, when nobody is between the two, what
/// leads them. In one step, a connection that was kept and not yet led would find nobody there.
///
/// # Errors
/// When `nft` refuses; called again, it goes on.
pub async fn remove(table: &str) -> Result<(), RedirectError> {
    let mut kept = false;
    for chain in KEEPING {
        let answer = tool::run("nft", &["flush", "chain", "inet", table, chain], "").await?;
        if !answer.good && !is_absent(&answer.talk) {
            return Err(answer.failure());
        }
        kept |= answer.good;
    }
    if kept {
        tokio::time::sleep(IN_BETWEEN).await;
    }
    let answer = tool::run("nft", &["delete", "table", "inet", table], "").await?;
    if answer.good || is_absent(&answer.talk) { Ok(()) } else { Err(answer.failure()) }
}

fn is_absent(talk: &str) -> bool {
    talk.contains("No such file or directory")
}

/// The comments of all rules in `nft -j` output; a rule without one gives an empty text.
fn rule_comments(text: &str) -> Result<Vec<String>, RedirectError> {
    Ok(objects(text)?
        .iter()
        .filter_map(|object| object.get("rule"))
        .map(|rule| rule.get("comment").and_then(Value::as_str).unwrap_or_default().to_owned())
        .collect())
}

/// The objects of an `nft -j` answer.
pub(super) fn objects(text: &str) -> Result<Vec<Value>, RedirectError> {
    let refused = |message: String| RedirectError::Failed { program: "nft -j".into(), message };
    let mut value: Value = serde_json::from_str(text)
        .map_err(|error| refused(format!("its answer is not JSON: {error}")))?;
    match value.get_mut("nftables").map(Value::take) {
        Some(Value::Array(objects)) => Ok(objects),
        _ => Err(refused("its answer has no list \"nftables\"".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_are_counted_and_a_foreign_one_shows() {
        let text = r#"{"nftables":[{"metainfo":{}},{"table":{"name":"cutover"}},
            {"rule":{"comment":"cutover a1"}},{"rule":{"expr":[]}}]}"#;
        assert_eq!(rule_comments(text).unwrap(), ["cutover a1", ""]);
        assert!(rule_comments("{}").is_err());
        assert!(rule_comments("no json").is_err());
    }
}
