//! The demo, played fast: the real daemon, real clients, the whole story.

use std::sync::{Arc, Mutex};

use cutover::demo::screen::{Mode, Screen};
use cutover::demo::{self, Afterwards, Ending, Options, Pace};
use cutover_model::Weight;

/// An output that can be looked at while the demo runs.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Paper {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

const FAST: Options = Options { pace: Pace::Fast, afterwards: Afterwards::End };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_plays_to_its_end_and_loses_no_request() {
    let paper = Paper::default();
    let screen = Screen::new(paper.clone(), Mode::Lines);
    let ending = demo::play(FAST, screen, std::future::pending()).await.unwrap();
    let Ending::Played(summary) = ending else { panic!("it was stopped") };
    let text = paper.text();
    assert!(summary.is_as_promised(), "{summary:?}\n{text}");
    assert!(summary.blue.good > 100 && summary.blue.failed == 0, "{summary:?}");
    assert!(summary.green.failed > 0, "r2 broke: {summary:?}");
    assert!(summary.after_cut_back > 50, "{summary:?}");
    let weights: Vec<Weight> = summary.cohorts.iter().map(|(weight, _)| *weight).collect();
    let points: Vec<u16> = weights.iter().map(|weight| weight.basis_points()).collect();
    assert_eq!(points, [100, 1_000, 5_000]);
    let seen: Vec<u64> = summary.cohorts.iter().map(|(_, clients)| *clients).collect();
    assert!(seen[0] < seen[1] && seen[1] < seen[2], "{seen:?}");
    let cut_back = summary.cut_back.unwrap();
    assert!(cut_back.inside <= cut_back.answered && !cut_back.answered.is_zero());
    for line in ["$ cutover shift 10%", "$ cutover rollback", "What you saw"] {
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_ends_the_demo_and_leaves_nothing_behind() {
    let paper = Paper::default();
    let screen = Screen::new(paper.clone(), Mode::Lines);
    let seen = paper.clone();
    let stop = async move {
        let end = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        let mut look = tokio::time::interval(std::time::Duration::from_millis(20));
        while !seen.text().contains("$ cutover shift 1%") {
            assert!(tokio::time::Instant::now() < end, "the first command never came");
            look.tick().await;
        }
    };
    let keep = Options { afterwards: Afterwards::Keep, ..FAST };
    let ending = demo::play(keep, screen, stop).await.unwrap();
    assert_eq!(ending, Ending::Stopped);
    let text = paper.text();
    assert!(text.ends_with("Stopped. Nothing is left behind.\n"), "{text}");
}
