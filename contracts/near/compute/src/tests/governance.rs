//! Owner, guardians, pause, upgrades.
use near_sdk::json_types::Base58CryptoHash;

use super::*;
use crate::STATE_VERSION;

fn dao() -> Caller {
    Caller::of("dao.near").with(1)
}

fn guardian() -> Caller {
    Caller::of("guardian.near")
}

#[test]
fn a_deployment_with_unsound_parameters_fails() {
    let changes: Vec<Change<Parameters>> = vec![
        ("no stake", Box::new(|p| p.min_stake = U128(0))),
        ("stake of 97 bits", Box::new(|p| p.min_stake = U128(1 << 96))),
        ("no weight", Box::new(|p| p.weight_fee = U128(0))),
        ("weight of 128 bits", Box::new(|p| p.weight_fee = U128(u128::MAX))),
        ("no fee", Box::new(|p| p.min_fee = U128(0))),
        ("bounty above a fiftieth", Box::new(|p| p.bounty = U128(STAKE / 50 + 1))),
        ("no epoch", Box::new(|p| p.epoch_seconds = 0)),
        ("no lease", Box::new(|p| p.min_lease = 0)),
        ("window of one second", Box::new(|p| p.min_window = 1)),
        ("window beyond the span", Box::new(|p| p.min_window = p.max_span + 1)),
        ("lease beyond the span", Box::new(|p| p.min_lease = p.max_span + 1)),
        ("short unbonding", Box::new(|p| p.unbonding_seconds = 2 * u64::from(p.max_span))),
        ("fast upgrades", Box::new(|p| p.upgrade_delay = p.unbonding_seconds)),
    ];
    for (name, change) in changes {
        let mut parameters = parameters();
        change(&mut parameters);
        assert_eq!(World::empty().deploy(parameters), Err(Error::BadData), "{name}");
    }
}

#[test]
fn the_pause_stops_new_work_and_nothing_else() {
    let mut world = World::new();
    let task = world.task_in(1);
    let running = Play::committed(&mut world, task);
    let task = world.task_in(2);
    let mut posted = Play::new(&world, task);
    posted.post_only(&mut world).unwrap();
    assert_eq!(world.call(anybody(), |c| c.pause()), Err(Error::Forbidden(id("stranger.near"))));
    assert_eq!(world.call(dao(), |c| c.pause()), Err(Error::Forbidden(id("dao.near"))));
    world.call(guardian(), |c| c.pause()).unwrap();
    assert!(world.view(|c| c.governance()).paused);
    // Stopped: deposit, register, post, first assign.
    assert_eq!(world.deposit("client.near", 1), Err(Error::Paused));
    let message = world.registration(0, 1, world.now);
    assert_eq!(world.pay_in(owner(0).as_str(), STAKE, &message), Err(Error::Paused));
    let task = world.task();
    assert_eq!(Play::new(&world, task).post(&mut world), Err(Error::Paused));
    let (task, accepts) = (posted.task.clone(), posted.accepts(world.now));
    assert_eq!(world.call(client(), |c| c.assign(task, accepts)), Err(Error::Paused));
    // Not stopped: everything that money in flight needs.
    running.finalise(&mut world, anybody(), running.openings(&[]), vec![]).unwrap();
    let add = serde_json::json!({ "add_stake": { "node": node(0) } }).to_string();
    world.pay_in(owner(0).as_str(), UNIT, &add).unwrap();
    world.call(client(), |c| c.withdraw(id("cold.near"), U128(UNIT)).map(drop)).unwrap();
    world.call(owns(0), |c| c.request_unstake(node(0), U128(2 * STAKE + UNIT))).unwrap();
    world.advance(UNBONDING + 1);
    world.call(owns(0), |c| c.withdraw_stake(node(0), owner(0)).map(drop)).unwrap();
    world.call(operates(1), |c| c.heartbeat(node(1))).unwrap();
    let task = posted.task.clone();
    world.call(client(), |c| c.cancel(task)).unwrap();
    world.call(guardian(), |c| c.unpause()).unwrap();
    world.deposit("client.near", 1).unwrap();
    world.check_books(0);
}

#[test]
fn guardians_are_the_owners_to_name() {
    let mut world = World::new();
    let watch = id("watch.near");
    let guard = |world: &mut World, caller: Caller| world.call(caller, |c| c.add_guardian(id("watch.near")));
    assert_eq!(guard(&mut world, guardian().with(1)), Err(Error::Forbidden(id("guardian.near"))));
    assert_eq!(guard(&mut world, dao().with(0)), Err(Error::OneYocto(NearToken::from_yoctonear(0))));
    guard(&mut world, dao()).unwrap();
    assert_eq!(guard(&mut world, dao()), Err(Error::BadData), "twice");
    world.call(Caller::of("watch.near"), |c| c.pause()).unwrap();
    world.call(dao(), |c| c.remove_guardian(watch.clone())).unwrap();
    assert_eq!(world.call(Caller::of("watch.near"), |c| c.unpause()), Err(Error::Forbidden(watch.clone())));
    assert_eq!(world.call(dao(), |c| c.remove_guardian(watch)), Err(Error::BadData));
    for i in 1..8 {
        world.call(dao(), |c| c.add_guardian(id(&format!("watch-{i}.near")))).unwrap();
    }
    assert_eq!(guard(&mut world, dao()), Err(Error::BadData), "at most eight");
}

#[test]
fn the_owner_changes_in_two_steps_and_after_the_delay() {
    let mut world = World::new();
    let heir = || Caller::of("heir.near").with(1);
    let delay = 2 * 24 * 3600;
    assert_eq!(world.call(heir(), |c| c.accept_owner()), Err(Error::Forbidden(id("heir.near"))));
    world.call(dao(), |c| c.propose_owner(Some(id("heir.near")))).unwrap();
    let at = world.now + delay;
    assert_eq!(
        world.call(anybody().with(1), |c| c.accept_owner()),
        Err(Error::Forbidden(id("stranger.near")))
    );
    world.now = at - 1;
    assert_eq!(world.call(heir(), |c| c.accept_owner()), Err(Error::TooEarly(at)));
    world.call(dao(), |c| c.propose_owner(None)).unwrap();
    world.now = at;
    assert_eq!(world.call(heir(), |c| c.accept_owner()), Err(Error::Forbidden(id("heir.near"))));
    world.call(dao(), |c| c.propose_owner(Some(id("heir.near")))).unwrap();
    world.advance(delay);
    world.call(heir(), |c| c.accept_owner()).unwrap();
    assert_eq!(world.view(|c| c.governance()).owner, id("heir.near"));
    assert_eq!(world.call(dao(), |c| c.propose_owner(None)), Err(Error::Forbidden(id("dao.near"))));
}

#[test]
fn code_is_replaced_only_after_the_delay_and_only_by_what_was_announced() {
    let mut world = World::new();
    let code_hash = Base58CryptoHash::from(env::sha256_array(b""));
    assert_eq!(world.call(dao(), |c| c.upgrade().map(drop)), Err(Error::NoUpgrade));
    let refused = world.call(guardian().with(1), |c| c.propose_upgrade(code_hash));
    assert_eq!(refused, Err(Error::Forbidden(id("guardian.near"))));
    world.call(dao(), |c| c.propose_upgrade(code_hash)).unwrap();
    let at = world.now + UNBONDING + 1;
    assert_eq!(world.event("upgrade_proposed")["not_before"], at);
    world.now = at - 1;
    assert_eq!(world.call(dao(), |c| c.upgrade().map(drop)), Err(Error::TooEarly(at)));
    assert_eq!(world.call(anybody(), |c| c.upgrade().map(drop)), Err(Error::Forbidden(id("stranger.near"))));
    assert_eq!(world.call(anybody(), |c| c.cancel_upgrade()), Err(Error::Forbidden(id("stranger.near"))));
    world.call(guardian(), |c| c.cancel_upgrade()).unwrap();
    world.now = at;
    assert_eq!(world.call(dao(), |c| c.upgrade().map(drop)), Err(Error::NoUpgrade));
    assert_eq!(world.call(dao(), |c| c.cancel_upgrade()), Err(Error::NoUpgrade));
    let other = Base58CryptoHash::from([1; 32]);
    world.call(dao(), |c| c.propose_upgrade(other)).unwrap();
    world.advance(UNBONDING + 1);
    assert_eq!(world.call(dao(), |c| c.upgrade().map(drop)), Err(Error::NoUpgrade), "another code");
    // The mocked call has an empty input, so this is what was announced.
    world.call(dao(), |c| c.propose_upgrade(code_hash)).unwrap();
    world.advance(UNBONDING + 1);
    world.call(dao(), |c| c.upgrade().map(drop)).unwrap();
    let deployed = world.sent.iter().any(|one| matches!(one, Sent::Deploy(to) if *to == id(CONTRACT)));
    assert!(deployed, "{:?}", world.sent);
}

#[test]
fn migration_takes_its_own_version_and_no_other() {
    let mut world = World::new();
    let code_hash = Base58CryptoHash::from([1; 32]);
    world.call(dao(), |c| c.propose_upgrade(code_hash)).unwrap();
    world.enter(&Caller::of(CONTRACT), vec![]);
    let done = Compute::migrate().map(|contract| env::state_write(&contract));
    world.leave(done).unwrap();
    assert_eq!(world.event("upgraded")["version"], STATE_VERSION);
    assert!(world.view(|c| c.governance()).upgrade.is_none());
    assert_eq!(world.vault("client.near"), 1000 * UNIT);
    for version in [0u16, STATE_VERSION + 1, u16::MAX] {
        let mut other = World::new();
        let state = other.storage.get_mut(b"STATE".as_slice()).unwrap();
        state[..2].copy_from_slice(&version.to_le_bytes());
        other.enter(&Caller::of(CONTRACT), vec![]);
        assert_eq!(Compute::migrate().map(drop), Err(Error::NoUpgrade));
    }
}
