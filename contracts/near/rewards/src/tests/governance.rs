//! Deployment and roles.
use super::*;

fn grant(world: &mut World, by: Caller, role: Role, account: &str) -> Result<(), Error> {
    world.call(by, |c| c.grant(role, id(account)))
}

fn revoke(world: &mut World, by: Caller, role: Role, account: &str) -> Result<(), Error> {
    world.call(by, |c| c.revoke(role, id(account)))
}

#[test]
fn a_deployment_with_unsound_parameters_fails() {
    let sound = parameters();
    let bad = [
        Parameters { delay: 0, ..sound.clone() },
        Parameters { delay: 30 * 24 * 3600 + 1, ..sound.clone() },
        Parameters { epoch_seconds: 0, ..sound.clone() },
    ];
    for one in bad {
        assert_eq!(World::at(CONTRACT, CHAIN, one).err(), Some(Error::BadData));
    }
    for chain in ["", "near:0123456789012345678901234567"] {
        assert_eq!(World::at(CONTRACT, chain, sound.clone()).err(), Some(Error::BadData));
    }
    let longest = Parameters { delay: 30 * 24 * 3600, owner_delay: 0, ..sound };
    World::at(CONTRACT, "near:012345678901234567890123456", longest).unwrap();
}

#[test]
fn what_was_deployed_can_be_read() {
    let world = World::new();
    let info = serde_json::to_value(world.view(|c| c.info())).unwrap();
    let wanted = serde_json::json!({
        "version": 1, "token": TOKEN, "chain_id": CHAIN, "owner": OWNER, "proposed_owner": null,
        "accept_not_before": null, "proposers": [PROPOSER], "guardians": [GUARDIAN], "delay": DELAY,
        "epoch_length": SECONDS, "owner_delay": OWNER_DELAY, "received": "0",
    });
    assert_eq!(info, wanted);
    assert_eq!((world.view(|c| c.delay()), world.view(|c| c.epoch_length())), (DELAY, SECONDS));
}

#[test]
fn the_owner_gives_and_takes_roles() {
    for (role, name) in [(Role::Proposer, "proposer"), (Role::Guardian, "guardian")] {
        let mut world = World::new();
        grant(&mut world, full(OWNER), role, STRANGER).unwrap();
        let wanted = serde_json::json!({ "role": name, "account_id": STRANGER, "on": true });
        assert_eq!(world.event("role_set"), wanted);
        assert_eq!(grant(&mut world, full(OWNER), role, STRANGER), Err(Error::BadData), "has it");
        revoke(&mut world, full(OWNER), role, STRANGER).unwrap();
        assert_eq!(world.event("role_set")["on"], false);
        assert_eq!(revoke(&mut world, full(OWNER), role, STRANGER), Err(Error::BadData), "has it not");
        for i in 0..7 {
            grant(&mut world, full(OWNER), role, &format!("holder-{i}.near")).unwrap();
        }
        assert_eq!(grant(&mut world, full(OWNER), role, STRANGER), Err(Error::BadData), "eight are enough");
        for caller in [STRANGER, PROPOSER, GUARDIAN, CONTRACT] {
            let forbidden = Err(Error::Forbidden(id(caller)));
            assert_eq!(grant(&mut world, full(caller), role, STRANGER), forbidden);
            assert_eq!(revoke(&mut world, full(caller), role, PROPOSER), forbidden);
        }
        let unpaid = Err(Error::OneYocto(NearToken::from_yoctonear(0)));
        assert_eq!(grant(&mut world, Caller::of(OWNER), role, STRANGER), unpaid);
        assert_eq!(revoke(&mut world, Caller::of(OWNER), role, STRANGER), unpaid);
    }
}

#[test]
fn a_role_counts_from_the_moment_it_is_given_and_no_longer_than_it_is_held() {
    let mut world = World::new();
    world.pay_in(100, "").unwrap();
    let (over, root) = (world.over(), Word([9; 32]));
    let propose = |world: &mut World, by: &str| {
        world.call(Caller::of(by), |c| c.propose(over, root, U128(5), STATEMENT))
    };
    revoke(&mut world, full(OWNER), Role::Proposer, PROPOSER).unwrap();
    assert_eq!(propose(&mut world, PROPOSER), Err(Error::Forbidden(id(PROPOSER))));
    grant(&mut world, full(OWNER), Role::Guardian, STRANGER).unwrap();
    assert_eq!(propose(&mut world, STRANGER), Err(Error::Forbidden(id(STRANGER))), "another role");
    grant(&mut world, full(OWNER), Role::Proposer, STRANGER).unwrap();
    propose(&mut world, STRANGER).unwrap();
    revoke(&mut world, full(OWNER), Role::Guardian, GUARDIAN).unwrap();
    let cancel = |world: &mut World, by: &str| world.call(Caller::of(by), |c| c.cancel(over));
    assert_eq!(cancel(&mut world, GUARDIAN), Err(Error::Forbidden(id(GUARDIAN))));
    cancel(&mut world, STRANGER).unwrap();
}

#[test]
fn the_owner_hands_over_in_two_steps_after_the_delay() {
    let mut world = World::new();
    let name =
        |world: &mut World, by: Caller, whom: Option<&str>| world.call(by, |c| c.propose_owner(whom.map(id)));
    let accept = |world: &mut World, by: Caller| world.call(by, |c| c.accept_owner());
    assert_eq!(accept(&mut world, full(STRANGER)), Err(Error::Forbidden(id(STRANGER))));
    assert_eq!(name(&mut world, full(GUARDIAN), Some(STRANGER)), Err(Error::Forbidden(id(GUARDIAN))));
    let not_before = world.now + OWNER_DELAY;
    name(&mut world, full(OWNER), Some(STRANGER)).unwrap();
    let wanted = serde_json::json!({ "account_id": STRANGER, "not_before": not_before });
    assert_eq!(world.event("owner_proposed"), wanted);
    assert_eq!(accept(&mut world, full(STRANGER)), Err(Error::TooEarly(not_before)));
    world.now = not_before - 1;
    assert_eq!(accept(&mut world, full(STRANGER)), Err(Error::TooEarly(not_before)));
    name(&mut world, full(OWNER), None).unwrap();
    world.now = not_before;
    assert_eq!(accept(&mut world, full(STRANGER)), Err(Error::Forbidden(id(STRANGER))));
    name(&mut world, full(OWNER), Some(STRANGER)).unwrap();
    world.now += OWNER_DELAY;
    assert_eq!(accept(&mut world, full(OWNER)), Err(Error::Forbidden(id(OWNER))));
    accept(&mut world, full(STRANGER)).unwrap();
    assert_eq!(world.event("owner_changed"), serde_json::json!({ "account_id": STRANGER }));
    let gone = Err(Error::Forbidden(id(OWNER)));
    assert_eq!(grant(&mut world, full(OWNER), Role::Proposer, OWNER), gone);
    grant(&mut world, full(STRANGER), Role::Proposer, OWNER).unwrap();
}

#[test]
fn every_error_says_its_arguments_as_json() {
    let cases = [
        (Error::BadData, "E_BAD_DATA: {}"),
        (Error::BadEpoch(7), r#"E_BAD_EPOCH: {"epoch":7}"#),
        (Error::BadProof, "E_BAD_PROOF: {}"),
        (Error::Exhausted(7), r#"E_EXHAUSTED: {"left":"7"}"#),
        (Error::Forbidden(id(STRANGER)), r#"E_FORBIDDEN: {"caller":"stranger.near"}"#),
        (Error::NothingNew(7), r#"E_NOTHING_NEW: {"claimed":"7"}"#),
        (Error::NothingWaits, "E_NOTHING_WAITS: {}"),
        (Error::OneYocto(NearToken::from_yoctonear(7)), r#"E_ONE_YOCTO: {"attached":"7"}"#),
        (Error::StillWaiting(7), r#"E_STILL_WAITING: {"active_at":7}"#),
        (Error::Storage(NearToken::from_yoctonear(7)), r#"E_STORAGE: {"needed":"7"}"#),
        (Error::TooEarly(7), r#"E_TOO_EARLY: {"time":7}"#),
        (Error::Unfunded { total: 7, available: 6 }, r#"E_UNFUNDED: {"total":"7","available":"6"}"#),
    ];
    for (error, text) in cases {
        assert_eq!(error.to_string(), text);
    }
}
