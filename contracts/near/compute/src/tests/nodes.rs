//! Stake, standing, keys, heartbeats.
use super::*;

fn registering(world: &mut World, i: usize, stake: u128, change: impl Fn(&mut serde_json::Value)) -> Error {
    let text = world.registration(i, 5, world.now + 60);
    let mut message: serde_json::Value = serde_json::from_str(&text).unwrap();
    change(&mut message["register"]);
    world.pay_in(owner(i).as_str(), stake, &message.to_string()).unwrap_err()
}

#[test]
fn a_node_registers_with_the_consent_of_its_key() {
    let mut world = World::new();
    let told = world.node(0);
    assert_eq!((told.standing, told.bonded.0, told.reputation), (Standing::Probation, 2 * STAKE, 100_000));
    assert_eq!(told.owner, owner(0));
    assert_eq!(world.register(0), Err(Error::BadStanding(node(0), Standing::Probation)));
    let low = registering(&mut world, 0, STAKE - 1, |_| ());
    assert_eq!(low, Error::StakeTooLow { stake: STAKE - 1, minimum: STAKE });
    let foreign = registering(&mut world, 0, STAKE, |it| it["operator"] = operator(1).to_string().into());
    assert_eq!(foreign, Error::BadOperator(operator(1)));
    let expired = world.now - 1;
    let late = registering(&mut world, 0, STAKE, |it| it["valid_until"] = expired.into());
    assert_eq!(late, Error::SignatureExpired(expired));
    let later = registering(&mut world, 0, STAKE, |it| it["valid_until"] = (1u64 << 50).into());
    assert_eq!(later, Error::BadOperator(operator(0)));
    for (name, value) in [
        ("peer_id", serde_json::json!("")),
        ("peer_id", "é".repeat(33).into()),
        ("addresses", vec!["x".repeat(1025)].into()),
        ("addresses", vec!["x"; 513].into()),
        ("signature", "AA==".into()),
        ("index", serde_json::json!(4_294_967_296u64)),
        ("index", serde_json::json!("0")),
        ("operator", "ed25519:abc".into()),
        ("more", 1.into()),
    ] {
        let bad = registering(&mut world, 0, STAKE, |it| it[name] = value.clone());
        assert_eq!(bad, Error::BadData, "{name}");
    }
    world.check_books(0);
}

#[test]
fn a_registration_is_paid_for_by_the_owners_storage_balance() {
    let mut world = World::new();
    let message = world.registration(9, 0, world.now);
    let stranger = world.pay_in(owner(9).as_str(), STAKE, &message);
    assert_eq!(stranger, Err(Error::NotRegistered(owner(9))));
    let cost = world.view(|c| c.storage_cost(owner(9)));
    let account = cost.account.as_yoctonear();
    let caller = Caller::of(owner(9).as_str()).with(account);
    world.call(caller.clone(), |c| c.storage_deposit(None, None)).unwrap();
    let refused = world.pay_in(owner(9).as_str(), STAKE, &message).unwrap_err();
    let Error::Storage(lacking) = refused else { panic!("{refused}") };
    let caller = caller.with(lacking.as_yoctonear() - 1);
    world.call(caller.clone(), |c| c.storage_deposit(None, None)).unwrap();
    let refused = world.pay_in(owner(9).as_str(), STAKE, &message).unwrap_err();
    assert_eq!(refused, Error::Storage(NearToken::from_yoctonear(1)));
    world.call(caller.with(1), |c| c.storage_deposit(None, None)).unwrap();
    world.pay_in(owner(9).as_str(), STAKE, &message).unwrap();
    world.check_books(0);
}

#[test]
fn stored_bytes_are_what_the_accounts_pay_for() {
    let mut world = World::new();
    let size = |world: &World, longer: usize| -> u64 {
        // The contract's own state and the numbers in it are paid by the deployment.
        let records = world.storage.iter().filter(|(key, _)| key.as_slice() != b"STATE");
        records.map(|(key, value)| (key.len() + value.len()) as u64 + 40).sum::<u64>() + longer as u64
    };
    let before = size(&world, 0);
    let message = world.registration(0, 7, world.now);
    world.pay_in(owner(0).as_str(), STAKE, &message).unwrap();
    let id_len = NodeId::new(&owner(0), 7).as_str().len();
    assert_eq!(size(&world, 0) - before, crate::nodes::node_bytes(id_len));
    assert!(crate::nodes::node_bytes(64 + 11) <= 400, "{}", crate::nodes::node_bytes(75));
    let before = size(&world, 0);
    let task = world.task();
    Play::new(&world, task).post_only(&mut world).unwrap();
    assert_eq!(size(&world, 0) - before, crate::lanes::lane_bytes(&id("client.near")));
    let before = size(&world, 0);
    world.call(Caller::of("new.near").with(NEAR), |c| c.storage_deposit(None, None)).unwrap();
    assert_eq!(size(&world, 0) - before, crate::vault::account_bytes(&id("new.near")));
}

#[test]
fn anybody_adds_to_a_stake_and_only_its_owner_takes_it_out() {
    let mut world = World::new();
    let add = |node: NodeId| serde_json::json!({ "add_stake": { "node": node } }).to_string();
    world.pay_in("stranger.near", STAKE, &add(node(0))).unwrap();
    assert_eq!(world.event("stake_added")["bonded"], (3 * STAKE).to_string());
    let unknown = world.pay_in("stranger.near", STAKE, &add(node(9)));
    assert_eq!(unknown, Err(Error::BadStanding(node(9), Standing::None)));
    let stranger = world.call(owns(1), |c| c.request_unstake(node(0), U128(1)));
    assert_eq!(stranger, Err(Error::Forbidden(owner(1))));
    let hot = world.call(operates(0), |c| c.request_unstake(node(0), U128(1)));
    assert_eq!(hot, Err(Error::OneYocto(NearToken::from_yoctonear(0))));
    let zero = world.call(owns(0), |c| c.request_unstake(node(0), U128(0)));
    assert_eq!(zero, Err(Error::BadData));
    let most = world.call(owns(0), |c| c.request_unstake(node(0), U128(3 * STAKE + 1)));
    assert_eq!(most, Err(Error::BadData));
    let low = world.call(owns(0), |c| c.request_unstake(node(0), U128(2 * STAKE + 1)));
    assert_eq!(low, Err(Error::StakeTooLow { stake: STAKE - 1, minimum: STAKE }));
    world.call(owns(0), |c| c.request_unstake(node(0), U128(STAKE))).unwrap();
    world.advance(UNBONDING - 5);
    // A second request restarts the clock for all.
    world.call(owns(0), |c| c.request_unstake(node(0), U128(2 * STAKE))).unwrap();
    let at = world.now + UNBONDING;
    assert_eq!(world.node(0).standing, Standing::Unbonding);
    world.now = at;
    let early = world.call(owns(0), |c| c.withdraw_stake(node(0), owner(0)).map(drop));
    assert_eq!(early, Err(Error::TooEarly(at)));
    world.now += 1;
    world.call(owns(0), |c| c.withdraw_stake(node(0), owner(0)).map(drop)).unwrap();
    assert_eq!(world.tokens[&owner(0)], 3 * STAKE);
    assert_eq!(world.node(0).standing, Standing::Exited);
    assert_eq!(world.event("node_status")["standing"], "exited");
    let again = world.call(owns(0), |c| c.withdraw_stake(node(0), owner(0)).map(drop));
    assert_eq!(again, Err(Error::BadData));
    assert_eq!(world.register(0), Err(Error::BadStanding(node(0), Standing::Exited)));
    world.check_books(0);
}

#[test]
fn stake_that_the_token_refuses_is_where_it_was() {
    let mut world = World::new();
    world.call(owns(0), |c| c.request_unstake(node(0), U128(2 * STAKE))).unwrap();
    world.advance(UNBONDING + 1);
    world.token_refuses = true;
    world.call(owns(0), |c| c.withdraw_stake(node(0), id("nobody.near")).map(drop)).unwrap();
    assert_eq!(world.event("transfer_failed")["amount"], (2 * STAKE).to_string());
    let now = world.node(0);
    assert_eq!((now.standing, now.unbonding.0), (Standing::Unbonding, 2 * STAKE));
    world.check_books(0);
    world.call(owns(0), |c| c.withdraw_stake(node(0), owner(0)).map(drop)).unwrap();
    assert_eq!(world.node(0).standing, Standing::Exited);
    world.check_books(0);
}

#[test]
fn a_heartbeat_is_the_operators_once_an_epoch() {
    let mut world = World::new();
    let epoch = START / EPOCH;
    assert_eq!(world.call(operates(0), |c| c.heartbeat(node(0))), Err(Error::AlreadyBeaten(node(0), epoch)));
    world.advance(EPOCH);
    for wrong in [owns(0), operates(1), anybody(), Caller { account: id("contract.near"), ..operates(0) }] {
        let caller = wrong.account.clone();
        assert_eq!(world.call(wrong, |c| c.heartbeat(node(0))), Err(Error::Forbidden(caller)));
    }
    world.call(operates(0), |c| c.heartbeat(node(0))).unwrap();
    assert_eq!(world.event("heartbeat")["epoch"], epoch + 1);
    // The key may also belong to an account of its own.
    let elsewhere = Caller { account: id("hot.near"), signer: id("hot.near"), ..operates(1) };
    world.call(elsewhere, |c| c.heartbeat(node(1))).unwrap();
    let unknown = world.call(operates(9), |c| c.heartbeat(node(9)));
    assert_eq!(unknown, Err(Error::Forbidden(owner(9))));
    let unknown = world.call(owns(9), |c| c.withdraw_stake(node(9), owner(9)).map(drop));
    assert_eq!(unknown, Err(Error::BadData));
}

#[test]
fn a_new_key_takes_over_with_its_own_consent() {
    let mut world = World::new();
    let digest = |world: &World, key: usize, until: u64| {
        world.view(|c| hash::operate(&c.registry, &node(0), &operator(key), until))
    };
    let until = world.now;
    let good = sign(&key(9), digest(&world, 9, until));
    let bad = sign(&key(8), digest(&world, 9, until));
    let refused = world.call(owns(0), |c| c.rotate_operator(node(0), operator(9), until, bad));
    assert_eq!(refused, Err(Error::BadOperator(operator(9))));
    world.call(owns(0), |c| c.rotate_operator(node(0), operator(9), until, good)).unwrap();
    assert_eq!(world.node(0).operator, operator(9));
    world.advance(EPOCH);
    let old = world.call(operates(0), |c| c.heartbeat(node(0)));
    assert_eq!(old, Err(Error::Forbidden(owner(0))));
    let late = world.call(owns(0), |c| c.rotate_operator(node(0), operator(9), until, good));
    assert_eq!(late, Err(Error::SignatureExpired(until)));
    world.call(Caller { key: operator(9).0, ..operates(0) }, |c| c.heartbeat(node(0))).unwrap();
    let contact = |world: &mut World, caller, peer: &str| {
        let (peer, addresses) = (peer.to_string(), vec!["/ip4/1.2.3.4".to_string()]);
        world.call(caller, |c| c.announce(node(0), peer, addresses))
    };
    let new_key = || Caller { key: operator(9).0, ..operates(0) };
    assert_eq!(contact(&mut world, operates(0), "12D3"), Err(Error::Forbidden(owner(0))));
    assert_eq!(contact(&mut world, new_key(), ""), Err(Error::BadData));
    contact(&mut world, new_key(), "12D3").unwrap();
    assert_eq!(world.event("node_announced")["peer_id"], "12D3");
}

#[test]
fn jail_is_left_by_the_owner_with_enough_stake() {
    let mut world = World::new();
    let refused = world.call(owns(1), |c| c.unjail(node(1)));
    assert_eq!(refused, Err(Error::BadStanding(node(1), Standing::Probation)));
    world.call(owns(1), |c| c.request_unstake(node(1), U128(STAKE))).unwrap();
    let task = world.task();
    let play = Play::committed(&mut world, task);
    let pair = (play.result(1, DIGEST, EVIDENCE), play.result(1, OTHER, EVIDENCE));
    play.evidence(&mut world, 1, pair.0, pair.1).unwrap();
    // 40 of 200 went, bonded first.
    let now = world.node(1);
    assert_eq!((now.bonded.0, now.unbonding.0), (60 * UNIT, STAKE));
    let low = Error::StakeTooLow { stake: 60 * UNIT, minimum: STAKE };
    assert_eq!(world.call(owns(1), |c| c.unjail(node(1))), Err(low));
    let add = serde_json::json!({ "add_stake": { "node": node(1) } }).to_string();
    world.pay_in(owner(1).as_str(), 40 * UNIT, &add).unwrap();
    world.call(owns(1), |c| c.unjail(node(1))).unwrap();
    assert_eq!(world.node(1).standing, Standing::Probation);
    assert_eq!(world.event("node_released")["standing"], "probation");
    // What was jailed is still paid for the task it was in.
    play.finalise(&mut world, anybody(), play.openings(&[]), vec![]).unwrap();
    world.check_books(0);
}

#[test]
fn idle_weeks_cost_reputation_only_above_the_start() {
    let mut world = World::new();
    world.advance(52 * crate::nodes::WEEK_SECONDS);
    assert_eq!(world.node(0).reputation, 100_000);
    world
        .call(anybody(), |c| {
            c.node_mut(&node(0)).unwrap().reputation = 500_000;
            Ok(())
        })
        .unwrap();
    assert_eq!(world.node(0).reputation, crate::reputation::idle(500_000, 51));
}

#[test]
fn nodes_are_listed_in_pages() {
    let world = World::new();
    let page = |from, limit| -> Vec<String> {
        let nodes = world.view(|c| c.get_nodes(from, limit));
        nodes.iter().map(|node| node.node.to_string()).collect()
    };
    let all: Vec<_> = (0..4).map(|i| node(i).to_string()).collect();
    assert_eq!(page(None, None), all);
    assert_eq!(page(Some(1), Some(2)), all[1..3]);
    assert_eq!(page(Some(4), Some(1)), Vec::<String>::new());
    assert_eq!(page(Some(u32::MAX), Some(u32::MAX)), Vec::<String>::new());
    assert!(world.view(|c| c.get_node(node(9))).is_none());
}

#[test]
fn a_page_holds_a_hundred_nodes_whatever_is_asked_for() {
    let world = World::with_nodes(103);
    let page = |from, limit| -> Vec<String> {
        let nodes = world.view(|c| c.get_nodes(from, limit));
        nodes.iter().map(|node| node.node.to_string()).collect()
    };
    let all: Vec<_> = (0..103).map(|i| node(i).to_string()).collect();
    for limit in [None, Some(101), Some(u32::MAX)] {
        assert_eq!(page(None, limit), all[..100]);
        assert_eq!(page(Some(100), limit), all[100..]);
    }
    assert!(page(None, Some(0)).is_empty());
}
