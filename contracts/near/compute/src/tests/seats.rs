//! Who may take a seat, keep it and give it back.
use super::*;

#[test]
fn an_accept_is_for_one_seat_of_one_task_and_not_for_ever() {
    let mut world = World::new();
    let task = world.task();
    let mut play = Play::new(&world, task);
    let until = world.now;
    // For another seat, twice, after its validity, of another attempt, by another key.
    let mut swapped = play.accepts(until);
    swapped.swap(0, 1);
    assert_eq!(play.post_with(&mut world, swapped), Err(Error::BadSignature(0)));
    let twice = vec![play.accept(0, 0, until); 3];
    assert_eq!(play.post_with(&mut world, twice), Err(Error::OwnerTwice(owner(0))));
    let mut late = play.accepts(until);
    late[2] = play.accept(2, 0, until - 1);
    assert_eq!(play.post_with(&mut world, late), Err(Error::AcceptExpired(until - 1)));
    let mut changed = play.accepts(until);
    changed[1].valid_until += 1;
    assert_eq!(play.post_with(&mut world, changed), Err(Error::BadSignature(1)));
    let mut attempt = play.accepts(until);
    attempt[1] = play.accept(1, 1, until);
    assert_eq!(play.post_with(&mut world, attempt), Err(Error::BadSignature(1)));
    let short = play.accepts(until)[..2].to_vec();
    assert_eq!(play.post_with(&mut world, short), Err(Error::BadSeat(2)));
    let mut other = play.accepts(until);
    let digest = play.signing(1, 0).accept(&node(1), until);
    other[1].signature = sign(&key(3), digest);
    assert_eq!(play.post_with(&mut world, other), Err(Error::BadSignature(1)));
    // Of the same task in another lane, and of this one before it was changed.
    let sibling = Play::new(&world, Task { lane: 1, ..play.task.clone() });
    assert_eq!(play.post_with(&mut world, sibling.accepts(until)), Err(Error::BadSignature(0)));
    let cheaper = Play::new(&world, Task { fee: U128(FEE - 1), ..play.task.clone() });
    assert_eq!(play.post_with(&mut world, cheaper.accepts(until)), Err(Error::BadSignature(0)));
    play.post(&mut world).unwrap();
}

#[test]
fn what_was_signed_for_another_chain_or_contract_is_worth_nothing() {
    let mut world = World::new();
    let task = world.task();
    let mut play = Play::new(&world, task);
    let good = play.escrow;
    let elsewhere = [
        ("deai escrow", "near:other", CONTRACT),
        ("deai escrow", CHAIN, "other.near"),
        ("deai registry", CHAIN, CONTRACT),
    ];
    for (name, chain, contract) in elsewhere {
        play.escrow = hash::separator(name, chain, &id(contract));
        let accepts = play.accepts(world.now);
        assert_eq!(play.post_with(&mut world, accepts), Err(Error::BadSignature(0)), "{name} {chain}");
    }
    play.escrow = good;
    play.post(&mut world).unwrap();
    play.escrow = hash::separator("deai escrow", "near:other", &id(CONTRACT));
    assert_eq!(play.commit(&mut world, &[0]), Err(Error::BadSignature(0)));
}

#[test]
fn nothing_of_one_task_counts_for_the_next_of_its_lane() {
    let mut world = World::new();
    let task = world.task();
    let first = Play::committed(&mut world, task);
    let (old_openings, old_result) = (first.openings(&[]), first.result(0, OTHER, EVIDENCE));
    first.finalise(&mut world, anybody(), old_openings.clone(), vec![]).unwrap();
    let task = world.task();
    let mut second = Play::new(&world, task);
    let old_accepts = first.accepts(world.now);
    assert_eq!(second.post_with(&mut world, old_accepts), Err(Error::BadSignature(0)));
    second.post(&mut world).unwrap();
    let given = vec![first.commitment(0, &DIGEST)];
    let (task, committee) = second.both();
    let replayed = world.call(anybody(), |c| c.commit(task, committee, given));
    assert_eq!(replayed, Err(Error::BadSignature(0)));
    second.commit_as(&mut world, &[(0, OTHER), (1, OTHER), (2, OTHER)]).unwrap();
    assert_eq!(second.reveal(&mut world, old_openings), Err(Error::BadOpening));
    // Evidence about the first task died with its lane's reuse.
    let done = first.evidence(&mut world, 0, first.result(0, DIGEST, EVIDENCE), old_result.clone());
    assert_eq!(done, Err(Error::NotOpen));
    let done = second.evidence(&mut world, 0, second.result(0, DIGEST, EVIDENCE), old_result);
    assert_eq!(done, Err(Error::BadSignature(0)));
}

#[test]
fn an_approval_or_an_unchecked_result_counts_for_its_own_task_alone() {
    let mut world = World::new();
    let tolerant = |world: &World| Task { policy: 128, ..world.task() };
    let task = tolerant(&world);
    let first = Play::committed(&mut world, task);
    first.reveal(&mut world, first.openings(&[])).unwrap();
    let old: Vec<Approval> = (0..3).map(|seat| first.approval(seat, 0b111)).collect();
    for approval in old.clone() {
        first.approve(&mut world, approval).unwrap();
    }
    assert_eq!(world.lane(0).approvals[..3], [0b111; 3]);
    first.finalise(&mut world, anybody(), first.openings(&[]), vec![]).unwrap();
    // The lane is used again: neither what it kept nor what was signed then approves anything.
    let task = tolerant(&world);
    let second = Play::committed(&mut world, task);
    assert_eq!(world.lane(0).approvals, [0; MAX_SEATS]);
    let openings = || second.openings(&[]);
    assert_eq!(second.finalise(&mut world, anybody(), openings(), vec![]), Err(Error::BadApproval));
    assert_eq!(second.finalise(&mut world, anybody(), openings(), old), Err(Error::BadSignature(0)));
    let unchecked = |world: &World, lane| Task { policy: 0, seats: 1, ..world.task_in(lane) };
    let (one, two) = (unchecked(&world, 1), unchecked(&world, 2));
    let (one, two) = (Play::start(&mut world, one), Play::start(&mut world, two));
    let deliver = |world: &mut World, result| {
        let (task, committee) = two.both();
        world.call(anybody(), |c| c.submit_result(task, committee, result))
    };
    assert_eq!(deliver(&mut world, one.result(0, DIGEST, EVIDENCE)), Err(Error::BadSignature(0)));
    deliver(&mut world, two.result(0, DIGEST, EVIDENCE)).unwrap();
}

#[test]
fn one_owner_takes_one_seat() {
    let mut world = World::new();
    let message = world.registration(0, 1, world.now);
    world.pay_in(owner(0).as_str(), STAKE, &message).unwrap();
    let task = world.task();
    let mut play = Play::new(&world, task);
    let second = NodeId::new(&owner(0), 1);
    let digest = play.signing(1, 0).accept(&second, world.now);
    let mut accepts = play.accepts(world.now);
    accepts[1] = Accept { node: second, valid_until: world.now, signature: sign(&key(0), digest) };
    assert_eq!(play.post_with(&mut world, accepts), Err(Error::OwnerTwice(owner(0))));
}

/// Posts a task and convicts the holder of one of its seats.
fn jail(world: &mut World, mut play: Play, seat: usize) {
    play.post(world).unwrap();
    let pair = (play.result(seat, DIGEST, EVIDENCE), play.result(seat, OTHER, EVIDENCE));
    play.evidence(world, seat, pair.0, pair.1).unwrap();
}

#[test]
fn a_node_that_may_not_take_a_seat_gets_none() {
    let mut world = World::new();
    let task = world.task();
    let mut play = Play::new(&world, task);
    world.call(owns(1), |c| c.request_unstake(node(1), U128(2 * STAKE))).unwrap();
    let leaving = Error::BadStanding(node(1), Standing::Unbonding);
    assert_eq!(play.post(&mut world), Err(leaving));
    play.members[1] = 7; // never registered
    assert_eq!(play.post(&mut world), Err(Error::BadStanding(node(7), Standing::None)));
    let mut jailed = world.clone();
    let guilty = Play::by(&jailed, jailed.task_in(1), vec![0, 2, 3]);
    jail(&mut jailed, guilty, 1);
    play.members[1] = 3;
    assert_eq!(play.post(&mut jailed), Err(Error::BadStanding(node(2), Standing::Jailed)));
    play.members[1] = 3;
    world.advance(2 * EPOCH);
    play.task = world.task();
    let mut play = Play::by(&world, play.task, vec![0, 3, 2]);
    let epoch = START / EPOCH;
    assert_eq!(play.post(&mut world), Err(Error::NoHeartbeat(node(0), epoch)));
    world.beat(4);
    play.post(&mut world).unwrap();
}

#[test]
fn a_seat_is_reassigned_only_when_it_is_free_and_there_is_time() {
    let mut world = World::new();
    let task = world.task();
    let mut play = Play::start(&mut world, task);
    let lease_end = world.now + u64::from(LEASE);
    assert_eq!(play.reassign(&mut world, 1, 3), Err(Error::TooEarly(lease_end)));
    world.now = lease_end;
    assert_eq!(play.reassign(&mut world, 1, 3), Err(Error::TooEarly(lease_end)));
    world.now += 1;
    play.commit(&mut world, &[0]).unwrap();
    assert_eq!(play.reassign(&mut world, 0, 3), Err(Error::SeatTaken(0)));
    assert_eq!(play.reassign(&mut world, 1, 1), Err(Error::BadSeat(1)), "the same node again");
    assert_eq!(play.reassign(&mut world, 1, 0), Err(Error::OwnerTwice(owner(0))));
    let deadline = play.task.commit_deadline;
    world.now = deadline - u64::from(LEASE) + 1;
    world.beat(0);
    assert_eq!(play.reassign(&mut world, 1, 3), Err(Error::TooLate(deadline)));
    world.now -= 1;
    play.reassign(&mut world, 1, 3).unwrap();
    assert_eq!(play.committee[1].attempt, 1);
    assert_eq!(world.event("seat_reassigned")["previous"], node(1).to_string());
    // A late result of the former holder is ignored: the committee is another.
    play.commit(&mut world, &[1, 2]).unwrap();
}

#[test]
fn only_the_client_reassigns_and_three_times_at_most() {
    let mut world = World::new();
    let task = Task { lease: 10, ..world.task() };
    let mut play = Play::start(&mut world, task);
    world.advance(11);
    let accept = play.accept(1, 1, world.now);
    let (task, committee) = play.both();
    let done = world.call(anybody().with(1), |c| c.reassign(task, committee, 1, accept));
    assert_eq!(done, Err(Error::Forbidden(id("stranger.near"))));
    for (attempt, member) in [(1, 3), (2, 1), (3, 3)] {
        play.reassign(&mut world, 1, member).unwrap();
        assert_eq!(play.committee[1].attempt, attempt);
        world.advance(11);
    }
    assert_eq!(play.reassign(&mut world, 1, 1), Err(Error::BadSeat(1)));
}

#[test]
fn a_node_that_got_no_input_gives_its_seat_back_unpunished() {
    let mut world = World::new();
    let task = world.task();
    let mut play = Play::start(&mut world, task);
    let (task, committee) = play.both();
    let stranger = world.call(operates(0), |c| c.release(task, committee, 1));
    assert_eq!(stranger, Err(Error::Forbidden(owner(0))));
    let (task, committee) = play.both();
    world.call(operates(1), |c| c.release(task, committee, 1)).unwrap();
    let (task, committee) = play.both();
    let twice = world.call(operates(1), |c| c.release(task, committee, 1));
    assert_eq!(twice, Err(Error::SeatTaken(1)));
    assert_eq!(world.lane(0).released, 0b010);
    // Before it is reassigned it may still commit …
    play.commit(&mut world, &[0]).unwrap();
    // … and the client need not wait for the lease.
    play.reassign(&mut world, 1, 3).unwrap();
    assert_eq!(world.event("seat_reassigned")["released"], true);
    assert_eq!(world.lane(0).released, 0);
    assert_eq!(world.node(1).reputation, 100_000);
    assert_eq!(world.node(1).bonded.0, 2 * STAKE);
}

#[test]
fn input_withheld_from_fifteen_nodes_costs_them_nothing() {
    let mut world = World::with_nodes(15);
    let before = world.vault("client.near");
    let task = Task { seats: 15, ..world.task() };
    let play = Play::start(&mut world, task);
    world.advance(SPAN + 1);
    let (task, committee) = play.both();
    world.call(anybody(), |c| c.expire(task, committee)).unwrap();
    assert_eq!(world.vault("client.near"), before);
    assert!((0..15).all(|i| world.node(i).reputation == 100_000));
    world.check_books(0);
}

#[test]
fn a_stale_committee_is_an_answer_not_a_way_in() {
    let mut world = World::new();
    let task = world.task();
    let mut play = Play::start(&mut world, task);
    let stale = play.committee.clone();
    world.advance(u64::from(LEASE) + 1);
    play.reassign(&mut world, 2, 3).unwrap();
    assert_ne!(play.committee, stale);
    let current = std::mem::replace(&mut play.committee, stale);
    assert_eq!(play.commit(&mut world, &[0]), Err(Error::NotOpen));
    play.committee = current;
    play.commit(&mut world, &[0, 1, 2]).unwrap();
    play.finalise(&mut world, anybody(), play.openings(&[]), vec![]).unwrap();
    assert_eq!(verdicts(&world), [2, 2, 2]);
    assert_eq!(world.vault(owner(2).as_str()), 0);
}
