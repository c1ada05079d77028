//! Two results of one seat.
use super::*;

#[test]
fn equivocation_takes_a_fifth_once_and_jails() {
    let mut world = World::new();
    let task = world.task();
    let play = Play::committed(&mut world, task);
    let (one, two) = (play.result(1, DIGEST, EVIDENCE), play.result(1, OTHER, EVIDENCE));
    play.evidence(&mut world, 1, one.clone(), two.clone()).unwrap();
    let told = world.event("node_slashed");
    assert_eq!(sum(&told["amount"]), 2 * STAKE / 5);
    assert_eq!(sum(&told["bounty"]), UNIT / 10);
    assert_eq!(world.vault("stranger.near"), UNIT / 10);
    let slashed = world.node(1);
    assert_eq!((slashed.standing, slashed.reputation), (Standing::Jailed, 0));
    assert_eq!(slashed.bonded.0, 2 * STAKE - 2 * STAKE / 5);
    assert_eq!(world.view(Compute::burn_due).0, 2 * STAKE / 5 - UNIT / 10);
    world.check_books(play.task.escrowed());
    assert_eq!(play.evidence(&mut world, 1, one.clone(), two.clone()), Err(Error::BadEvidence));
    // Released by its owner it is still not punished twice for this attempt.
    world.call(owns(1), |c| c.unjail(node(1))).unwrap();
    assert_eq!(play.evidence(&mut world, 1, two, one), Err(Error::BadEvidence));
    world.call(anybody(), |c| c.sweep_burns().map(drop)).unwrap();
    assert_eq!(world.burned, 2 * STAKE / 5 - UNIT / 10);
    world.check_books(play.task.escrowed());
}

#[test]
fn nothing_more_is_taken_from_a_node_in_jail_or_gone() {
    let mut world = World::new();
    let convict = |world: &mut World, lane: u32| {
        let task = world.task_in(lane);
        let play = Play::start(world, task);
        let pair = (play.result(1, DIGEST, EVIDENCE), play.result(1, OTHER, EVIDENCE));
        (play, pair)
    };
    let (first, (one, two)) = convict(&mut world, 0);
    let (second, (three, four)) = convict(&mut world, 1);
    first.evidence(&mut world, 1, one, two).unwrap();
    let stake = world.node(1).bonded.0;
    let more = second.evidence(&mut world, 1, three.clone(), four.clone());
    assert_eq!(more, Err(Error::BadStanding(node(1), Standing::Jailed)));
    assert_eq!((world.node(1).bonded.0, world.lane(1).equivocated), (stake, 0));
    // The same evidence counts once its owner has released it.
    let mut released = world.clone();
    released.call(owns(1), |c| c.unjail(node(1))).unwrap();
    second.evidence(&mut released, 1, three.clone(), four.clone()).unwrap();
    assert_eq!(released.node(1).bonded.0, stake - stake / 5);
    // Who has taken all its stake out has nothing to lose.
    world.call(owns(1), |c| c.request_unstake(node(1), U128(stake))).unwrap();
    world.advance(UNBONDING + 1);
    world.call(owns(1), |c| c.withdraw_stake(node(1), owner(1)).map(drop)).unwrap();
    let gone = second.evidence(&mut world, 1, three, four);
    assert_eq!(gone, Err(Error::BadStanding(node(1), Standing::Exited)));
}

#[test]
fn evidence_must_be_two_outputs_of_the_key_that_the_seat_records() {
    let mut world = World::new();
    let task = world.task();
    let mut play = Play::committed(&mut world, task);
    let one = play.result(1, DIGEST, EVIDENCE);
    let only_evidence = play.result(1, DIGEST, OTHER);
    assert_eq!(play.evidence(&mut world, 1, one.clone(), only_evidence), Err(Error::BadEvidence));
    assert_eq!(
        play.evidence(&mut world, 0, one.clone(), play.result(1, OTHER, EVIDENCE)),
        Err(Error::BadSignature(0))
    );
    let other_attempt = {
        let digest = play.signing(1, 1).result(&OTHER, &EVIDENCE);
        SignedResult { output_digest: OTHER, evidence_digest: EVIDENCE, signature: sign(&key(1), digest) }
    };
    assert_eq!(play.evidence(&mut world, 1, one.clone(), other_attempt), Err(Error::BadSignature(1)));
    // A task that was never posted.
    let never = Play::new(&world, Task { lane: 9, ..play.task.clone() });
    play.committee.truncate(3);
    let unposted = Play { committee: play.committee.clone(), ..never };
    let pair = (unposted.result(1, DIGEST, EVIDENCE), unposted.result(1, OTHER, EVIDENCE));
    assert_eq!(unposted.evidence(&mut world, 1, pair.0, pair.1), Err(Error::NotOpen));
    // A rotated key does not save the node: the seat records the key that signed.
    let digest = world.view(|c| hash::operate(&c.registry, &node(1), &operator(9), world.now));
    let (signature, until) = (sign(&key(9), digest), world.now);
    world.call(owns(1), |c| c.rotate_operator(node(1), operator(9), until, signature)).unwrap();
    play.evidence(&mut world, 1, one, play.result(1, OTHER, EVIDENCE)).unwrap();
    assert_eq!(world.node(1).standing, Standing::Jailed);
}

#[test]
fn evidence_counts_after_the_end_and_takes_unbonding_stake_too() {
    let mut world = World::new();
    let task = world.task();
    let play = Play::committed(&mut world, task);
    play.finalise(&mut world, anybody(), play.openings(&[]), vec![]).unwrap();
    world.call(owns(1), |c| c.request_unstake(node(1), U128(2 * STAKE))).unwrap();
    world.advance(UNBONDING);
    let pair = (play.result(1, DIGEST, EVIDENCE), play.result(1, OTHER, EVIDENCE));
    // Somebody without an account here gets no bounty: all is burned.
    let (task, committee) = play.both();
    world
        .call(Caller::of("nobody.near"), |c| c.prove_equivocation(task, committee, 1, pair.0, pair.1))
        .unwrap();
    let node = world.node(1);
    assert_eq!((node.standing, node.unbonding.0), (Standing::Jailed, 2 * STAKE - 2 * STAKE / 5));
    assert_eq!(sum(&world.event("node_slashed")["bounty"]), 0);
    world.check_books(0);
}

#[test]
fn a_seat_given_to_another_node_can_be_proven_again() {
    let mut world = World::new();
    let task = world.task();
    let mut play = Play::start(&mut world, task);
    let pair = |play: &Play| (play.result(1, DIGEST, EVIDENCE), play.result(1, OTHER, EVIDENCE));
    let (one, two) = pair(&play);
    play.evidence(&mut world, 1, one, two).unwrap();
    world.advance(u64::from(LEASE) + 1);
    play.reassign(&mut world, 1, 3).unwrap();
    assert_eq!(world.lane(0).equivocated, 0);
    let (one, two) = pair(&play);
    play.evidence(&mut world, 1, one, two).unwrap();
    assert_eq!(world.node(3).standing, Standing::Jailed);
    assert_eq!(world.lane(0).equivocated, 0b010);
}
