//! The plan of a restore, as a person reads it before they accept a loss; what is kept.

use std::time::Duration;

use cutover_model::ReleaseId;
use cutover_model::restore::{Certainty, Loss};

use super::Clock;
use crate::api::wire::{DatabaseLine, Databases, RestorePlanned, Rows, WayBack};
use crate::text;

/// Tables that are listed one by one; the rest is one line.
const TABLES: usize = 12;

/// The plan: ways back, what is lost, what is kept, what is done. `goes_first`: the release that
/// gets the traffic before it, where that was shown already.
pub(in crate::cli) fn restore_plan(
    plan: &RestorePlanned,
    goes_first: Option<ReleaseId>,
    clock: &Clock,
) -> String {
    let mut whole = String::new();
    let first = match plan.serves {
        _ if goes_first.is_some_and(|to| plan.serves != Some(to)) => {
            "Then, once it has all traffic, the data is put back.".to_owned()
        }
        Some(serves) if serves == plan.to => {
            format!("{serves} has all traffic already. This puts the data back, too.")
        }
        Some(serves) => {
            format!("{serves} has all traffic; {} gets it with the old data, in one step.", plan.to)
        }
        None => "No release serves. This puts the data back.".to_owned(),
    };
    line(&mut whole, &format!("{first} Nothing has happened yet.\n"));
    ways(&mut whole, plan);
    losses(&mut whole, plan, clock);
    let dump = if plan.is_way_back { "" } else { "; a dump" };
    let size = plan.bytes.map_or(String::new(), |bytes| format!(", {}", text::size(bytes)));
    let name = match goes_first {
        // The number in the name is that of an operation, and another one goes first.
        Some(_) => " beside the restored one".to_owned(),
        None => format!(" as {}", plan.aside),
    };
    line(&mut whole, &format!("Kept: today's database{name}{size}{dump}."));
    line(
        &mut whole,
        "Outside the database and NOT undone: mails sent, payments taken, files in volumes.\n",
    );
    steps(&mut whole, plan, goes_first);
    whole.trim_end().to_owned()
}

fn line(whole: &mut String, text: &str) {
    whole.push_str(text);
    whole.push('\n');
}

fn ways(whole: &mut String, plan: &RestorePlanned) {
    let width = plan.ways.iter().map(|way| way.what.chars().count()).max().unwrap_or(0).max(20);
    let head =
        format!("   {:<width$}  {:<16}  {:<13}  takes", "way back", "rows lost", "requests wait");
    line(whole, &head);
    for (index, way) in plan.ways.iter().enumerate() {
        let mark = if index == plan.chosen { " > " } else { "   " };
        let what = &way.what;
        let rest = match &way.rows {
            Rows::Impossible(why) => format!("impossible: {why}"),
            rows => format!("{:<16}  {:<13}  {}", lost(rows), waits(way), takes(way)),
        };
        line(whole, format!("{mark}{what:<width$}  {rest}").trim_end());
    }
    whole.push('\n');
}

fn lost(rows: &Rows) -> String {
    match rows {
        Rows::Exact(0) => "nothing".to_owned(),
        Rows::Exact(rows) => format!("{}, exact", text::count(*rows)),
        Rows::AtMost(rows) => format!("{} at most", text::count(*rows)),
        Rows::NotCounted => "not counted".to_owned(),
        Rows::Impossible(_) => String::new(),
    }
}

fn about(millis: Option<u64>) -> String {
    let known = |millis| format!("about {}", text::duration(Duration::from_millis(millis)));
    millis.map_or("not measured".to_owned(), known)
}

fn waits(way: &WayBack) -> String {
    about(way.waits_ms)
}

fn takes(way: &WayBack) -> String {
    way.takes_ms
        .map_or("not measured".to_owned(), |millis| text::duration(Duration::from_millis(millis)))
}

fn losses(whole: &mut String, plan: &RestorePlanned, clock: &Clock) {
    let since = clock.full(plan.lost_since);
    let Some(loss) = &plan.loss else {
        let text = format!(
            "Lost with \">\": all that was written since {since}. Not counted: it is counted \
             before the exchange.\n"
        );
        return line(whole, &text);
    };
    if loss.tables.is_empty() {
        let text = format!("Lost with \">\": nothing was written since {since}.\n");
        return line(whole, &text);
    }
    line(whole, &format!("Lost with \">\": all that was written since {since}"));
    let tables = &loss.tables;
    let width = tables.iter().take(TABLES).map(|t| t.table.chars().count()).max().unwrap_or(0);
    let width = width.max("all other tables".len());
    let row = |name: &str, counts: (u64, u64, u64)| {
        let (new, changed, deleted) = (cell(counts.0), cell(counts.1), cell(counts.2));
        format!("   {name:<width$}  {new:>9}  {changed:>9}  {deleted:>9}")
    };
    line(
        whole,
        &format!("   {:<width$}  {:>9}  {:>9}  {:>9}", "table", "new", "changed", "deleted"),
    );
    for table in tables.iter().take(TABLES) {
        line(whole, &row(&table.table, (table.new, table.changed, table.deleted)));
    }
    if tables.len() > TABLES {
        let rest = Loss { tables: tables[TABLES..].to_vec(), certainty: loss.certainty };
        line(whole, &row("all other tables", rest.sums()));
    }
    for table in tables.iter().filter(|table| !table.columns.is_empty()) {
        let columns = table.columns.join(", ");
        line(whole, &format!("   {} loses its column {columns} in every row", table.table));
    }
    let mut total = row("total", loss.sums());
    let rows = text::count(loss.rows());
    total.push_str(&match loss.certainty {
        Certainty::Exact => format!("     = {rows}"),
        Certainty::AtMost => format!("     = {rows} at most"),
    });
    if let Some(growing) = plan.growing.filter(|growing| *growing >= 0.5) {
        total.push_str(&format!(", growing by about {growing:.0} a minute"));
    }
    line(whole, &total);
}

fn cell(number: u64) -> String {
    if number == 0 { "-".to_owned() } else { text::count(number) }
}

fn steps(whole: &mut String, plan: &RestorePlanned, goes_first: Option<ReleaseId>) {
    let hold = text::duration(Duration::from_millis(plan.max_hold_ms));
    let stopped = plan.from.map_or(String::new(), |from| format!("{from} stopped; "));
    let serves = goes_first.unwrap_or(plan.to);
    let first = match plan.is_way_back {
        true => 1,
        false => {
            line(
                whole,
                "   1  dump today's data                              the site keeps serving",
            );
            line(
                whole,
                "   2  make the copy, check it                        the site keeps serving",
            );
            3
        }
    };
    let exchange = format!(
        "   {first}  {stopped}requests wait, names exchanged: given up after {hold} with nothing \
         changed"
    );
    line(whole, &exchange);
    let last = first + 1;
    line(whole, &format!("   {last}  check {serves} on the old data, let requests go"));
    let kept = goes_first.map_or(plan.aside.as_str(), |_| "today's database");
    line(whole, &format!("As long as {kept} is kept all of it can be undone."));
}

/// What is asked when the plan was shown.
pub(in crate::cli) fn loss_question(plan: &RestorePlanned) -> String {
    let now = plan
        .loss
        .as_ref()
        .map_or("not counted yet".to_owned(), |loss| format!("{} now", loss.rows()));
    format!("How many rows may be lost at most? A number ({now}), or Enter to stop here:")
}

/// The databases of an app.
pub(in crate::cli) fn databases(databases: &Databases, clock: &Clock) -> String {
    let mut whole = String::new();
    let width = databases.databases.iter().map(|d| d.name.chars().count()).max().unwrap_or(0);
    for database in &databases.databases {
        line(&mut whole, database_line(database, width, clock).trim_end());
    }
    whole.trim_end().to_owned()
}

fn database_line(database: &DatabaseLine, width: usize, clock: &Clock) -> String {
    let since = database.since.map_or(String::new(), |at| clock.day(at));
    let size = database.bytes.map_or(String::new(), text::size);
    let by = database.operation.map_or(String::new(), |operation| operation.to_string());
    let rows = database
        .rows
        .map_or(String::new(), |rows| format!("{} rows that live has not", text::count(rows)));
    let (name, what) = (&database.name, &database.what);
    format!("{name:<width$}  {what:<13}  {since:<13}  {size:>8}  {by:<5}  {rows}")
}
