//! Who serves on old data, and which data that is, after traffic was moved in every way.

use cutover_model::restore::RestorePlan;
use cutover_model::{
    AppKind, Color, Effect, Ending, Fact, Input, Leg, Manner, Millis, Oid, OperationId, Point,
    Refusal, ReleaseId, ReleaseState, Settle, Source, Split,
};

use crate::app::{App, back};

fn releases(count: u64) -> App {
    let mut app = App::new(AppKind::Compose);
    for _ in 0..count {
        app.deploy(Settle::AtOnce).expect("deployed");
    }
    app
}

fn point(app: &mut App, release: u64, served: u64) {
    let point = Point {
        release: ReleaseId(release),
        name: format!("shop__point_r{release}"),
        database: "shop".into(),
        oid: Oid(release as u32),
        at: Millis(app.journal.len() as i64),
        bytes: 1,
        took_ms: 1,
    };
    app.state.points.insert(ReleaseId(release), point);
    app.state.served_at_point.insert(ReleaseId(release), ReleaseId(served));
}

/// What a rollback makes is there and gets the traffic.
fn returned(app: &mut App, input: Input) -> ReleaseId {
    let decision = app.ask(input).expect("it is made");
    let operation = decision.facts[0].operation().expect("its own");
    let Some(Effect::Remake { release, color, parts, manner }) = decision.effects.first().cloned()
    else {
        panic!("{decision:?}")
    };
    if app.state.standing(release).is_none() {
        let mut record = app.state.standing(parts.code).expect("on record").release.clone();
        (record.id, record.color, record.parts) = (release, color, Some(parts));
        record.made_at = Millis(app.journal.len() as i64);
        app.record(Fact::ReleaseMade { release: Box::new(record) });
    } else {
        app.record(Fact::ReleaseRemade { release, color, project: format!("shop-{color}") });
    }
    app.record(Fact::ReleaseIs { release, state: ReleaseState::Warm });
    app.ask(Input::Returned { operation, release, manner }).expect("ready");
    app.record(Fact::OperationEnded { operation, ending: Ending::Done });
    release
}

#[test]
fn data_is_put_back_for_the_release_that_a_rollback_made_again() {
    let mut app = releases(3);
    assert_eq!(app.state.restore_target(), Some(ReleaseId(2)));
    let made = returned(&mut app, back(Some(ReleaseId(1))));
    assert_eq!(made, ReleaseId(1));
    assert_eq!(app.state.restore_target(), Some(ReleaseId(1)), "it serves, and went back");
}

#[test]
fn a_release_of_former_parts_gets_the_data_of_the_one_whose_code_it_runs() {
    let mut app = releases(2);
    point(&mut app, 2, 1);
    let compose = Input::Compose {
        to: Some(ReleaseId(1)),
        legs: Leg::ALL.to_vec(),
        rebuild: Some(cutover_model::Layers::Kept),
        manner: Manner::default(),
    };
    let made = returned(&mut app, compose);
    assert_eq!(made, ReleaseId(3));
    assert_eq!(app.state.restore_target(), Some(made));
    let point = app.state.point_for(made).expect("a point").expect("a point");
    assert_eq!(point.release, ReleaseId(2), "the one from before r2");
    let now = Millis(app.journal.len() as i64);
    assert_eq!(app.state.spoilt_by(made, now), Some(ReleaseId(2)), "r2 has written since");
}

/// A restore that brings the traffic with the data.
fn restored(app: &mut App, source: Source, to: ReleaseId) {
    let operation: OperationId = app.state.newest_operation.next();
    let from = app.state.stable();
    let plan = RestorePlan {
        database: "shop".into(),
        source,
        data_of: Millis(0),
        to,
        from,
        system: "7000".into(),
        live: Oid(100),
        candidate: format!("shop__cand_{operation}"),
        aside: format!("shop__prev_{operation}"),
        max_loss: 10,
        max_hold_ms: 5_000,
        accepted_at: Millis(0),
    };
    app.ask(Input::Restore { plan: Box::new(plan) }).expect("accepted");
    let color = app.state.standing(to).expect("on record").release.color;
    let (before, after, number) = (app.state.split, Split::all(color), 90 + operation.0);
    app.record(Fact::SplitChanged { number, before, after, operation: Some(operation) });
    if let Some(release) = from.filter(|from| *from != to) {
        app.record(Fact::ReleaseRejected { release, operation });
    }
    app.record(Fact::OperationEnded { operation, ending: Ending::Done });
}

#[test]
fn a_rollback_behind_a_restore_that_moved_the_traffic_does_not_go_further_back() {
    let mut app = releases(3);
    point(&mut app, 3, 2);
    restored(&mut app, Source::Point { release: ReleaseId(3) }, ReleaseId(2));
    assert_eq!(app.state.stable(), Some(ReleaseId(2)));
    let again = app.ask(back(None));
    let there = ReleaseId(2);
    assert!(
        matches!(&again, Err(Refusal::AlreadyThere { release, .. }) if *release == there),
        "{again:?}"
    );
    assert_eq!(app.state.restore_target(), Some(there));
    assert!(app.state.point_for(there).expect("a point").is_some(), "status knows the way");
}

#[test]
fn a_release_that_never_served_spoils_no_backup() {
    let mut app = releases(1);
    app.ask(Input::Deploy).expect("begun");
    let failed = ReleaseId(2);
    app.make(failed, Color::Green);
    app.record(Fact::ReleaseIs { release: failed, state: ReleaseState::Failed });
    let operation = app.state.newest_operation;
    app.record(Fact::OperationEnded { operation, ending: Ending::Failed("unready".into()) });
    app.deploy(Settle::AtOnce).expect("the next one");
    app.deploy(Settle::AtOnce).expect("and the next one: the failed one stands nowhere");
    let now = Millis(app.journal.len() as i64);
    assert_ne!(app.state.spoilt_by(ReleaseId(1), now), Some(failed), "{:?}", app.state.releases);
    assert!(app.state.spoilt_by(ReleaseId(1), now).is_some(), "the others have served");
}
