//! Owner, guardians, pause, upgrades: `compute`'s files, of which its own tests go through every case.
use near_sdk::json_types::Base58CryptoHash;

use super::*;
use crate::STATE_VERSION;

fn dao() -> Caller {
    full("dao.near")
}

fn guardian() -> Caller {
    Caller::of("guardian.near")
}

#[test]
fn a_deployment_with_unsound_parameters_fails() {
    type Change = (&'static str, fn(&mut Parameters));
    let changes: [Change; 5] = [
        ("no challenge period", |p| p.close_period = 0),
        ("a long one", |p| p.close_period = 30 * 24 * 3600 + 1),
        ("an endless one", |p| p.close_period = u64::MAX),
        ("fast upgrades", |p| p.upgrade_delay = p.close_period),
        ("at once", |p| p.upgrade_delay = 0),
    ];
    for (name, change) in changes {
        let mut parameters = parameters();
        change(&mut parameters);
        assert_eq!(World::at(CONTRACT, CHAIN, parameters).err(), Some(Error::BadData), "{name}");
    }
    for chain in ["", "x".repeat(33).as_str()] {
        assert_eq!(World::at(CONTRACT, chain, parameters()).err(), Some(Error::BadData));
    }
    let longest = Parameters { close_period: 30 * 24 * 3600, upgrade_delay: 31 * 24 * 3600, ..parameters() };
    World::at(CONTRACT, CHAIN, longest).unwrap();
}

#[test]
fn the_guardian_stops_openings_and_top_ups_and_nothing_else() {
    let mut world = World::new();
    let second = channel(CLIENT, node(1), 0);
    let third = channel(CLIENT, node(2), 0);
    for c in [&chan(), &second] {
        world.open(c, DEPOSIT).unwrap();
    }
    world.refused = vec![id(&owner(0))];
    world.pays(&chan(), 1).unwrap();
    world.refused.clear();
    assert_eq!(world.call(anybody(), |c| c.pause()), Err(Error::Forbidden(id("stranger.near"))));
    assert_eq!(world.call(dao(), |c| c.pause()), Err(Error::Forbidden(id("dao.near"))));
    world.call(guardian(), |c| c.pause()).unwrap();
    assert_eq!(world.open(&third, DEPOSIT), Err(Error::Paused));
    assert_eq!(world.top_up(&chan(), DEPOSIT), Err(Error::Paused));
    world.pays(&chan(), UNIT).unwrap();
    let (c, voucher) = (chan(), world.voucher(&chan(), 2 * UNIT));
    world.redeem_many(&[(&c, &voucher)]).unwrap();
    world.pay_due(&chan()).unwrap();
    let last = world.voucher(&second, UNIT);
    world.close(&second, Some(&last)).unwrap();
    world.request_close(&chan()).unwrap();
    world.after_period(&chan());
    world.finish(&chan()).unwrap();
    world.call(full(CLIENT), |c| c.storage_withdraw(None)).unwrap();
    assert_eq!(world.has(CONTRACT), 0, "everybody is out");
    world.call(guardian(), |c| c.unpause()).unwrap();
    world.call(Caller::of(CLIENT).with(NEAR), |c| c.storage_deposit(None, None)).unwrap();
    world.open(&third, DEPOSIT).unwrap();
}

#[test]
fn the_owner_hands_over_in_two_steps_after_the_delay() {
    let mut world = World::new();
    world.call(dao(), |c| c.add_guardian(id("watch.near"))).unwrap();
    world.call(Caller::of("watch.near"), |c| c.pause()).unwrap();
    world.call(dao(), |c| c.remove_guardian(id("watch.near"))).unwrap();
    world.call(dao(), |c| c.propose_owner(Some(id("heir.near")))).unwrap();
    let at = world.now + 2 * 24 * 3600;
    let heir = || full("heir.near");
    world.now = at - 1;
    assert_eq!(world.call(heir(), |c| c.accept_owner()), Err(Error::TooEarly(at)));
    world.now = at;
    world.call(heir(), |c| c.accept_owner()).unwrap();
    assert_eq!(world.view(|c| c.governance()).owner, id("heir.near"));
    assert_eq!(world.call(dao(), |c| c.propose_owner(None)), Err(Error::Forbidden(id("dao.near"))));
}

#[test]
fn code_is_replaced_after_the_delay_and_everybody_can_leave_before() {
    let mut world = World::new();
    world.open(&chan(), DEPOSIT).unwrap();
    let code_hash = Base58CryptoHash::from(env::sha256_array(b""));
    assert_eq!(world.call(dao(), |c| c.upgrade()), Err(Error::NoUpgrade));
    world.call(dao(), |c| c.propose_upgrade(code_hash)).unwrap();
    let at = world.now + UPGRADE_DELAY;
    assert_eq!(world.event("upgrade_proposed")["not_before"], at);
    // Whoever asks at the announcement has its rest before the new code.
    world.request_close(&chan()).unwrap();
    world.after_period(&chan());
    assert!(world.now < at);
    world.finish(&chan()).unwrap();
    world.now = at - 1;
    assert_eq!(world.call(dao(), |c| c.upgrade()), Err(Error::TooEarly(at)));
    world.now = at;
    assert_eq!(world.call(anybody(), |c| c.upgrade()), Err(Error::Forbidden(id("stranger.near"))));
    world.call(guardian(), |c| c.cancel_upgrade()).unwrap();
    assert_eq!(world.call(dao(), |c| c.upgrade()), Err(Error::NoUpgrade));
    world.call(dao(), |c| c.propose_upgrade(code_hash)).unwrap();
    world.now += UPGRADE_DELAY;
    // The mocked call has an empty input, so this is what was announced.
    world.call(dao(), |c| c.upgrade().map(|promise| promise.detach())).unwrap();
    assert!(world.sent.iter().any(|one| matches!(one, Sent::Deploy(to) if *to == id(CONTRACT))));
}

#[test]
fn migration_takes_its_own_version_and_no_other() {
    let mut world = World::new();
    world.open(&chan(), DEPOSIT).unwrap();
    world.call(dao(), |c| c.propose_upgrade(Base58CryptoHash::from([1; 32]))).unwrap();
    world.enter(&Caller::of(CONTRACT), vec![]);
    let done = Channels::migrate().map(|contract| env::state_write(&contract));
    world.leave(done).unwrap();
    assert_eq!(world.event("upgraded")["version"], STATE_VERSION);
    assert!(world.view(|c| c.governance()).upgrade.is_none());
    assert_eq!(world.channel(&chan()).deposit.0, DEPOSIT);
    for version in [0u16, STATE_VERSION + 1, u16::MAX] {
        let mut other = World::new();
        let state = other.storage.get_mut(b"STATE".as_slice()).unwrap();
        state[..2].copy_from_slice(&version.to_le_bytes());
        other.enter(&Caller::of(CONTRACT), vec![]);
        assert_eq!(Channels::migrate().map(drop), Err(Error::NoUpgrade));
    }
}
