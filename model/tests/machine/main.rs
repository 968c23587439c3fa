//! The machine of one app, driven by random inputs: what must hold in every state that it reaches.

mod app;
mod ways_back;

use cutover_model::migration::Class;
use cutover_model::{
    AppKind, AppState, Applied, Color, Decision, Effect, Ending, Fact, Input, Leg, Maintenance,
    Manner, Migrated, Millis, Open, OperationId, Parts, Proof, Refusal, ReleaseId, ReleaseState,
    Salt, Settle, Split, Weight, Works, evolve,
};
use proptest::prelude::*;

use app::{App, back, forced, points_of, published};

#[test]
fn a_rollback_over_a_migration_that_takes_away_is_refused_and_force_goes() {
    let mut app = App::adopted();
    app.deploy(Settle::AtOnce).expect("a deploy");
    let (former, release) = (ReleaseId(1), ReleaseId(2));
    let migrated = Migrated {
        release,
        names: vec!["20261126_region".into()],
        class: Some(Class::Contract),
        breaks: vec!["dropped nodes.region".into()],
        former: Some((former, Works::No { why: "2 of 6 smoke probes failed".into() })),
        at: Millis(5),
        state: Applied::No,
        undone: None,
    };
    app.record(Fact::MigrationTried { migrated: Box::new(migrated) });
    let back = |manner| Input::Rollback { to: None, manner };
    let mut tried_only = app.clone();
    tried_only.ask(back(Manner::default())).expect("it was never applied");

    app.record(Fact::MigrationBegun { release });
    let before = app.state.clone();
    let refused = app.ask(back(Manner::default())).expect_err("r1 cannot run on it");
    let Refusal::Schema { why, ways } = refused else { panic!("{refused:?}") };
    assert_eq!(why, "r1 cannot run on today's database: r2 dropped nodes.region");
    let commands: Vec<&str> = ways.iter().map(|way| way.command.as_str()).collect();
    assert_eq!(commands, ["cutover maintenance on", "cutover rollback --force"]);
    assert!(ways[1].what.contains("2 of 6 smoke probes failed"), "{ways:?}");
    let (legs, manner) = (vec![Leg::Code], Manner::default());
    let composed = Input::Compose { to: None, legs, rebuild: None, manner };
    let refused = app.ask(composed).expect_err("its code is as old");
    assert!(matches!(refused, Refusal::Schema { .. }), "{refused:?}");
    assert_eq!(app.state, before, "nothing was changed");

    let mut forced = app.clone();
    let manner = Manner { proof: Proof::Waived, ..Manner::default() };
    forced.ask(back(manner)).expect("a person said so");
    assert_eq!(forced.state.serving(), Some(former));

    let operation = OperationId(9);
    let undone = Fact::MigrationUndone { release, operation };
    app.record(undone.clone());
    app.ask(back(Manner::default())).expect("the database has it no more");
    assert_eq!(app.state.serving(), Some(former));
    let by = app.state.last_move.and_then(|moved| moved.operation).expect("the rollback");
    app.ask(Input::Undo { operation: by }).expect("r2 served on without it");

    // What did not serve then, and needs it, goes nowhere any more.
    let mut app = forced;
    app.record(undone);
    let back = app.state.last_move.and_then(|moved| moved.operation).expect("the rollback");
    let manner = Manner::default();
    for forward in [Input::Undo { operation: back }, Input::Rollback { to: Some(release), manner }]
    {
        let refused = app.ask(forward).expect_err("r2 needs what was taken back");
        assert!(
            matches!(&refused, Refusal::Schema { why, .. }
            if why.contains("o9 took the migrations of r2 back")),
            "{refused:?}"
        );
    }
}

#[test]
fn a_rollout_goes_back_whatever_its_migration_does() {
    let mut app = App::adopted();
    app.deploy(Settle::FirstStep).expect("a deploy");
    let release = ReleaseId(2);
    app.record(Fact::MigrationBegun { release });
    let mut migrated = app.state.migrated[&release].clone();
    migrated.class = Some(Class::Contract);
    app.record(Fact::MigrationTried { migrated: Box::new(migrated) });
    app.ask(Input::Rollback { to: None, manner: Manner::default() }).expect("r1 serves on it");
    assert_eq!(app.state.split, Split::all(Color::Blue));
}

#[test]
fn a_rollback_typed_twice_does_nothing_the_second_time() {
    let mut app = App::adopted();
    app.deploy(Settle::AtOnce).unwrap();
    assert_eq!(app.state.serving(), Some(ReleaseId(2)));

    let first = app.ask(back(None)).unwrap();
    assert_eq!(published(&first), Some(Split::all(Color::Blue)));
    let again = app.ask(back(None));
    assert!(matches!(again, Err(Refusal::AlreadyThere { release: ReleaseId(1), .. })), "{again:?}");
}

#[test]
fn undo_goes_forward_again_and_restores_trust() {
    let mut app = App::adopted();
    app.deploy(Settle::AtOnce).unwrap();
    app.ask(back(None)).unwrap();
    assert!(app.state.standing(ReleaseId(2)).unwrap().rejected_by.is_some());
    let rollback = app.state.newest_operation;

    app.ask(Input::Undo { operation: rollback }).unwrap();
    assert_eq!(app.state.serving(), Some(ReleaseId(2)));
    assert!(app.state.standing(ReleaseId(2)).unwrap().rejected_by.is_none());
    let again = app.ask(Input::Undo { operation: rollback });
    assert!(matches!(again, Err(Refusal::AlreadyThere { release: ReleaseId(2), .. })), "{again:?}");
    // And back again, by the number of the undo.
    app.ask(Input::Undo { operation: app.state.newest_operation }).unwrap();
    assert_eq!(app.state.serving(), Some(ReleaseId(1)));
}

#[test]
fn undoing_a_canarys_rollback_restores_its_weight_and_rollout() {
    let mut app = App::adopted();
    app.deploy(Settle::FirstStep).unwrap();
    app.ask(Input::Next).unwrap();
    let before = app.state.clone();
    app.ask(back(None)).unwrap();
    let operation = app.state.newest_operation;
    app.ask(Input::Undo { operation }).unwrap();
    assert_eq!(app.state.split, before.split);
    assert_eq!(app.state.salt, before.salt, "the same clients are canaries again");
    assert_eq!(app.state.rollout.as_ref().map(|r| r.release), Some(ReleaseId(2)));
}

#[test]
fn a_rollback_skips_a_release_that_never_proved_itself() {
    let mut app = App::adopted();
    app.deploy(Settle::FirstStep).unwrap();
    app.ask(Input::Abort).unwrap();
    let error = app.ask(back(None)).unwrap_err();
    assert!(matches!(error, Refusal::AlreadyThere { release: ReleaseId(1), .. }), "{error:?}");
    let error = app.ask(back(Some(ReleaseId(9)))).unwrap_err();
    assert_eq!(error.to_string(), "there is no release r9");
}

#[test]
fn steps_lead_to_everything() {
    let mut app = App::adopted();
    app.deploy(Settle::FirstStep).unwrap();
    let mut weights = vec![app.state.split.weight.basis_points()];
    while app.state.rollout.is_some() {
        app.ask(Input::Next).unwrap();
        weights.push(app.state.split.share(Color::Green).basis_points());
    }
    assert_eq!(weights, [100, 1_000, 5_000, 10_000]);
    assert_eq!(app.state.stable(), Some(ReleaseId(2)));
    assert!(app.state.standing(ReleaseId(2)).unwrap().is_trusted());
}

#[test]
fn a_second_deploy_waits_for_the_first_rollout() {
    let mut app = App::adopted();
    app.deploy(Settle::FirstStep).unwrap();
    let error = app.deploy(Settle::FirstStep).unwrap_err();
    assert_eq!(error.to_string(), "r2 has 1 % of the clients: its rollout has to end first");
}

#[test]
fn the_stopped_color_is_woken_before_it_gets_traffic() {
    let mut app = App::adopted();
    app.deploy(Settle::AtOnce).unwrap();
    app.record(Fact::ReleaseIs { release: ReleaseId(1), state: ReleaseState::Stopped });
    let decision = app.ask(back(None)).unwrap();
    let wake =
        Effect::Wake { release: ReleaseId(1), color: Color::Blue, manner: Manner::default() };
    assert_eq!(decision.effects, [wake]);
    assert_eq!(app.state.serving(), Some(ReleaseId(2)), "r2 serves until r1 is ready");
}

#[test]
fn a_release_that_never_proved_itself_gets_the_traffic_only_by_force() {
    let mut app = App::adopted();
    app.deploy(Settle::NoTraffic).unwrap();
    let refused = |app: &mut App, input| match app.ask(input) {
        Err(Refusal::Cannot { why, ways }) => {
            (why, ways.into_iter().map(|way| way.command).collect::<Vec<_>>())
        }
        other => panic!("{other:?}"),
    };
    let (why, ways) = refused(&mut app, back(Some(ReleaseId(2))));
    assert_eq!(why, "r2 never proved itself: it has never served everyone");
    assert_eq!(ways, ["cutover promote", "cutover rollback --to r2 --force"]);
    let (_, ways) = refused(&mut app, back(None));
    assert_eq!(ways, ["cutover releases", "cutover rollback --force"]);
    assert_eq!(app.state.serving(), Some(ReleaseId(1)));
    for to in [None, Some(ReleaseId(2))] {
        let mut app = app.clone();
        let decision = app.ask(forced(to)).unwrap();
        assert_eq!(published(&decision), Some(Split::all(Color::Green)));
        assert_eq!(app.state.serving(), Some(ReleaseId(2)));
    }
}

#[test]
fn a_rollback_that_drops_what_is_open_says_so_to_the_drain_also_when_typed_later() {
    let cut = Input::Rollback { to: None, manner: Manner { open: Open::Cut, ..Manner::default() } };
    let drain = Effect::Drain { color: Color::Green, open: Open::Cut };
    let mut app = App::adopted();
    app.deploy(Settle::FirstStep).unwrap();
    let mut later = app.clone();
    assert!(app.ask(cut.clone()).unwrap().effects.contains(&drain));
    let usual = later.ask(back(None)).unwrap();
    let finish = Effect::Drain { color: Color::Green, open: Open::Finish };
    assert!(usual.effects.contains(&finish));
    let split = later.state.split;
    assert_eq!(later.ask(cut).unwrap().effects, [drain]);
    assert_eq!(later.state.split, split);
}

#[test]
fn a_static_app_shifts_both_ways_without_a_deploy() {
    let mut app = App::new(AppKind::Static);
    app.make(ReleaseId(1), Color::Blue);
    app.make(ReleaseId(2), Color::Green);
    app.record(Fact::ReleaseProven { release: ReleaseId(1) });
    app.ask(Input::Shift { weight: points_of(1_000), salt: Salt(1), steps: Vec::new() }).unwrap();
    app.ask(Input::Shift { weight: Weight::FULL, salt: Salt(2), steps: Vec::new() }).unwrap();
    assert_eq!(app.state.stable(), Some(ReleaseId(2)));
    app.ask(back(None)).unwrap();
    assert_eq!(app.state.stable(), Some(ReleaseId(1)));
    app.ask(Input::Shift { weight: points_of(1_000), salt: Salt(3), steps: Vec::new() }).unwrap();
    assert_eq!(app.state.split.weight, points_of(1_000));
    assert!(app.ask(Input::Deploy).is_err());
}

#[derive(Debug, Clone)]
enum Move {
    Deploy(Settle),
    Shift(u16),
    Next,
    Promote,
    Abort,
    Rollback,
    RollbackTo(u64),
    Undo(u64),
    Stopped(bool),
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        prop_oneof![Just(Settle::FirstStep), Just(Settle::AtOnce), Just(Settle::NoTraffic)]
            .prop_map(Move::Deploy),
        (0u16..=10_000).prop_map(Move::Shift),
        Just(Move::Next),
        Just(Move::Promote),
        Just(Move::Abort),
        Just(Move::Rollback),
        (0u64..12).prop_map(Move::RollbackTo),
        (0u64..40).prop_map(Move::Undo),
        any::<bool>().prop_map(Move::Stopped),
    ]
}

fn step(app: &mut App, step: &Move) {
    let before = app.state.clone();
    let result = match step {
        Move::Deploy(settle) => app.deploy(*settle).map(|_| Decision::default()),
        Move::Shift(points) => app.ask(Input::Shift {
            weight: points_of(*points),
            salt: Salt(u64::from(*points)),
            steps: Vec::new(),
        }),
        Move::Next => app.ask(Input::Next),
        Move::Promote => app.ask(Input::Promote),
        Move::Abort => app.ask(Input::Abort),
        Move::Rollback => app.ask(back(None)),
        Move::RollbackTo(id) => app.ask(back(Some(ReleaseId(*id)))),
        Move::Undo(id) => app.ask(Input::Undo { operation: OperationId(*id) }),
        Move::Stopped(is_stopped) => {
            if let Some(release) = app.state.standby().filter(|_| app.state.rollout.is_none()) {
                let state = if *is_stopped { ReleaseState::Stopped } else { ReleaseState::Warm };
                app.record(Fact::ReleaseIs { release, state });
            }
            return;
        }
    };
    match result {
        Err(_) => assert_eq!(before.split, app.state.split, "a refusal moves nothing"),
        Ok(decision) => {
            if let Some(split) = published(&decision) {
                assert_eq!(split, app.state.split, "what is published is what is recorded");
            }
        }
    }
}

fn holds_in_every_state(app: &App) {
    let state = &app.state;
    for color in Color::BOTH {
        if state.split.share(color) > Weight::ZERO {
            let release = state.colors.get(color).expect("traffic goes to a release");
            assert_eq!(state.release_state(release), ReleaseState::Warm, "and it is warm");
        }
    }
    assert!(state.split.weight == Weight::ZERO || state.rollout.is_some(), "no way out");
    if state.split.weight > Weight::ZERO {
        let mut copy = app.clone();
        let back = copy.ask(back(None)).expect("a canary can be cut back");
        assert_eq!(published(&back), Some(Split::all(state.split.stable)));
    }
    let mut replayed = AppState::default();
    for happened in &app.journal {
        evolve(&mut replayed, happened).expect("a legal fact");
    }
    assert_eq!(&replayed, state, "replay equals live");
}

#[test]
fn maintenance_lasts_since_it_began_however_often_it_is_changed() {
    let mut app = App::adopted();
    let closed = |after| Fact::GateClosed {
        maintenance: Box::new(Maintenance { retry_after_s: after, allow: Vec::new(), page: None }),
    };
    app.record(closed(300));
    let first = app.state.maintenance.clone().unwrap();
    app.record(closed(600));
    let second = app.state.maintenance.clone().unwrap();
    assert_eq!((second.since, &second.by), (first.since, &first.by));
    assert_eq!(second.how.retry_after_s, 600);
    app.record(Fact::GateOpened);
    assert_eq!(app.state.maintenance, None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 200, ..Default::default() })]

    #[test]
    fn every_reachable_state_is_sound(moves in proptest::collection::vec(any_move(), 1..40)) {
        let mut app = App::adopted();
        for each in &moves {
            step(&mut app, each);
            holds_in_every_state(&app);
        }
    }
}

#[test]
fn a_release_without_a_stack_is_made_again_in_the_idle_color_then_gets_everything() {
    let mut app = App::new(AppKind::Compose);
    for _ in 0..3 {
        app.deploy(Settle::AtOnce).expect("deployed");
    }
    let (first, serving) = (ReleaseId(1), ReleaseId(3));
    assert_eq!(app.state.release_state(first), ReleaseState::Gone);
    let back = Input::Rollback { to: Some(first), manner: Manner::default() };
    let decision = app.ask(back.clone()).expect("it is made again");
    let operation = decision.facts[0].operation().expect("its own");
    let (color, split) = (app.state.split.canary(), app.state.split);
    let parts = Parts::of(first, Some(serving));
    let manner = Manner::default();
    let remake = Effect::Remake { release: first, color, parts, manner };
    assert_eq!(decision.effects, [remake], "nothing moves before it is ready");
    assert!(matches!(app.ask(back), Err(Refusal::Busy { operation: o, .. }) if o == operation));
    assert!(matches!(app.ask(Input::Deploy), Err(Refusal::Busy { .. })));
    let early = Input::Returned { operation, release: first, manner };
    assert!(app.ask(early.clone()).is_err(), "it is not ready");
    let project = format!("shop-{color}");
    app.record(Fact::ReleaseRemade { release: first, color, project });
    assert_eq!((app.state.standby(), app.state.split), (Some(first), split));
    app.record(Fact::ReleaseIs { release: first, state: ReleaseState::Warm });
    let decision = app.ask(early).expect("ready");
    assert!(decision.facts.iter().all(|fact| !matches!(fact, Fact::OperationStarted { .. })));
    assert_eq!(app.state.stable(), Some(first));
    assert_eq!(app.state.standing(serving).and_then(|s| s.rejected_by), Some(operation));
    assert!(app.state.measured.remake_ms.is_some(), "the next one knows how long it takes");
    app.record(Fact::OperationEnded { operation, ending: Ending::Done });
    app.ask(Input::Undo { operation }).expect("the way forward");
    assert_eq!(app.state.stable(), Some(serving));
}

#[test]
fn chosen_parts_are_a_new_release_that_is_proven_when_it_serves() {
    let mut app = App::new(AppKind::Compose);
    for _ in 0..2 {
        app.deploy(Settle::AtOnce).expect("deployed");
    }
    let (to, manner) = (Some(ReleaseId(1)), Manner::default());
    let compose = Input::Compose { to, legs: vec![Leg::Config], rebuild: None, manner };
    let decision = app.ask(compose).expect("composed");
    let operation = decision.facts[0].operation().expect("its own");
    let Some(Effect::Remake { release, color, parts, .. }) = decision.effects.first().cloned()
    else {
        panic!("{decision:?}")
    };
    assert_eq!(release, ReleaseId(3));
    assert_eq!((parts.code, parts.config), (ReleaseId(2), ReleaseId(1)));
    let mut record = app.state.standing(ReleaseId(2)).expect("r2").release.clone();
    (record.id, record.color, record.parts) = (release, color, Some(parts));
    app.record(Fact::ReleaseMade { release: Box::new(record) });
    app.record(Fact::ReleaseIs { release, state: ReleaseState::Warm });
    app.ask(Input::Returned { operation, release, manner }).expect("ready");
    assert_eq!(app.state.stable(), Some(release));
    assert!(app.state.standing(release).is_some_and(|s| s.proven_at.is_some()));
}
