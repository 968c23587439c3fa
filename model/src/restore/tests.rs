//! Which side of the exchange the world is on, and what is left to do there.

use super::*;
use crate::fact::{Actor, Ending, Fact, Happened, OperationKind};
use crate::{Asked, Effect, Input, Release, ReleaseState, Standing, decide, evolve};

const OLD: Oid = Oid(100);
const NEW: Oid = Oid(200);

fn plan(source: Source) -> RestorePlan {
    RestorePlan {
        database: "shop".into(),
        source,
        data_of: Millis(0),
        to: ReleaseId(1),
        from: Some(ReleaseId(2)),
        system: "7000".into(),
        live: OLD,
        candidate: "shop__cand_o4".into(),
        aside: "shop__prev_o4".into(),
        max_loss: 10,
        max_hold_ms: 5_000,
        accepted_at: Millis(0),
    }
}

fn point() -> RestorePlan {
    plan(Source::Point { release: ReleaseId(2) })
}

fn found(oid: Oid, mark: Mark) -> Option<Found> {
    Some(Found { oid, mark })
}

fn seen(live: Option<Found>, candidate: Option<Found>, aside: Option<Found>) -> Databases {
    Databases { system: "7000".into(), live, candidate, aside }
}

fn before(candidate: Option<Found>) -> Databases {
    seen(found(OLD, Mark::None), candidate, None)
}

#[test]
fn the_numbers_alone_tell_the_side() {
    assert_eq!(side(&point(), &before(None)), Ok(Side::Before));
    let after = seen(found(NEW, Mark::None), None, found(OLD, Mark::None));
    assert_eq!(side(&point(), &after), Ok(Side::After));
}

#[test]
fn what_fits_neither_side_is_left_alone() {
    let gone = seen(None, found(NEW, Mark::None), found(OLD, Mark::None));
    assert!(matches!(side(&point(), &gone), Err(Strange::OtherLive { .. })));
    let replaced = seen(found(Oid(300), Mark::None), None, None);
    assert!(matches!(side(&point(), &replaced), Err(Strange::OtherLive { .. })));
    let moved = Databases { system: "7001".into(), ..before(None) };
    assert!(matches!(side(&point(), &moved), Err(Strange::OtherServer { .. })));
}

#[test]
fn a_candidate_that_passed_is_not_built_again() {
    let checked = found(NEW, Mark::Ours(Checked::Passed));
    let stages = left(&point(), Some(Stage::Hold), &before(checked)).unwrap();
    assert_eq!(stages[..2], [Stage::Preflight, Stage::Stop]);
    let half = found(NEW, Mark::Ours(Checked::NotYet));
    let stages = left(&point(), Some(Stage::Verify), &before(half)).unwrap();
    assert!(stages.starts_with(&[Stage::Preflight, Stage::Build, Stage::Verify]), "{stages:?}");
}

#[test]
fn everything_is_to_be_done_at_first_and_a_dump_cut_short_is_made_again() {
    assert_eq!(left(&point(), None, &before(None)).unwrap(), Stage::ALL);
    assert_eq!(left(&point(), Some(Stage::Dump), &before(None)).unwrap(), Stage::ALL);
}

#[test]
fn after_the_exchange_nothing_goes_back_by_itself() {
    let after = seen(found(NEW, Mark::None), None, found(OLD, Mark::None));
    for begun in Stage::ALL.into_iter().filter(|stage| *stage != Stage::Settle) {
        let stages = left(&point(), Some(begun), &after).unwrap();
        assert_eq!(stages, [Stage::Open, Stage::Settle], "{begun:?}");
    }
    assert_eq!(left(&point(), Some(Stage::Settle), &after).unwrap(), [Stage::Settle]);
}

#[test]
fn a_plan_that_another_restore_overtook_is_not_begun() {
    let after = seen(found(NEW, Mark::None), None, found(OLD, Mark::None));
    let replaced = seen(found(Oid(300), Mark::None), None, None);
    for seen in [after, replaced] {
        assert!(matches!(left(&point(), None, &seen), Err(Strange::Overtaken { .. })), "{seen:?}");
    }
}

#[test]
fn a_foreign_database_under_a_name_of_ours_stops_it() {
    let foreign = found(NEW, Mark::Foreign("somebody".into()));
    assert!(matches!(left(&point(), None, &before(foreign)), Err(Strange::Foreign { .. })));
    let aside = seen(found(OLD, Mark::None), None, found(Oid(7), Mark::None));
    assert!(matches!(left(&point(), None, &aside), Err(Strange::Foreign { .. })));
}

#[test]
fn the_way_back_takes_what_was_put_aside_without_a_copy() {
    let back = plan(Source::Aside { operation: OperationId(4) });
    let stages = left(&back, None, &before(found(NEW, Mark::Foreign("o4".into())))).unwrap();
    let swap = [Stage::Preflight, Stage::Stop, Stage::Hold, Stage::Swap, Stage::Open];
    assert_eq!(stages[..5], swap);
}

/// A restore is taken only under the number that its names were made of.
#[test]
fn a_plan_with_the_names_of_another_number_is_refused() {
    let mut state = crate::AppState::default();
    let release = Release {
        id: ReleaseId(1),
        color: crate::Color::Blue,
        project: "shop-blue".into(),
        commit: None,
        title: String::new(),
        images: Default::default(),
        env_files: Default::default(),
        migrations: None,
        folder: String::new(),
        made_at: Millis(0),
        parts: None,
    };
    *state.colors.get_mut(crate::Color::Blue) = Some(ReleaseId(1));
    state.releases.insert(ReleaseId(1), standing(release));
    let asked = |number| Asked {
        input: Input::Restore { plan: Box::new(point()) },
        operation: OperationId(number),
        move_number: 1,
        request: None,
    };
    let refused = decide(&state, &asked(14)).unwrap_err();
    assert!(refused.to_string().contains("o14"), "{refused}");
    let taken = decide(&state, &asked(4)).unwrap();
    assert_eq!(taken.effects, [Effect::Restore { operation: OperationId(4) }]);
}

fn standing(release: Release) -> Standing {
    let state = ReleaseState::Warm;
    Standing { release, state, proven_at: Some(Millis(1)), rejected_by: None }
}

fn made_at(number: u64) -> Point {
    Point {
        release: ReleaseId(number),
        name: format!("shop__point_r{number}"),
        database: "shop".into(),
        oid: NEW,
        at: Millis(0),
        bytes: 0,
        took_ms: 0,
    }
}

#[test]
fn old_points_go_but_for_one_that_is_in_use() {
    let mut state = crate::AppState::default();
    for number in 1..=5 {
        state.points.insert(ReleaseId(number), made_at(number));
    }
    assert_eq!(state.old_points(3), [ReleaseId(1), ReleaseId(2)]);
    assert!(state.old_points(5).is_empty());
    let plan = plan(Source::Point { release: ReleaseId(1) });
    state.restores.insert(OperationId(9), Restore::new(plan));
    assert_eq!(state.old_points(3), [ReleaseId(2)]);
}

/// r2 failed before it could migrate, r3's point was let go, r4 and r5 have theirs.
#[test]
fn only_the_point_of_the_first_release_afterwards_has_the_data_of_a_release() {
    let mut state = crate::AppState::default();
    for number in 1..=5 {
        let release = serde_json::from_value::<Release>(serde_json::json!({
            "id": number, "color": "blue", "project": "p", "commit": null, "title": "",
            "images": {}, "env_files": {}, "migrations": null, "folder": "", "made_at": 0,
        }));
        let mut made = standing(release.unwrap());
        made.proven_at = (number != 2).then_some(Millis(1));
        state.releases.insert(ReleaseId(number), made);
    }
    for number in [4, 5] {
        state.points.insert(ReleaseId(number), made_at(number));
    }
    let found = |to| state.point_for(ReleaseId(to)).map(|point| point.map(|p| p.release.0));
    assert_eq!(found(1), Err(ReleaseId(3)));
    assert_eq!(found(2), Err(ReleaseId(3)));
    assert_eq!(found(3), Ok(Some(4)));
    assert_eq!(found(4), Ok(Some(5)));
    assert_eq!(found(5), Ok(None));
    // One that never served may have migrated all the same: its point says so, even when gone.
    state.points_let_go.insert(ReleaseId(2));
    assert_eq!(state.point_for(ReleaseId(1)).map(|_| ()), Err(ReleaseId(2)));
}

#[test]
fn the_point_of_a_migration_that_was_refused_on_a_copy_hides_no_later_one() {
    let record = |state: &mut crate::AppState, fact| {
        let (actor, operation) = (Actor::daemon(), None);
        evolve(state, &Happened { at: Millis(1), actor, operation, fact }).expect("it fits");
    };
    let made = |number| {
        let (release, name) = (ReleaseId(number), format!("shop__point_r{number}"));
        let (database, oid, at) = ("shop".into(), NEW, Millis(0));
        let point = Point { release, name, database, oid, at, bytes: 0, took_ms: 0 };
        Fact::PointMade { point: Box::new(point) }
    };
    let found = |state: &crate::AppState| {
        state.point_for(ReleaseId(1)).map(|point| point.map(|p| p.release.0))
    };
    let (release, operation) = (ReleaseId(2), OperationId(2));
    let what = OperationKind::Deploy { release };
    let ending = Ending::Refused("it fails on a copy".into());
    let mut state = crate::AppState::default();
    record(&mut state, Fact::OperationStarted { operation, what, request: None });
    record(&mut state, made(2));
    record(&mut state, Fact::PointGone { release });
    record(&mut state, Fact::OperationEnded { operation, ending });
    record(&mut state, made(3));
    assert_eq!(found(&state), Ok(Some(3)));
    // One that goes for its age was migrated behind.
    record(&mut state, made(2));
    record(&mut state, Fact::PointGone { release });
    assert_eq!(found(&state), Err(release));
}

/// r1 served, r2 was deployed and left again, r1 served on for days, then came r3.
#[test]
fn the_point_of_a_release_that_serves_again_is_the_newest_made_while_it_served() {
    let mut state = crate::AppState::default();
    for (number, served) in [(2, 1), (3, 1), (4, 3)] {
        state.points.insert(ReleaseId(number), made_at(number));
        state.served_at_point.insert(ReleaseId(number), ReleaseId(served));
    }
    let found = |state: &crate::AppState, to| {
        state.point_for(ReleaseId(to)).map(|point| point.map(|p| p.release.0))
    };
    assert_eq!(found(&state, 1), Ok(Some(3)));
    assert_eq!(found(&state, 3), Ok(Some(4)));
    // It had no traffic at any: as before.
    assert_eq!(found(&state, 2), Ok(Some(3)));
    // r2's migration took something away that r1 needs: the point before r3 has that, too.
    let mut taken = crate::Migrated {
        release: ReleaseId(2),
        names: vec!["drop".to_owned()],
        class: Some(crate::migration::Class::Contract),
        breaks: Vec::new(),
        former: None,
        at: Millis(1),
        state: crate::Applied::Yes,
        undone: None,
    };
    state.migrated.insert(ReleaseId(2), taken.clone());
    assert_eq!(found(&state, 1), Ok(Some(2)));
    taken.class = Some(crate::migration::Class::Expand);
    state.migrated.insert(ReleaseId(2), taken);
    assert_eq!(found(&state, 1), Ok(Some(3)));
    // The older one lacks what was written since.
    state.points.remove(&ReleaseId(3));
    assert_eq!(found(&state, 1), Err(ReleaseId(3)));
}

/// r2 took a column away and was put back with its data, then r3, whose data never had it.
#[test]
fn data_that_never_had_a_migration_does_not_bring_it_back() {
    let mut state = crate::AppState::default();
    let mut record = |at, fact: Fact| {
        let (actor, operation) = (Actor::daemon(), fact.operation());
        evolve(&mut state, &Happened { at: Millis(at), actor, operation, fact }).expect("it fits");
        state.clone()
    };
    let restored = |number: u64, data_of: i64, source: Source| {
        let operation = OperationId(number);
        let what = OperationKind::Restore { to: ReleaseId(1), source: source.clone() };
        let plan = RestorePlan { data_of: Millis(data_of), ..plan(source) };
        let aside = Aside {
            name: format!("shop__prev_o{number}"),
            database: "shop".into(),
            oid: OLD,
            since: Millis(data_of),
            rows: 0,
            served: None,
            serves: ReleaseId(1),
            watched: None,
        };
        [
            Fact::OperationStarted { operation, what, request: None },
            Fact::RestorePlanned { operation, plan: Box::new(plan) },
            Fact::AsideKept { operation, aside: Box::new(aside) },
        ]
    };
    let point = |release| Source::Point { release: ReleaseId(release) };
    record(1, Fact::MigrationBegun { release: ReleaseId(2) });
    let applied = |state: &crate::AppState, release| state.migrated[&ReleaseId(release)].state;
    let mut now = None;
    for fact in restored(5, 0, point(2)) {
        now = Some(record(10, fact));
    }
    let undone = crate::Applied::Undone { operation: OperationId(5) };
    assert_eq!(now.as_ref().map(|now| applied(now, 2)), Some(undone));
    record(20, Fact::MigrationBegun { release: ReleaseId(3) });
    for fact in restored(8, 15, point(3)) {
        now = Some(record(30, fact));
    }
    let now = now.expect("a state");
    assert_eq!(applied(&now, 2), undone, "the point of r3 never had it");
    assert_eq!(applied(&now, 3), crate::Applied::Undone { operation: OperationId(8) });
    // A point from before it was taken back has it; the way back from there has it not.
    for fact in restored(9, 5, point(3)) {
        record(40, fact);
    }
    let back = Source::Aside { operation: OperationId(9) };
    let mut seen = Vec::new();
    for fact in restored(11, 0, back) {
        seen.push(applied(&record(50, fact), 2));
    }
    assert_eq!(seen, [crate::Applied::Yes, crate::Applied::Yes, undone]);
}

#[test]
fn what_is_asked_for_has_room_for_ten_minutes_and_a_tenth_at_least() {
    for ((rows, a_minute), most) in
        [((0, 0), 0), ((1, 0), 2), ((1_312, 5), 1_500), ((1_312, 500), 6_400), ((99, 0), 110)]
    {
        assert_eq!(enough(rows, a_minute), most, "{rows}, {a_minute} a minute");
    }
    assert_eq!(enough(u64::MAX, 1), u64::MAX);
}
