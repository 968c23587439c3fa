//! `/metrics` in Prometheus' text form, from the data plane's own counters.
//!
//! Series are bounded: app, color, release and class, and nothing that a client sends.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use cutover_model::Color;
use cutover_proxy::message::{Count, LATENCY_BOUNDS_US};

use super::Desk;

/// `GET /metrics`
pub async fn metrics(State(desk): State<Desk>) -> Response {
    let mut text = String::with_capacity(16 * 1024);
    let Some(proxy) = desk.controller.apps().next().map(|app| &app.shared().proxy) else {
        return text.into_response();
    };
    requests(&mut text, &proxy.counts().outcomes);
    head(&mut text, "cutover_weight_basis_points", "gauge", "A color's share of the clients.");
    for app in desk.controller.apps() {
        let state = app.state();
        for color in Color::BOTH {
            let share = state.split.share(color).basis_points();
            let name = &app.name;
            write(
                &mut text,
                format_args!(
                    "cutover_weight_basis_points{{app=\"{name}\",color=\"{color}\"}} {share}\n"
                ),
            );
        }
    }
    head(&mut text, "cutover_facts_waiting", "gauge", "Batches of facts that wait for the disk.");
    for app in desk.controller.apps() {
        let (name, waiting) = (&app.name, app.unrecorded());
        write(&mut text, format_args!("cutover_facts_waiting{{app=\"{name}\"}} {waiting}\n"));
    }
    let name = "cutover_worker_restarts_total";
    head(&mut text, name, "counter", "Workers of the proxy that panicked and began again.");
    write(&mut text, format_args!("{name} {}\n", proxy.counts().worker_restarts));
    head(&mut text, "cutover_table_generation", "gauge", "The routing table in force.");
    let generation = proxy.switch().generation().0;
    write(&mut text, format_args!("cutover_table_generation {generation}\n"));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn requests(text: &mut String, counts: &[Count]) {
    head(text, "cutover_requests_total", "counter", "Upstream attempts by how they ended.");
    for count in counts {
        let labels = labels(count);
        write(text, format_args!("cutover_requests_total{{{labels}}} {}\n", count.requests));
    }
    let name = "cutover_request_duration_seconds";
    head(text, name, "histogram", "From a request's head to the end of the attempt.");
    for count in counts {
        let labels = labels(count);
        for (bound, cumulative) in LATENCY_BOUNDS_US.iter().zip(&count.latency) {
            let (whole, rest) = (bound / 1_000_000, bound % 1_000_000);
            write(
                text,
                format_args!("{name}_bucket{{{labels},le=\"{whole}.{rest:06}\"}} {cumulative}\n"),
            );
        }
        let (all, sum) = (count.requests, count.latency_sum_us);
        write(text, format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {all}\n"));
        let (whole, rest) = (sum / 1_000_000, sum % 1_000_000);
        write(text, format_args!("{name}_sum{{{labels}}} {whole}.{rest:06}\n"));
        write(text, format_args!("{name}_count{{{labels}}} {all}\n"));
    }
}

fn labels(count: &Count) -> String {
    let release = count.release.map_or("-".to_owned(), |release| release.to_string());
    format!(
        "app=\"{}\",color=\"{}\",release=\"{release}\",class=\"{}\"",
        count.app,
        count.color,
        count.class.as_str()
    )
}

fn head(text: &mut String, name: &str, kind: &str, what: &str) {
    write(text, format_args!("# HELP {name} {what}\n# TYPE {name} {kind}\n"));
}

fn write(text: &mut String, piece: std::fmt::Arguments<'_>) {
    text.write_fmt(piece).unwrap_or_else(|_| unreachable!("a String takes everything"));
}
