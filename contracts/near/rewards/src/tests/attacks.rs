//! What thieves, late guardians and a lying proposer try.
use super::*;

fn world_with(owed: &[u128]) -> (World, Tree) {
    let mut world = World::new();
    world.pay_in(1000, "").unwrap();
    let tree = world.activate(owed);
    (world, tree)
}

#[test]
fn a_leaf_changed_in_any_bit_is_no_proof() {
    let (mut world, tree) = world_with(&[10, 20, 30, 40, 50, 60]);
    for leaf in &tree.leaves {
        let mut bad = vec![
            Leaf { account: id("thief.near"), ..leaf.clone() },
            Leaf { account: account(9), ..leaf.clone() },
            Leaf { cumulative: leaf.cumulative + 1, ..leaf.clone() },
            Leaf { cumulative: leaf.cumulative - 1, ..leaf.clone() },
            Leaf { cumulative: leaf.cumulative | 1 << 96, ..leaf.clone() },
            Leaf { cumulative: u128::MAX, ..leaf.clone() },
            Leaf { path: vec![], ..leaf.clone() },
            Leaf { path: leaf.path[1..].to_vec(), ..leaf.clone() },
            Leaf { path: [leaf.path.as_slice(), &[Word::ZERO]].concat(), ..leaf.clone() },
            Leaf { path: [&[tree.root], leaf.path.as_slice()].concat(), ..leaf.clone() },
        ];
        for k in 0..leaf.path.len() {
            bad.push(Leaf { sides: leaf.sides ^ 1 << k, ..leaf.clone() });
            for bit in [0, 77, 255] {
                let mut path = leaf.path.clone();
                path[k].0[bit / 8] ^= 1 << (bit % 8);
                bad.push(Leaf { path, ..leaf.clone() });
            }
        }
        for one in bad {
            assert_eq!(world.claim(&one), Err(Error::BadProof), "{one:?}");
        }
        world.claim(leaf).unwrap();
    }
    assert_eq!(world.has(&id("thief.near")), 0);
}

#[test]
fn a_bit_of_the_root_decides() {
    let mut world = World::new();
    world.pay_in(1000, "").unwrap();
    let tree = world.tree(&[10, 20]);
    for bit in [0, 100, 255] {
        let mut root = tree.root;
        root.0[bit / 8] ^= 1 << (bit % 8);
        world.now += SECONDS;
        world.propose(world.over(), root, 30).unwrap();
        world.now += DELAY;
        assert_eq!(world.claim(&tree.leaves[0]), Err(Error::BadProof));
    }
}

#[test]
fn a_path_has_64_levels_at_most_and_bits_beyond_it_mean_nothing() {
    let mut world = World::new();
    world.pay_in(1000, "").unwrap();
    let mut leaf = world.tree(&[10]).leaves[0].clone();
    leaf.path = (0..65).map(|k| Word([k; 32])).collect();
    leaf.sides = u64::MAX / 3;
    let own = signed::leaf(&world.domain, &leaf.account, 10);
    let long = signed::root_of(own, leaf.sides, &leaf.path[..64]);
    world.now += SECONDS;
    world.propose(world.over(), long, 10).unwrap();
    world.now += DELAY;
    assert_eq!(world.claim(&leaf), Err(Error::BadProof));
    leaf.path.pop();
    world.claim(&leaf).unwrap();
    // The 65th level is refused even where it leads to the root (the bit of its side does not exist).
    let (mut world, tree) = world_with(&[10, 20]);
    let leaf = Leaf { sides: tree.leaves[0].sides | u64::MAX << 1, ..tree.leaves[0].clone() };
    world.claim(&leaf).unwrap();
}

#[test]
fn a_node_of_the_tree_is_no_leaf_and_a_root_no_path() {
    let (mut world, tree) = world_with(&[10, 20]);
    // Without the root's place in force, an empty path would prove whatever the root is the leaf of.
    let empty = Leaf { path: vec![], sides: 0, ..tree.leaves[0].clone() };
    assert_eq!(world.claim(&empty), Err(Error::BadProof));
    let mut fresh = World::new();
    fresh.pay_in(1000, "").unwrap();
    assert_eq!(fresh.claim(&tree.leaves[0]), Err(Error::BadProof), "nothing is in force");
}

#[test]
fn an_older_cumulative_pays_nothing_again() {
    let (mut world, first) = world_with(&[10, 20]);
    world.claim(&first.leaves[0]).unwrap();
    assert_eq!(world.claim(&first.leaves[0]), Err(Error::NothingNew(10)));
    let second = world.activate(&[15, 20]);
    assert_eq!(world.claim(&first.leaves[0]), Err(Error::BadProof));
    world.claim(&second.leaves[0]).unwrap();
    assert_eq!(world.claim(&second.leaves[0]), Err(Error::NothingNew(15)));
    // A proposer that lowers a leaf takes nothing back and pays nothing.
    let third = world.activate(&[5, 200]);
    assert_eq!(world.claim(&third.leaves[0]), Err(Error::NothingNew(15)));
    assert_eq!(world.has(&account(0)), 15);
    world.check_books();
}

#[test]
fn leaves_that_add_up_to_more_than_the_total_are_paid_until_it_is_spent() {
    let mut world = World::new();
    world.pay_in(100, "").unwrap();
    let tree = world.tree(&[60, 60, 40]);
    world.propose(world.over(), tree.root, 100).unwrap();
    world.now += DELAY;
    world.claim(&tree.leaves[0]).unwrap();
    assert_eq!(world.claim(&tree.leaves[1]), Err(Error::Exhausted(40)));
    world.claim(&tree.leaves[2]).unwrap();
    assert_eq!(world.claim(&tree.leaves[1]), Err(Error::Exhausted(0)));
    world.check_books();
    // More money and a root that says so pay the rest.
    world.pay_in(60, "").unwrap();
    let tree = world.activate(&[60, 60, 40]);
    world.claim(&tree.leaves[1]).unwrap();
    world.check_books();
}

#[test]
fn a_leaf_of_another_contract_chain_or_domain_is_worth_nothing_here() {
    let (mut world, tree) = world_with(&[10, 20]);
    for (contract, chain) in [("rewards-2.near", CHAIN), (CONTRACT, "near:other")] {
        let mut other = World::at(contract, chain, parameters()).unwrap();
        other.pay_in(1000, "").unwrap();
        let theirs = other.activate(&[10, 20]);
        assert_eq!(world.claim(&theirs.leaves[0]), Err(Error::BadProof));
        assert_eq!(other.claim(&tree.leaves[0]), Err(Error::BadProof));
        other.claim(&theirs.leaves[0]).unwrap();
    }
    world.claim(&tree.leaves[0]).unwrap();
}

#[test]
fn nobody_proposes_or_cancels_without_the_role() {
    let (mut world, tree) = world_with(&[10]);
    world.now += SECONDS;
    let over = world.over();
    for caller in [STRANGER, OWNER, GUARDIAN, TOKEN, CONTRACT] {
        let done = world.call(Caller::of(caller), |c| c.propose(over, tree.root, U128(10), STATEMENT));
        assert_eq!(done, Err(Error::Forbidden(id(caller))));
    }
    world.propose(over, tree.root, 10).unwrap();
    for caller in [STRANGER, OWNER, PROPOSER, TOKEN, CONTRACT] {
        let done = world.call(Caller::of(caller), |c| c.cancel(over));
        assert_eq!(done, Err(Error::Forbidden(id(caller))));
    }
    world.cancel(over).unwrap();
}

#[test]
fn money_put_in_before_a_proposal_changes_nothing_but_what_it_may_promise() {
    let mut world = World::new();
    world.pay_in(100, "").unwrap();
    let tree = world.tree(&[60, 40]);
    // Somebody sees the proposal coming and is faster, with one unit and with a share for himself.
    world.pay_in(1, "").unwrap();
    world.pay_in(1, r#"{"reason": 1, "shares": [["thief.near", "1"]]}"#).unwrap();
    world.propose(world.over(), tree.root, 100).unwrap();
    world.now += DELAY;
    for leaf in &tree.leaves {
        world.claim(leaf).unwrap();
    }
    assert_eq!((world.has(&id("thief.near")), world.roots().active.total.0), (0, 100));
    world.check_books();
}

#[test]
fn naming_thousands_of_accounts_costs_the_contract_no_storage() {
    let mut world = World::new();
    let before: usize = world.storage.values().map(Vec::len).sum();
    for round in 0..10 {
        let shares: Vec<_> = (0..200).map(|i| (format!("a{round}-{i}"), "1")).collect();
        let text = serde_json::json!({ "reason": 1, "shares": shares }).to_string();
        world.pay_in(200, &text).unwrap();
    }
    assert_eq!(world.storage.values().map(Vec::len).sum::<usize>(), before);
    // Under a root they are claimed for by who pays for their records.
    let tree = world.activate(&[1; 50]);
    for leaf in &tree.leaves {
        assert!(matches!(world.claim_with(leaf, 0), Err(Error::Storage(_))));
    }
}

#[test]
fn a_claim_for_the_contract_itself_or_the_token_loses_nothing() {
    let mut world = World::new();
    world.pay_in(100, "").unwrap();
    let tree = Tree::new(&world.domain, &[(id(CONTRACT), 10), (id(TOKEN), 10), (account(0), 80)]);
    world.now += SECONDS;
    world.propose(world.over(), tree.root, 100).unwrap();
    world.now += DELAY;
    world.refused = vec![id(CONTRACT), id(TOKEN)]; // sender and receiver must differ; the other has no place
    for leaf in &tree.leaves {
        world.claim(leaf).unwrap();
    }
    assert_eq!((world.has(&account(0)), world.has(&id(CONTRACT)), world.roots().active.paid.0), (80, 20, 80));
    world.check_books();
}
