//! The ways in which a release is bad on purpose. Failures are spread evenly and without chance:
//! at 30 % the requests 4, 7, 10, 14, ... fail, so that a test can count on them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::settings::Settings;

/// How a request that was chosen to fail ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Status(u16),
    Reset,
}

#[derive(Debug)]
pub(crate) struct Faults {
    share: f64,
    fault: Fault,
    path: String,
    latency: Option<Duration>,
    healthy_from: Option<Instant>,
    seen: AtomicU64,
}

impl Faults {
    pub(crate) fn read(settings: &Settings) -> Self {
        let fault = match settings.text("SHOP_FAIL_STATUS") {
            Some("reset") => Fault::Reset,
            Some(text) => Fault::Status(text.parse().unwrap_or(500)),
            None => Fault::Status(500),
        };
        let wait = settings.millis("SHOP_HEALTH_AFTER_MS").unwrap_or_default();
        let never = settings.text("SHOP_HEALTH") == Some("never");
        Self {
            share: settings.share("SHOP_FAIL_RATE"),
            fault,
            path: settings.text("SHOP_FAIL_PATH").unwrap_or("/api/").to_owned(),
            latency: settings.millis("SHOP_LATENCY_MS"),
            healthy_from: (!never).then(|| Instant::now() + wait),
            seen: AtomicU64::new(0),
        }
    }

    /// Waits as long as this release is slow, then says whether the request fails.
    pub(crate) async fn strike(&self, path: &str) -> Option<Fault> {
        if path == "/api/health" {
            return None;
        }
        if let Some(latency) = self.latency {
            tokio::time::sleep(latency).await;
        }
        if !path.starts_with(&self.path) {
            return None;
        }
        let before = self.seen.fetch_add(1, Ordering::Relaxed);
        self.is_due(before).then_some(self.fault)
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy_from.is_some_and(|from| Instant::now() >= from)
    }

    fn is_due(&self, before: u64) -> bool {
        let failed = |requests: u64| (requests as f64 * self.share + 1e-9).floor();
        failed(before + 1) > failed(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(share: f64) -> Faults {
        Faults {
            share,
            fault: Fault::Status(500),
            path: "/api/".to_owned(),
            latency: None,
            healthy_from: None,
            seen: AtomicU64::new(0),
        }
    }

    #[test]
    fn the_share_of_failures_is_exact() {
        for (share, expected) in [(0.0, 0), (0.3, 300), (0.5, 500), (1.0, 1000)] {
            let faults = failing(share);
            let failed = (0..1000).filter(|before| faults.is_due(*before)).count();
            assert_eq!(failed, expected, "share {share}");
        }
    }
}
