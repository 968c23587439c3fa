//! The story that the demo tells: its acts, what is typed, and the words around it.
//!
//! Values and texts only; nothing is done here.

use std::net::SocketAddr;
use std::time::Duration;

use cutover_model::Weight;

use super::Pace;
use super::stage::Stage;
use super::tally::Summary;
use crate::text;

/// What an act begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Nothing: look at what runs.
    Nothing,
    /// The canary's weight changes.
    Shift(Weight),
    /// The canary starts to fail.
    Break,
    /// Traffic goes back.
    Rollback,
}

/// One act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    /// What happens, in a sentence.
    pub says: &'static str,
    /// What an operator types for it.
    pub command: Option<&'static str>,
    /// What is done.
    pub doing: Doing,
    /// How long it is watched.
    pub length: Duration,
}

/// The acts in their order.
#[must_use]
pub fn acts(pace: Pace) -> Vec<Act> {
    let weight = |percent: u16| Weight::from_basis_points(percent * 100).unwrap_or_default();
    let act = |says, command, doing, seconds: u64| Act {
        says,
        command,
        doing,
        length: match pace {
            Pace::Watch => Duration::from_secs(seconds),
            Pace::Fast => Duration::from_millis(seconds * 190),
        },
    };
    vec![
        act(
            "r1 serves everyone. r2 runs beside it, warm, without a user.",
            None,
            Doing::Nothing,
            6,
        ),
        act(
            "One client in a hundred gets r2, and keeps it: a signed cookie says so.",
            Some("cutover shift 1%"),
            Doing::Shift(weight(1)),
            8,
        ),
        act(
            "Those who had r2 still have it; more join them. Nobody goes back and forth.",
            Some("cutover shift 10%"),
            Doing::Shift(weight(10)),
            8,
        ),
        act(
            "Half of the clients. No request failed on the way, none was cut.",
            Some("cutover shift 50%"),
            Doing::Shift(weight(50)),
            8,
        ),
        act("r2 breaks: every third of its answers is an error now.", None, Doing::Break, 6),
        act(
            "One command: every new request goes to r1. What was open was answered.",
            Some("cutover rollback"),
            Doing::Rollback,
            9,
        ),
    ]
}

/// What stands above the picture.
#[must_use]
pub fn opening(public: SocketAddr) -> Vec<String> {
    vec![
        "Two copies of a small web shop run on this machine: r1 in blue, r2 in green.".into(),
        format!("In front of them is Cutover, on http://{public}, and clients that never stop."),
        "Everything is real but the shop. Ctrl-C ends it at any time.".into(),
        String::new(),
    ]
}

/// What was seen, for somebody who met these words a minute ago.
#[must_use]
pub fn closing(summary: &Summary) -> Vec<String> {
    let [r1, r2] = [&summary.blue, &summary.green];
    let count = text::count;
    let mut lines = vec![
        String::new(),
        "What you saw".into(),
        format!("  r1 blue     {:>7} answers, {} failed", count(r1.all()), count(r1.failed)),
        format!(
            "  r2 green    {:>7} answers, {} failed, all of them after it broke",
            count(r2.all()),
            count(r2.failed)
        ),
    ];
    if summary.failed_before_break > 0 {
        let before = count(summary.failed_before_break);
        lines.truncate(3);
        let all = (count(r2.all()), count(r2.failed));
        lines.push(format!(
            "  r2 green    {:>7} answers, {} failed, {before} of them before it was broken",
            all.0, all.1
        ));
    }
    let seen: Vec<String> =
        summary.cohorts.iter().map(|(weight, clients)| format!("{clients} at {weight}")).collect();
    lines.push(format!(
        "  clients     {} in all; on r2 {}; {} changed sides without being told to",
        count(summary.clients),
        seen.join(", "),
        count(summary.strayed)
    ));
    if let Some(cut_back) = summary.cut_back {
        lines.push(format!(
            "  cut-back    {} inside Cutover, {} from the command to its answer",
            text::duration(cut_back.inside),
            text::duration(cut_back.answered)
        ));
    }
    lines.push(format!(
        "  afterwards  {} answers from r1; {} asked after the cut-back reached r2",
        count(summary.after_cut_back),
        count(summary.late)
    ));
    lines.push(format!(
        "  Cutover     {} requests failed because of it",
        if summary.lost == 0 { "no".to_owned() } else { count(summary.lost) }
    ));
    lines.push(String::new());
    lines.push("Next: go to your compose file, then: cutover init".into());
    lines
}

/// What can be tried while it keeps running.
#[must_use]
pub fn things_to_try(stage: &Stage) -> Vec<String> {
    let (public, socket) = (stage.public(), stage.socket().display());
    vec![
        String::new(),
        "It keeps running until Ctrl-C; the clients go on asking. In another terminal:".into(),
        format!("  curl -i http://{public}/                               an answer of r1"),
        format!("  curl -i -H 'X-Cutover-Color: green' http://{public}/   r2, before users see it"),
        format!("  curl -X POST http://{}/heal           r2 works again", stage.green()),
        format!("  export CUTOVER_SOCKET={socket}"),
        "  cutover status".into(),
        "  cutover shift 25%".into(),
        format!("  curl -X POST http://{}/break          r2 fails again", stage.green()),
        "  cutover rollback".into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::ask::Moved;
    use super::super::tally::Side;
    use super::*;

    fn summary() -> Summary {
        Summary {
            blue: Side { good: 9_214, failed: 0 },
            green: Side { good: 2_113, failed: 187 },
            clients: 600,
            cohorts: vec![
                (Weight::from_basis_points(100).unwrap(), 5),
                (Weight::from_basis_points(5_000).unwrap(), 298),
            ],
            strayed: 0,
            lost: 0,
            late: 0,
            failed_before_break: 0,
            after_cut_back: 2_160,
            cut_back: Some(Moved {
                inside: Duration::from_micros(640),
                answered: Duration::from_micros(3_100),
            }),
        }
    }

    #[test]
    fn the_closing_is_for_newcomers() {
        insta::assert_snapshot!("closing", closing(&summary()).join("\n"));
    }

    #[test]
    fn the_closing_tells_what_went_wrong_too() {
        let bad = Summary { lost: 3, late: 1, failed_before_break: 2, ..summary() };
        insta::assert_snapshot!("closing_bad", closing(&bad).join("\n"));
    }

    #[test]
    fn it_takes_less_than_a_minute_and_a_fast_one_ten_seconds() {
        let length = |pace| acts(pace).iter().map(|act| act.length).sum::<Duration>();
        assert!((40..=60).contains(&length(Pace::Watch).as_secs()));
        assert!(length(Pace::Fast) <= Duration::from_secs(10));
    }
}
