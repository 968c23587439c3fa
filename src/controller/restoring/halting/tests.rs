//! What a person reads of a restore that waits: nothing that was not seen.

use cutover_model::restore::Oid;
use cutover_model::{Millis, ReleaseId};

use super::*;

fn planned(source: Source) -> RestorePlan {
    RestorePlan {
        database: "shop".to_owned(),
        source,
        data_of: Millis(1_000),
        to: ReleaseId(5),
        from: Some(ReleaseId(7)),
        system: "7".to_owned(),
        live: Oid(1),
        candidate: "shop__cand_o41".to_owned(),
        aside: "shop__prev_o41".to_owned(),
        max_loss: 10,
        max_hold_ms: 5_000,
        accepted_at: Millis(0),
    }
}

fn stuck(side: Option<Side>, may_be_closed: bool) -> String {
    let plan = planned(Source::Point { release: ReleaseId(7) });
    let halt = Halt::Stuck { why: "r5 does not pass its probe".to_owned() };
    told(OperationId(41), "r5", (&plan, &Seen { side, may_be_closed }), &halt)
}

#[test]
fn behind_the_exchange_nothing_is_called_safe_and_it_is_said_where_todays_data_is() {
    let said = stuck(Some(Side::After), false);
    assert!(!said.contains("safe") && !said.contains("as before"), "{said}");
    assert!(said.contains("names are exchanged") && said.contains("shop__prev_o41"), "{said}");
    assert!(said.contains("abort o41       exchanges the names back"), "{said}");
}

#[test]
fn what_was_not_seen_is_not_said() {
    for may_be_closed in [false, true] {
        let said = stuck(None, may_be_closed);
        assert!(!said.contains("safe") && !said.contains("as before"), "{said}");
        assert!(said.contains("not known"), "{said}");
        assert!(!said.contains("drops the copy, keeps the dump"), "{said}");
    }
}

#[test]
fn before_the_exchange_it_is_safe_unless_the_database_may_be_closed() {
    let said = stuck(Some(Side::Before), false);
    assert!(
        said.starts_with("STUCK (o41), safe. r5 serves with today's data, as before."),
        "{said}"
    );
    let said = stuck(Some(Side::Before), true);
    assert!(said.starts_with("STUCK (o41). r5 cannot reach its database"), "{said}");
}

#[test]
fn a_way_back_makes_no_copy_to_drop() {
    let plan = planned(Source::Aside { operation: OperationId(40) });
    let seen = Seen { side: Some(Side::Before), may_be_closed: false };
    let halt = Halt::Stuck { why: "Docker is away".to_owned() };
    let said = told(OperationId(41), "r5", (&plan, &seen), &halt);
    assert!(!said.contains("copy"), "{said}");
}

#[test]
fn the_command_that_is_shown_still_holds_when_it_is_typed_on_a_live_site() {
    let plan = planned(Source::Point { release: ReleaseId(7) });
    let seen = Seen { side: Some(Side::Before), may_be_closed: false };
    let why = "10 were accepted".to_owned();
    let said = |a_minute| {
        let halt = Halt::Asks { rows: 1_318, why: why.clone(), a_minute };
        told(OperationId(41), "r5", (&plan, &seen), &halt)
    };
    assert!(said(90).contains("1,318 rows would be lost now, growing by about 90 a minute"));
    assert!(said(90).contains("continue o41 --max-loss 2300"), "{}", said(90));
    assert!(said(0).contains("continue o41 --max-loss 1500"), "{}", said(0));
}
