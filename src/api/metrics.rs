//! `/metrics` in Prometheus' text form, from the data plane's own counters.
//!
//! Series are bounded: app, color, release, class and whether the color was forced, and nothing
//! that a client sends. No series comes twice: a scrape with one that does is refused as a whole.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use cutover_model::Color;
use cutover_proxy::message::{Added, Count, LATENCY_BOUNDS_US, Routed};

use super::Desk;

/// `GET /metrics`
pub async fn metrics(State(desk): State<Desk>) -> Response {
    let mut text = String::with_capacity(16 * 1024);
    let Some(proxy) = desk.controller.apps().next().map(|app| &app.shared().proxy) else {
        return text.into_response();
    };
    let counts = proxy.counts();
    requests(&mut text, &counts.outcomes);
    added(&mut text, &counts.added);
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
    write(&mut text, format_args!("{name} {}\n", counts.worker_restarts));
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

fn added(text: &mut String, rows: &[Added]) {
    let name = "cutover_added_seconds";
    head(text, name, "summary", "The time that requests were with the proxy itself.");
    for row in rows {
        let release = row.release.map_or("-".to_owned(), |release| release.to_string());
        let labels = format!("app=\"{}\",color=\"{}\",release=\"{release}\"", row.app, row.color);
        let (whole, rest) = (row.sum_ns / 1_000_000_000, row.sum_ns % 1_000_000_000);
        write(text, format_args!("{name}_sum{{{labels}}} {whole}.{rest:09}\n"));
        write(text, format_args!("{name}_count{{{labels}}} {}\n", row.requests));
    }
}

fn labels(count: &Count) -> String {
    let release = count.release.map_or("-".to_owned(), |release| release.to_string());
    format!(
        "app=\"{}\",color=\"{}\",release=\"{release}\",class=\"{}\",routed=\"{}\"",
        count.app,
        count.color,
        count.class.as_str(),
        match count.routed {
            Routed::Slot => "slot",
            Routed::Forced => "forced",
        }
    )
}

fn head(text: &mut String, name: &str, kind: &str, what: &str) {
    write(text, format_args!("# HELP {name} {what}\n# TYPE {name} {kind}\n"));
}

fn write(text: &mut String, piece: std::fmt::Arguments<'_>) {
    text.write_fmt(piece).unwrap_or_else(|_| unreachable!("a String takes everything"));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cutover_model::ReleaseId;
    use cutover_proxy::message::Class;

    use super::*;

    /// The series of a text: name and labels of each line that is a sample.
    fn series(text: &str) -> Vec<&str> {
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let name = |line| {
            let (name, value) = str::rsplit_once(line, ' ').expect("a name and a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            name
        };
        samples.map(name).collect()
    }

    #[test]
    fn no_series_comes_twice() {
        let mut counts = Vec::new();
        for color in Color::BOTH {
            for release in [None, Some(ReleaseId(1)), Some(ReleaseId(2))] {
                for class in Class::ALL {
                    for routed in [Routed::Slot, Routed::Forced] {
                        let app = "shop".parse().expect("a name");
                        let latency = vec![1; LATENCY_BOUNDS_US.len() + 1];
                        let (requests, latency_sum_us) = (1, 7);
                        counts.push(Count {
                            app,
                            color,
                            release,
                            class,
                            routed,
                            requests,
                            latency,
                            latency_sum_us,
                        });
                    }
                }
            }
        }
        let mut text = String::new();
        requests(&mut text, &counts);
        let all = series(&text);
        assert_eq!(all.len(), counts.len() * (1 + LATENCY_BOUNDS_US.len() + 3));
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}
