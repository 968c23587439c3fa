//! The five checks after an incident: made now, or taken from what the operation recorded.
//!
//! INVARIANT: a check that was not made is not known; it never passes by itself.

use std::sync::Arc;
use std::time::Duration;

use cutover_model::{Fact, Happened};

use super::super::Desk;
use crate::controller::{App, Checked, now};
use crate::report::{Check, Item, Outcome, Report};
use crate::text;

/// How much slower than usual is still good.
const TIMES: u64 = 2;

/// All of them, in their order.
pub(super) async fn all(
    desk: &Desk,
    app: &App,
    report: &Report,
    facts: &[Arc<Happened>],
) -> Vec<Check> {
    let (serves, of) = (app.state().serving(), report.to.as_ref().map(|to| to.release));
    if let Some((serves, of)) = serves.zip(of).filter(|(serves, of)| serves != of) {
        // What would be asked now says nothing about what served after it.
        let why = format!("not asked: {serves} serves now, and this is about {of}");
        let items = [Item::Health, Item::Core, Item::Data, Item::Speed, Item::Access];
        return items.map(|item| not_known(item, &why)).into();
    }
    let asked = async { tokio::join!(health(app), core(app), data(app, report, facts)) };
    let ((health, core, data), access) = tokio::join!(asked, access(desk, app));
    vec![health, core, data, speed(desk, app), access]
}

fn not_known(item: Item, why: &str) -> Check {
    Check { item, outcome: Outcome::NotKnown, text: why.to_owned(), at: None }
}

fn made(item: Item, passed: Result<String, String>) -> Check {
    let (outcome, text) = match passed {
        Ok(text) => (Outcome::Pass, text),
        Err(text) => (Outcome::Fail, text),
    };
    Check { item, outcome, text, at: Some(now().0) }
}

fn took(what: &str, took: Duration) -> String {
    format!("{what}, {}", text::duration(took))
}

async fn health(app: &App) -> Check {
    let asked = app.check_health().await;
    made(Item::Health, asked.map(|(path, time)| took(&format!("{path} answers"), time)))
}

async fn access(desk: &Desk, app: &App) -> Check {
    let ports = app.settings().ports.clone();
    let listen = desk.listen.iter().find(|listen| ports.contains(&listen.port()));
    // A port that the system chose is not the one of the file.
    let Some(listen) = listen.or(desk.listen.first()) else {
        return not_known(Item::Access, "the proxy listens nowhere");
    };
    let asked = app.check_access(*listen).await;
    made(Item::Access, asked.map(|(address, time)| took(&format!("by {address}"), time)))
}

async fn core(app: &App) -> Check {
    let color = app.state().split.leading();
    match app.smoke_now(color).await {
        Ok(checked) if checked.is_empty() => {
            not_known(Item::Core, "no smoke probe is configured: [[apps.NAME.smoke]]")
        }
        Ok(checked) => made(Item::Core, passed(&checked, "smoke")),
        Err(why) => not_known(Item::Core, &why),
    }
}

fn passed(checked: &[Checked], what: &str) -> Result<String, String> {
    let wrong: Vec<String> = checked.iter().filter_map(Checked::wrong).collect();
    match wrong.is_empty() {
        true => Ok(format!("{what} {} of {}", checked.len(), checked.len())),
        false => Err(wrong.join("; ")),
    }
}

/// The queries are asked now; a restore exchanges the names only after its candidate was verified.
async fn data(app: &App, report: &Report, facts: &[Arc<Happened>]) -> Check {
    let mut of_it = facts.iter().filter(|happened| match &happened.fact {
        Fact::AsideKept { operation, .. } => *operation == report.operation,
        _ => false,
    });
    // Exchanged back it does not stand.
    let stands = report.data.as_ref().is_some_and(|data| data.at.is_some());
    let swapped = of_it.next().filter(|_| stands);
    match (app.integrity_now().await, swapped) {
        (Err(why), _) => not_known(Item::Data, &why),
        (Ok(checked), _) if !checked.is_empty() => made(Item::Data, passed(&checked, "integrity")),
        (Ok(_), Some(happened)) => Check {
            item: Item::Data,
            outcome: Outcome::Pass,
            text: "the restored data was verified before it was put in place".to_owned(),
            at: Some(happened.at.0),
        },
        (Ok(_), None) => {
            not_known(Item::Data, "no integrity query is configured: [[apps.NAME.integrity]]")
        }
    }
}

fn speed(desk: &Desk, app: &App) -> Check {
    let state = app.state();
    let usage = desk.figures.usage(&app.name, state.split.leading());
    let usual = state.serving().and_then(|serving| desk.figures.usual_p99_us(&app.name, serving));
    let Some(p99) = usage.p99_us else {
        return not_known(Item::Speed, "no request within the last minute");
    };
    let shown = |us: u64| text::duration(Duration::from_micros(us));
    let Some(usual) = usual else {
        let text = format!("p99 below {}; the usual is not known yet", shown(p99));
        return not_known(Item::Speed, &text);
    };
    let text = format!("p99 below {} (usual {})", shown(p99), shown(usual));
    made(Item::Speed, if p99 <= TIMES * usual { Ok(text) } else { Err(text) })
}
