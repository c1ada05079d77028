//! Proposing and cancelling, to the second.
use super::*;

const ROOT: Word = Word([9; 32]);

fn funded(amount: u128) -> World {
    let mut world = World::new();
    world.pay_in(amount, "").unwrap();
    world
}

#[test]
fn a_root_waits_and_comes_into_force() {
    let mut world = funded(100);
    let (epoch, active_at) = (world.over(), world.now + DELAY);
    let nothing = ActiveView { epoch: 0, root: Word::ZERO, total: U128(0), paid: U128(0) };
    assert_eq!(world.roots(), RootsView { active: nothing.clone(), waiting: None });
    world.propose(epoch, ROOT, 60).unwrap();
    let wanted = serde_json::json!({
        "epoch": epoch, "root": ROOT, "total": "60", "statement": STATEMENT, "active_at": active_at,
    });
    assert_eq!(world.event("rewards_proposed"), wanted);
    let waiting = WaitingView { epoch, root: ROOT, total: U128(60), active_at };
    world.now = active_at - 1;
    assert_eq!(world.roots(), RootsView { active: nothing, waiting: Some(waiting) });
    world.now = active_at;
    let active = ActiveView { epoch, root: ROOT, total: U128(60), paid: U128(0) };
    assert_eq!(world.roots(), RootsView { active, waiting: None });
}

#[test]
fn an_epoch_that_is_not_over_has_no_root() {
    let mut world = funded(100);
    let epoch = world.over() + 1;
    let ends = (epoch + 1) * SECONDS;
    world.now = ends - 1;
    assert_eq!(world.propose(epoch, ROOT, 60), Err(Error::TooEarly(ends)));
    for far in [u64::MAX, u64::MAX / SECONDS, 1 << 40] {
        assert_eq!(world.propose(far, ROOT, 60), Err(Error::TooEarly((1 << 40) - 1)));
    }
    world.now = ends;
    world.propose(epoch, ROOT, 60).unwrap();
}

#[test]
fn one_root_waits_at_a_time_and_epochs_go_up() {
    let mut world = funded(100);
    let epoch = world.over();
    world.propose(epoch - 5, ROOT, 60).unwrap();
    let active_at = world.now + DELAY;
    assert_eq!(world.propose(epoch, ROOT, 60), Err(Error::StillWaiting(active_at)));
    world.now = active_at - 1;
    assert_eq!(world.propose(epoch, ROOT, 60), Err(Error::StillWaiting(active_at)));
    world.now = active_at;
    for old in [0, epoch - 6, epoch - 5] {
        assert_eq!(world.propose(old, ROOT, 60), Err(Error::BadEpoch(epoch - 5)));
    }
    world.propose(epoch, ROOT, 60).unwrap();
}

#[test]
fn a_total_never_falls_and_is_never_more_than_came_in() {
    let mut world = funded(100);
    let unfunded = |total| Err(Error::Unfunded { total, available: 100 });
    assert_eq!(world.propose(world.over(), Word::ZERO, 60), Err(Error::BadData));
    assert_eq!(world.propose(world.over(), ROOT, 101), unfunded(101));
    assert_eq!(world.propose(world.over(), ROOT, u128::MAX), unfunded(u128::MAX));
    world.activate(&[60]);
    world.now += SECONDS;
    assert_eq!(world.propose(world.over(), ROOT, 59), Err(Error::BadData));
    assert_eq!(world.propose(world.over(), ROOT, 101), unfunded(101));
    world.propose(world.over(), ROOT, 60).unwrap();
}

#[test]
fn what_was_paid_counts_as_money_that_came_in() {
    let mut world = funded(100);
    let tree = world.activate(&[60, 40]);
    world.claim(&tree.leaves[0]).unwrap();
    world.now += SECONDS;
    let over = world.over();
    assert_eq!(world.propose(over, ROOT, 101), Err(Error::Unfunded { total: 101, available: 100 }));
    world.propose(over, ROOT, 100).unwrap();
}

#[test]
fn a_guardian_takes_a_root_back_until_its_time_has_come() {
    let mut world = funded(100);
    let epoch = world.over();
    assert_eq!(world.cancel(epoch), Err(Error::NothingWaits));
    world.propose(epoch, ROOT, 60).unwrap();
    for other in [0, epoch - 1, epoch + 1] {
        assert_eq!(world.cancel(other), Err(Error::NothingWaits));
    }
    world.now += DELAY - 1;
    world.cancel(epoch).unwrap();
    assert_eq!(world.event("rewards_cancelled"), serde_json::json!({ "epoch": epoch, "root": ROOT }));
    assert_eq!(world.cancel(epoch), Err(Error::NothingWaits));
    assert_eq!(world.roots().active.total.0, 0);
    // The same epoch may be proposed again; in time the guardian is late.
    world.propose(epoch, ROOT, 60).unwrap();
    world.now += DELAY;
    assert_eq!(world.cancel(epoch), Err(Error::NothingWaits));
    assert_eq!(world.roots().active.root, ROOT);
}

#[test]
fn the_checks_come_in_the_order_of_the_core() {
    let mut world = funded(100);
    let (over, now) = (world.over(), world.now);
    let done = world.call(Caller::of(STRANGER), |c| c.propose(over + 1, Word::ZERO, U128(200), STATEMENT));
    assert_eq!(done, Err(Error::Forbidden(id(STRANGER))));
    world.propose(over, ROOT, 60).unwrap();
    let too_early = Err(Error::TooEarly((over + 2) * SECONDS));
    assert_eq!(world.propose(over + 1, Word::ZERO, 200), too_early);
    assert_eq!(world.propose(over, Word::ZERO, 200), Err(Error::StillWaiting(now + DELAY)));
    world.now += DELAY;
    assert_eq!(world.propose(over, Word::ZERO, 200), Err(Error::BadEpoch(over)));
    world.now += SECONDS;
    assert_eq!(world.propose(over + 1, Word::ZERO, 200), Err(Error::BadData));
    assert_eq!(world.propose(over + 1, ROOT, 200), Err(Error::Unfunded { total: 200, available: 100 }));
}
