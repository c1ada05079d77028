//! Claims: what an account has not had yet, to it and to nobody else.
use super::*;

#[test]
fn anybody_claims_for_any_account_what_it_has_not_had() {
    for size in 1..=9 {
        let mut world = World::new();
        world.pay_in(1000, "").unwrap();
        let owed: Vec<u128> = (1..=size).collect();
        let tree = world.activate(&owed);
        for leaf in tree.leaves.iter().rev() {
            world.claim(leaf).unwrap();
            let sum = leaf.cumulative.to_string();
            let wanted = serde_json::json!({ "account": leaf.account, "amount": sum, "cumulative": sum });
            assert_eq!(world.event("rewards_claimed"), wanted);
            assert_eq!(world.has(&leaf.account), leaf.cumulative);
            assert_eq!(world.claimed_by(&leaf.account), leaf.cumulative);
            world.check_books();
        }
        assert_eq!(world.roots().active.paid.0, owed.iter().sum::<u128>());
    }
}

#[test]
fn who_missed_ten_epochs_claims_once() {
    let mut world = World::new();
    world.pay_in(100_000, "").unwrap();
    let mut tree = world.activate(&[10, 10]);
    world.claim(&tree.leaves[1]).unwrap();
    for epoch in 2..=11 {
        tree = world.activate(&[10 * epoch, 10]);
    }
    world.claim(&tree.leaves[0]).unwrap();
    assert_eq!(world.event("rewards_claimed")["amount"], "110");
    assert_eq!(world.claim(&tree.leaves[1]), Err(Error::NothingNew(10)));
    // Epochs may be left out as well.
    world.now += 40 * SECONDS;
    tree = world.activate(&[115, 10]);
    world.claim(&tree.leaves[0]).unwrap();
    assert_eq!(world.event("rewards_claimed")["amount"], "5");
    assert_eq!(world.event("rewards_claimed")["cumulative"], "115");
    assert_eq!(world.has(&account(0)), 115);
    world.check_books();
}

#[test]
fn a_root_may_be_claimed_under_from_its_second_on_and_until_the_next_is_in_force() {
    let mut world = World::new();
    world.pay_in(1000, "").unwrap();
    let first = world.activate(&[10, 10]);
    let second = world.tree(&[20, 20]);
    world.now += SECONDS;
    world.propose(world.over(), second.root, 40).unwrap();
    world.now += DELAY - 1;
    assert_eq!(world.claim(&second.leaves[0]), Err(Error::BadProof));
    world.claim(&first.leaves[0]).unwrap();
    world.now += 1;
    assert_eq!(world.claim(&first.leaves[1]), Err(Error::BadProof));
    world.claim(&second.leaves[0]).unwrap();
    world.claim(&second.leaves[1]).unwrap();
    assert_eq!((world.has(&account(0)), world.has(&account(1))), (20, 20));
}

#[test]
fn a_root_that_was_cancelled_is_never_claimed_under() {
    let mut world = World::new();
    world.pay_in(1000, "").unwrap();
    let tree = world.tree(&[10]);
    let epoch = world.over();
    world.propose(epoch, tree.root, 10).unwrap();
    world.cancel(epoch).unwrap();
    world.now += 2 * DELAY;
    assert_eq!(world.claim(&tree.leaves[0]), Err(Error::BadProof));
}

#[test]
fn what_the_token_refuses_was_never_claimed() {
    let mut world = World::new();
    world.pay_in(1000, "").unwrap();
    let tree = world.activate(&[10, 10]);
    world.refused = vec![account(0)];
    for _ in 0..3 {
        world.claim(&tree.leaves[0]).unwrap();
        let wanted = serde_json::json!({ "account": account(0), "to": account(0), "amount": "10" });
        assert_eq!(world.event("transfer_failed"), wanted);
        assert_eq!((world.claimed_by(&account(0)), world.roots().active.paid.0), (0, 0));
        world.check_books();
    }
    world.claim(&tree.leaves[1]).unwrap();
    world.refused.clear();
    world.claim(&tree.leaves[0]).unwrap();
    assert_eq!(world.has(&account(0)), 10);
    assert_eq!(world.claim(&tree.leaves[0]), Err(Error::NothingNew(10)));
    world.check_books();
}

#[test]
fn an_account_paid_under_two_roots_at_once_gets_the_sum_whichever_transfer_fails() {
    for (first_fails, second_fails) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = World::new();
        world.pay_in(1000, "").unwrap();
        world.is_slow = true;
        let mut tree = world.activate(&[10]);
        let refuse = |world: &mut World, it| world.refused = if it { vec![account(0)] } else { vec![] };
        refuse(&mut world, first_fails);
        world.claim(&tree.leaves[0]).unwrap();
        assert_eq!(world.claim(&tree.leaves[0]), Err(Error::NothingNew(10)), "it is on its way");
        tree = world.activate(&[25]);
        refuse(&mut world, second_fails);
        world.claim(&tree.leaves[0]).unwrap();
        world.settle();
        let arrived = if first_fails { 0 } else { 10 } + if second_fails { 0 } else { 15 };
        assert_eq!(world.has(&account(0)), arrived);
        assert_eq!((world.claimed_by(&account(0)), world.roots().active.paid.0), (arrived, arrived));
        world.refused.clear();
        if arrived < 25 {
            world.claim(&tree.leaves[0]).unwrap();
            world.settle();
        }
        assert_eq!(world.has(&account(0)), 25);
        assert_eq!(world.claim(&tree.leaves[0]), Err(Error::NothingNew(25)));
        world.check_books();
    }
}

#[test]
fn whoever_claims_first_pays_for_the_record_and_gets_the_rest_back() {
    let mut world = World::new();
    world.pay_in(1000, "").unwrap();
    let tree = world.activate(&[10, 20]);
    let cost = world.cost(&account(0));
    assert_eq!(cost, (40 + 1 + account(0).len() as u128 + 17) * 10u128.pow(19));
    let before = world.storage.clone();
    for short in [0, 1, cost - 1] {
        let needed = Error::Storage(NearToken::from_yoctonear(cost));
        assert_eq!(world.claim_with(&tree.leaves[0], short), Err(needed));
    }
    assert_eq!(world.storage, before);
    world.claim_with(&tree.leaves[0], cost).unwrap();
    assert_eq!(world.sent_back(), []);
    let grown: Vec<_> = world.storage.iter().filter(|(key, _)| !before.contains_key(*key)).collect();
    let bytes: usize = grown.iter().map(|(key, value)| 40 + key.len() + value.len()).sum();
    assert_eq!((grown.len(), bytes as u128 * 10u128.pow(19)), (1, cost));
    world.claim_with(&tree.leaves[1], NEAR).unwrap();
    let other = record_price(&account(1));
    assert_eq!(world.sent_back(), [(id(STRANGER), NEAR - other)]);
    // Later claims need nothing, and return what comes with them.
    let tree = world.activate(&[30, 40]);
    assert_eq!(world.cost(&account(0)), 0);
    world.claim_with(&tree.leaves[0], 0).unwrap();
    assert_eq!(world.sent_back(), []);
    world.claim_with(&tree.leaves[1], 7).unwrap();
    assert_eq!(world.sent_back(), [(id(STRANGER), 7)]);
}
