//! The attacks of the escrow's design, one test each, and what they gain.
use super::*;
use crate::tasks::LaneRecord;

fn verdicts(world: &World) -> Vec<u64> {
    let seats = world.event("task_finalised")["seats"].clone();
    seats.as_array().unwrap().iter().map(|seat| seat["verdict"].as_u64().unwrap()).collect()
}

fn sum(value: &serde_json::Value) -> u128 {
    value.as_str().unwrap().parse().unwrap()
}

fn paid(r: u32) -> u128 {
    crate::reputation::payment(FEE, r)
}

#[test]
fn an_honest_committee_is_paid_and_the_books_balance() {
    let mut world = World::new();
    let before = world.vault("client.near");
    let task = world.task();
    let play = Play::committed(&mut world, task);
    world.check_books(play.task.escrowed());
    assert_eq!(world.vault("client.near"), before - 3 * FEE - TIP);
    play.finalise(&mut world, anybody(), play.openings(&[]), vec![]).unwrap();
    let told = world.event("task_finalised");
    assert_eq!(told["result"], DIGEST.to_string());
    assert_eq!(sum(&told["tip"]), TIP);
    assert_eq!(world.vault("stranger.near"), TIP);
    assert_eq!(world.vault(owner(0).as_str()), paid(100_000));
    assert_eq!(world.node(0).reputation, 109_000);
    assert_eq!(world.view(Compute::total_rewards_distributed).0, 3 * paid(100_000));
    assert_eq!(world.lane(0).closed, 1);
    world.check_books(0);
    assert_eq!(play.finalise(&mut world, anybody(), play.openings(&[]), vec![]), Err(Error::NotOpen));
}

#[test]
fn a_copied_commitment_opens_for_nobody_else() {
    let mut world = World::new();
    let task = world.task();
    let mut play = Play::start(&mut world, task);
    play.commit(&mut world, &[0]).unwrap();
    // Seat 1 signs the value of seat 0 as its own, and later learns what it hid.
    let value = play.order[0].1;
    let signature = sign(&key(1), play.signing(1, 0).commit(&value));
    let copy = Commitment { seat: 1, value, signature: Some(signature) };
    let (task, committee) = play.both();
    world.call(anybody(), |c| c.commit(task, committee, vec![copy])).unwrap();
    play.order.push((1, value));
    play.commit(&mut world, &[2]).unwrap();
    let mut openings = play.openings(&[]);
    openings[1].salt = Play::salt(0);
    assert_eq!(play.finalise(&mut world, anybody(), openings, vec![]), Err(Error::BadOpening));
    // Without an opening of its own it is silent.
    play.reveal(&mut world, play.openings(&[1])).unwrap();
    world.advance(u64::from(WINDOW) + SPAN + 1);
    play.finalise(&mut world, anybody(), play.openings(&[1]), vec![]).unwrap();
    assert_eq!(verdicts(&world), [2, 4, 2]);
    world.check_books(0);
}

#[test]
fn a_result_seen_in_a_reveal_comes_too_late_to_be_copied() {
    let mut world = World::new();
    let task = world.task();
    let mut play = Play::start(&mut world, task);
    play.commit(&mut world, &[0, 1]).unwrap();
    // Nobody can open while seat 2 may still commit.
    let deadline = play.task.commit_deadline;
    assert_eq!(play.reveal(&mut world, play.openings(&[])), Err(Error::TooEarly(deadline)));
    world.now = deadline + 1;
    play.reveal(&mut world, play.openings(&[])).unwrap();
    assert_eq!(play.commit(&mut world, &[2]), Err(Error::TooLate(deadline)));
}

#[test]
fn two_nodes_of_the_client_get_neither_output_nor_refund() {
    let mut world = World::new();
    let before = world.vault("client.near");
    let task = world.task();
    let mut play = Play::start(&mut world, task);
    // Nodes 1 and 2 are the client's: they never reveal, so that the honest digest misses its majority.
    play.commit_as(&mut world, &[(0, DIGEST), (1, OTHER), (2, OTHER)]).unwrap();
    let openings = play.openings_as(|seat| if seat == 0 { DIGEST } else { OTHER }, &[]);
    play.finalise(&mut world, anybody(), openings, vec![]).unwrap();
    // They won by 2 of 3: the honest node lost a vote, and only reputation.
    assert_eq!(verdicts(&world), [3, 2, 2]);
    assert_eq!(world.node(0).bonded.0, 2 * STAKE);
    assert_eq!(world.node(0).reputation, 90_000);
    // The client got nothing back but what its own nodes earned, less the protocol's part.
    assert_eq!(world.vault("client.near"), before - 3 * FEE - TIP);
    assert_eq!(world.lane(0).accrued.0, FEE + 2 * (FEE - paid(100_000)));
    world.check_books(0);
}

#[test]
fn a_lost_vote_is_never_refunded_even_when_nobody_wins() {
    let mut world = World::new();
    let task = world.task();
    let mut play = Play::start(&mut world, task);
    let digests = [DIGEST, OTHER, EVIDENCE];
    play.commit_as(&mut world, &[(0, digests[0]), (1, digests[1]), (2, digests[2])]).unwrap();
    let openings = play.openings_as(|seat| digests[seat], &[]);
    play.finalise(&mut world, client(), openings, vec![]).unwrap();
    let told = world.event("task_finalised");
    assert!(told["result"].is_null());
    assert_eq!(verdicts(&world), [5, 5, 5]);
    assert_eq!(sum(&told["refunded"]), TIP);
    assert_eq!(world.lane(0).accrued.0, 3 * FEE);
    assert_eq!(world.node(0).reputation, 100_000);
    world.check_books(0);
}

#[test]
fn nobody_finalises_before_everybody_committed() {
    let mut world = World::new();
    let task = world.task();
    let mut play = Play::start(&mut world, task);
    play.commit(&mut world, &[0, 1]).unwrap();
    let deadline = play.task.commit_deadline;
    let done = play.finalise(&mut world, anybody(), play.openings(&[]), vec![]);
    assert_eq!(done, Err(Error::TooEarly(deadline)));
    // At the deadline itself the third seat may still commit.
    world.now = deadline;
    let done = play.finalise(&mut world, anybody(), play.openings(&[]), vec![]);
    assert_eq!(done, Err(Error::TooEarly(deadline)));
    play.commit(&mut world, &[2]).unwrap();
    play.finalise(&mut world, anybody(), play.openings(&[]), vec![]).unwrap();
    assert_eq!(verdicts(&world), [2, 2, 2]);
}

#[test]
fn no_member_can_be_left_out() {
    let mut world = World::new();
    let task = world.task();
    let play = Play::committed(&mut world, task);
    let end = world.now + u64::from(WINDOW);
    // A closed opening within the window.
    let done = play.finalise(&mut world, anybody(), play.openings(&[2]), vec![]);
    assert_eq!(done, Err(Error::TooEarly(end)));
    // No opening at all, another order, one twice, an unknown seat.
    let mut openings = play.openings(&[]);
    openings.pop();
    assert_eq!(play.finalise(&mut world, anybody(), openings, vec![]), Err(Error::BadOpening));
    let mut openings = play.openings(&[]);
    openings.swap(0, 1);
    assert_eq!(play.finalise(&mut world, anybody(), openings, vec![]), Err(Error::BadOpening));
    let mut openings = play.openings(&[]);
    openings.push(openings[0].clone());
    assert_eq!(play.finalise(&mut world, anybody(), openings, vec![]), Err(Error::BadOpening));
    let mut openings = play.openings(&[]);
    openings[0].seat = 200;
    assert_eq!(play.finalise(&mut world, anybody(), openings, vec![]), Err(Error::BadSeat(200)));
    assert_eq!(play.finalise(&mut world, anybody(), vec![], vec![]), Err(Error::BadOpening));
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

#[test]
fn an_opening_kept_from_the_chain_costs_only_its_owner() {
    let mut world = World::new();
    let task = world.task();
    let play = Play::committed(&mut world, task);
    play.reveal(&mut world, play.openings(&[2])).unwrap();
    assert_eq!(world.lane(0).revealed, 0b011);
    // Already known openings are no news.
    assert_eq!(play.reveal(&mut world, play.openings(&[2])), Err(Error::BadOpening));
    let end = world.now + u64::from(WINDOW);
    world.now = end + 1;
    assert_eq!(play.reveal(&mut world, play.openings(&[])), Err(Error::TooLate(end)));
    // After the window exactly what is on chain counts.
    let all = play.finalise(&mut world, anybody(), play.openings(&[]), vec![]);
    assert_eq!(all, Err(Error::BadOpening));
    play.finalise(&mut world, anybody(), play.openings(&[2]), vec![]).unwrap();
    assert_eq!(verdicts(&world), [2, 2, 4]);
    assert_eq!(world.node(2).reputation, 95_000);
    assert_eq!(sum(&world.event("task_finalised")["refunded"]), FEE);
    world.check_books(0);
}

#[test]
fn a_task_out_of_bounds_is_not_taken() {
    let mut world = World::new();
    let good = world.task();
    let late = world.now + 24 * 3600;
    let changes: Vec<Change<Task>> = vec![
        ("window of one second", Box::new(|t| t.window = 1)),
        ("window too long", Box::new(|t| t.window = 24 * 3600 + 1)),
        ("no seats", Box::new(|t| t.seats = 0)),
        ("one seat", Box::new(|t| t.seats = 1)),
        ("two seats", Box::new(|t| t.seats = 2)),
        ("sixteen seats", Box::new(|t| t.seats = 16)),
        ("seventeen seats", Box::new(|t| t.seats = 17)),
        ("255 seats", Box::new(|t| t.seats = 255)),
        ("three seats unchecked", Box::new(|t| t.policy = 0)),
        ("fee 0", Box::new(|t| t.fee = U128(0))),
        ("fee too small", Box::new(|t| t.fee = U128(999))),
        ("fee of 97 bits", Box::new(|t| t.fee = U128(1 << 96))),
        ("fee of 128 bits", Box::new(|t| t.fee = U128(u128::MAX))),
        ("tip of 97 bits", Box::new(|t| t.tip = U128(1 << 96))),
        ("short lease", Box::new(|t| t.lease = 9)),
        ("lease beyond the deadline", Box::new(|t| t.lease = SPAN as u32 + 1)),
        ("lease of 136 years", Box::new(|t| t.lease = u32::MAX)),
        ("deadline in the past", Box::new(|t| t.commit_deadline = 0)),
        ("deadline far away", Box::new(move |t| t.commit_deadline = late + 1)),
        ("deadline of 64 bits", Box::new(|t| t.commit_deadline = u64::MAX)),
    ];
    for (name, change) in changes {
        let mut task = good.clone();
        change(&mut task);
        assert_eq!(Play::new(&world, task).post_only(&mut world), Err(Error::BadTask), "{name}");
    }
    for nonce in [0, 2, u32::MAX] {
        let task = Task { nonce, ..good.clone() };
        assert_eq!(Play::new(&world, task).post_only(&mut world), Err(Error::BadNonce(1)));
    }
    Play::new(&world, good).post_only(&mut world).unwrap();
}

#[test]
fn a_partner_that_dies_after_the_outputs_cannot_stop_the_others() {
    let mut world = World::new();
    let task = Task { policy: 128, ..world.task() };
    let play = Play::committed(&mut world, task);
    let openings = || play.openings(&[]);
    let two = vec![play.approval(0, 0b111), play.approval(1, 0b111)];
    // Without the third approval there is no immediate end …
    assert_eq!(play.finalise(&mut world, anybody(), openings(), two.clone()), Err(Error::BadApproval));
    play.reveal(&mut world, openings()).unwrap();
    for approval in two {
        play.approve(&mut world, approval).unwrap();
    }
    // … but the window ends, and two of three voices are enough for all three seats but the one without a voice.
    world.advance(u64::from(WINDOW) + 1);
    play.finalise(&mut world, anybody(), openings(), vec![]).unwrap();
    assert_eq!(verdicts(&world), [2, 2, 5]);
    assert_eq!(world.node(2).reputation, 100_000);
    world.check_books(0);
}

#[test]
fn salts_withheld_to_the_end_count_as_silence() {
    let mut world = World::new();
    let task = Task { policy: 128, ..world.task() };
    let play = Play::committed(&mut world, task);
    let half = world.now + u64::from(WINDOW / 2);
    world.now = half;
    play.reveal(&mut world, play.openings(&[2])).unwrap();
    world.now = half + 1;
    assert_eq!(play.reveal(&mut world, play.openings(&[])), Err(Error::TooLate(half)));
    for seat in 0..2 {
        play.approve(&mut world, play.approval(seat, 0b011)).unwrap();
    }
    // A silent seat has no voice, although it committed.
    play.approve(&mut world, play.approval(2, 0b100)).unwrap();
    world.advance(u64::from(WINDOW));
    play.finalise(&mut world, anybody(), play.openings(&[2]), vec![]).unwrap();
    assert_eq!(verdicts(&world), [2, 2, 4]);
    world.check_books(0);
}

#[test]
fn a_task_that_nobody_ends_for_a_month_ends_by_anybody() {
    let mut world = World::new();
    let task = world.task();
    let play = Play::committed(&mut world, task);
    play.reveal(&mut world, play.openings(&[])).unwrap();
    world.advance(30 * 24 * 3600);
    let (task, committee) = play.both();
    assert_eq!(world.call(anybody(), |c| c.expire(task, committee)), Err(Error::SeatTaken(0)));
    play.finalise(&mut world, anybody(), play.openings(&[]), vec![]).unwrap();
    assert_eq!(verdicts(&world), [2, 2, 2]);
    world.check_books(0);
}

#[test]
fn a_task_to_which_nobody_committed_returns_whole() {
    let mut world = World::new();
    let before = world.vault("client.near");
    let task = world.task();
    let play = Play::start(&mut world, task);
    let deadline = play.task.commit_deadline;
    world.now = deadline;
    let (task, committee) = play.both();
    let early = world.call(anybody(), |c| c.expire(task, committee));
    assert_eq!(early, Err(Error::TooEarly(deadline)));
    world.now = deadline + 1;
    let (task, committee) = play.both();
    world.call(anybody(), |c| c.expire(task, committee)).unwrap();
    assert_eq!(world.vault("client.near"), before);
    assert_eq!(world.node(0).reputation, 100_000);
    // Also one that was never assigned.
    let task = world.task();
    let mut play = Play::new(&world, task);
    play.post_only(&mut world).unwrap();
    world.advance(SPAN + 1);
    let (task, _) = play.both();
    world.call(anybody(), |c| c.expire(task, vec![])).unwrap();
    assert_eq!(world.vault("client.near"), before);
    world.check_books(0);
}

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
    let mut second = Play::start(&mut world, task);
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
fn a_client_that_never_finalises_changes_nothing() {
    let mut world = World::new();
    let task = world.task();
    let play = Play::committed(&mut world, task);
    // A node does it itself and earns the tip beside its pay.
    play.finalise(&mut world, operates(0), play.openings(&[]), vec![]).unwrap();
    assert_eq!(world.vault(owner(0).as_str()), paid(100_000) + TIP);
    world.check_books(0);
}

#[test]
fn an_objection_gains_the_client_nothing() {
    let mut world = World::new();
    let before = world.vault("client.near");
    let task = Task { policy: 0, seats: 1, ..world.task() };
    let play = Play::start(&mut world, task);
    let (task, committee) = play.both();
    let early = world.call(client(), |c| c.object(task, committee));
    assert_eq!(early, Err(Error::BadTask));
    let result = play.result(0, DIGEST, EVIDENCE);
    let (task, committee) = play.both();
    world.call(anybody(), |c| c.submit_result(task, committee, result)).unwrap();
    let (task, committee) = play.both();
    let stranger = world.call(anybody().with(1), |c| c.object(task, committee));
    assert_eq!(stranger, Err(Error::Forbidden(id("stranger.near"))));
    let (task, committee) = play.both();
    world.call(client(), |c| c.object(task, committee)).unwrap();
    assert_eq!(world.vault("client.near"), before - FEE);
    assert_eq!(world.lane(0).accrued.0, FEE);
    assert_eq!(world.node(0).reputation, 100_000);
    assert_eq!(world.vault(owner(0).as_str()), 0);
    world.check_books(0);
}

#[test]
fn an_unchecked_result_is_paid_after_its_window_and_moves_no_reputation() {
    let mut world = World::new();
    let task = Task { policy: 0, seats: 1, ..world.task() };
    let mut play = Play::start(&mut world, task);
    let result = play.result(0, DIGEST, EVIDENCE);
    let empty = SignedResult { output_digest: Word::ZERO, ..result.clone() };
    let (task, committee) = play.both();
    assert_eq!(world.call(anybody(), |c| c.submit_result(task, committee, empty)), Err(Error::BadTask));
    let (task, committee) = play.both();
    world.call(anybody(), |c| c.submit_result(task, committee, result.clone())).unwrap();
    let (task, committee) = play.both();
    let twice = world.call(anybody(), |c| c.submit_result(task, committee, result));
    assert_eq!(twice, Err(Error::SeatTaken(0)));
    play.order.push((0, DIGEST));
    let end = world.now + u64::from(WINDOW);
    let early = play.finalise(&mut world, anybody(), play.openings(&[]), vec![]);
    assert_eq!(early, Err(Error::TooEarly(end)));
    assert_eq!(play.reveal(&mut world, play.openings(&[])), Err(Error::BadTask));
    world.now = end + 1;
    let (task, committee) = play.both();
    assert_eq!(world.call(client(), |c| c.object(task, committee)), Err(Error::TooLate(end)));
    play.finalise(&mut world, anybody(), play.openings(&[]), vec![]).unwrap();
    assert_eq!(verdicts(&world), [1]);
    assert_eq!(world.vault(owner(0).as_str()), paid(100_000));
    assert_eq!(world.node(0).reputation, 100_000);
    // The client may end it at once: it waives the rest of its own window.
    let task = Task { policy: 0, seats: 1, ..world.task() };
    let mut play = Play::start(&mut world, task);
    let result = play.result(0, DIGEST, EVIDENCE);
    let (task, committee) = play.both();
    world.call(anybody(), |c| c.submit_result(task, committee, result)).unwrap();
    play.order.push((0, DIGEST));
    play.finalise(&mut world, client(), play.openings(&[]), vec![]).unwrap();
    world.check_books(0);
}

#[test]
fn garbage_is_forfeited() {
    let mut world = World::new();
    let task = world.task();
    let mut play = Play::start(&mut world, task);
    play.commit_as(&mut world, &[(0, DIGEST), (1, DIGEST), (2, OTHER)]).unwrap();
    let openings = play.openings_as(|seat| if seat == 2 { OTHER } else { DIGEST }, &[]);
    play.finalise(&mut world, anybody(), openings, vec![]).unwrap();
    assert_eq!(verdicts(&world), [2, 2, 3]);
    assert_eq!(sum(&world.event("task_finalised")["refunded"]), 0);
    assert_eq!(world.node(2).bonded.0, 2 * STAKE);
    world.check_books(0);
}

#[test]
fn a_bad_task_pays_a_tenth_and_only_when_all_say_so() {
    let mut world = World::new();
    for (digests, expected) in
        [([true, true, true], [6, 6, 6]), ([true, true, false], [5, 5, 5]), ([true, false, false], [3, 2, 2])]
    {
        let task = world.task();
        let mut play = Play::start(&mut world, task);
        let fault = hash::fault(&play.id, 3);
        let digest = move |seat: usize| if digests[seat] { fault } else { DIGEST };
        play.commit_as(&mut world, &[(0, digest(0)), (1, digest(1)), (2, digest(2))]).unwrap();
        let before = world.node(0).reputation;
        play.finalise(&mut world, anybody(), play.openings_as(digest, &[]), vec![]).unwrap();
        assert_eq!(verdicts(&world), expected);
        let told = world.event("task_finalised");
        if digests == [true; 3] {
            assert_eq!(told["fault"], true);
            assert_eq!(sum(&told["refunded"]), 3 * (FEE - FEE / 10));
            assert_eq!(world.node(0).reputation, before);
        } else {
            assert_eq!(told["fault"], false);
        }
        world.check_books(0);
    }
}

#[test]
fn a_fault_under_a_tolerance_policy_needs_no_approvals() {
    let mut world = World::new();
    let task = Task { policy: 128, ..world.task() };
    let mut play = Play::start(&mut world, task);
    let fault = hash::fault(&play.id, 1);
    play.commit_as(&mut world, &[(0, fault), (1, fault), (2, fault)]).unwrap();
    play.finalise(&mut world, anybody(), play.openings_as(|_| fault, &[]), vec![]).unwrap();
    assert_eq!(verdicts(&world), [6, 6, 6]);
    // Two that call a good task bad, and approve each other, get nothing.
    let task = Task { policy: 128, ..world.task() };
    let mut play = Play::start(&mut world, task);
    let fault = hash::fault(&play.id, 1);
    let digest = move |seat| if seat == 0 { DIGEST } else { fault };
    play.commit_as(&mut world, &[(0, DIGEST), (1, fault), (2, fault)]).unwrap();
    let approvals = (0..3).map(|seat| play.approval(seat, 0b110)).collect();
    play.finalise(&mut world, anybody(), play.openings_as(digest, &[]), approvals).unwrap();
    assert_eq!(verdicts(&world), [5, 5, 5]);
    world.check_books(0);
}

#[test]
fn masks_that_approve_nobody_or_everybody_decide_nothing_alone() {
    let mut world = World::new();
    let digest = |seat: usize| Word([seat as u8 + 1; 32]);
    let commits = [(0, digest(0)), (1, digest(1)), (2, digest(2))];
    for (masks, expected) in [
        ([0b001, 0b010, 0b100], [5, 5, 5]), // everybody only itself
        ([0b111, 0b111, 0b111], [2, 2, 2]),
        ([0b000, 0b111, 0b111], [5, 2, 2]), // no approval of its own, no pay
        ([0b011, 0b011, 0b100], [2, 2, 5]),
        ([0xFFFF, 0x7FF8 | 0b010, 0b100], [5, 2, 2]), // bits of seats that do not exist are ignored
    ] {
        let task = Task { policy: 200, ..world.task() };
        let mut play = Play::start(&mut world, task);
        play.commit_as(&mut world, &commits).unwrap();
        let approvals = (0..3).map(|seat| play.approval(seat, masks[seat])).collect();
        play.finalise(&mut world, anybody(), play.openings_as(digest, &[]), approvals).unwrap();
        assert_eq!(verdicts(&world), expected, "{masks:?}");
        world.check_books(0);
    }
}

#[test]
fn an_approval_is_bound_to_seat_commitments_and_task() {
    let mut world = World::new();
    let task = Task { policy: 128, ..world.task() };
    let play = Play::committed(&mut world, task);
    play.reveal(&mut world, play.openings(&[])).unwrap();
    let stolen = Approval { seat: 1, ..play.approval(0, 0b111) };
    assert_eq!(play.approve(&mut world, stolen), Err(Error::BadSignature(1)));
    let changed = Approval { mask: 0b110, ..play.approval(0, 0b111) };
    assert_eq!(play.approve(&mut world, changed), Err(Error::BadSignature(0)));
    assert_eq!(play.approve(&mut world, play.approval(0, 0)), Err(Error::BadApproval));
    let nobody = Approval { seat: 3, ..play.approval(0, 0b111) };
    assert_eq!(play.approve(&mut world, nobody), Err(Error::BadSeat(3)));
    let nobody = Approval { seat: 255, ..play.approval(0, 0b111) };
    assert_eq!(play.approve(&mut world, nobody), Err(Error::BadSeat(255)));
    let mut other = Play::by(&world, play.task.clone(), vec![0, 1, 2]);
    other.committee = play.committee.clone();
    other.order = vec![play.order[1], play.order[0], play.order[2]];
    assert_eq!(play.approve(&mut world, other.approval(0, 0b111)), Err(Error::BadSignature(0)));
    play.approve(&mut world, play.approval(0, 0b011)).unwrap();
    // The first one counts.
    assert_eq!(play.approve(&mut world, play.approval(0, 0b111)), Err(Error::BadApproval));
    assert_eq!(world.lane(0).approvals[0], 0b011);
}

#[test]
fn approvals_have_no_place_under_a_digest_policy() {
    let mut world = World::new();
    let task = world.task();
    let play = Play::committed(&mut world, task);
    assert_eq!(play.approve(&mut world, play.approval(0, 1)), Err(Error::BadTask));
    let approvals = vec![play.approval(0, 1)];
    let done = play.finalise(&mut world, anybody(), play.openings(&[]), approvals);
    assert_eq!(done, Err(Error::BadApproval));
}

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

#[test]
fn reputation_from_self_dealing_costs_the_protocol_fee() {
    let mut world = World::new();
    let before = world.owed(0) - world.lane(0).accrued.0;
    let task = world.task();
    let play = Play::committed(&mut world, task);
    play.finalise(&mut world, client(), play.openings(&[]), vec![]).unwrap();
    let kept = world.owed(0) - world.lane(0).accrued.0;
    assert_eq!(before - kept, 3 * (FEE - paid(100_000)));
    // The least fee moves almost nothing.
    let task = Task { fee: U128(1000), ..world.task() };
    let play = Play::committed(&mut world, task);
    let r = world.node(0).reputation;
    play.finalise(&mut world, client(), play.openings(&[]), vec![]).unwrap();
    assert_eq!(world.node(0).reputation, r);
}

#[test]
fn twenty_checked_tasks_end_probation() {
    let mut world = World::new();
    for round in 1..=20 {
        let task = world.task();
        let play = Play::committed(&mut world, task);
        play.finalise(&mut world, client(), play.openings(&[]), vec![]).unwrap();
        let expected = if round < 20 { Standing::Probation } else { Standing::Active };
        assert_eq!(world.node(0).standing, expected);
    }
    assert_eq!(world.node(0).checked_tasks, 20);
    let active = world.events().iter().filter(|event| event["event"] == "node_status").count();
    assert_eq!(active, 3);
}

#[test]
fn posting_needs_a_balance_a_free_lane_and_its_owner() {
    let mut world = World::new();
    let rich = Task { fee: U128(400 * UNIT), ..world.task() };
    let needed = rich.escrowed();
    let available = 1000 * UNIT;
    let poor = Play::new(&world, rich).post_only(&mut world);
    assert_eq!(poor, Err(Error::Insufficient { account: id("client.near"), available, needed }));
    let task = world.task();
    let stolen = task.clone();
    let done = world.call(anybody().with(NEAR), |c| c.submit_task(stolen, None).map(|_| ()));
    assert_eq!(done, Err(Error::Forbidden(id("stranger.near"))));
    let mut play = Play::new(&world, task);
    play.post_only(&mut world).unwrap();
    let next = Task { nonce: 2, ..play.task.clone() };
    assert_eq!(Play::new(&world, next).post_only(&mut world), Err(Error::LaneBusy));
    // Another lane is another slot.
    let task = world.task_in(1);
    Play::new(&world, task).post_only(&mut world).unwrap();
    world.check_books(2 * play.task.escrowed());
}

#[test]
fn a_cancelled_task_returns_whole_until_it_is_assigned() {
    let mut world = World::new();
    let before = world.vault("client.near");
    let task = world.task();
    let mut play = Play::new(&world, task);
    play.post_only(&mut world).unwrap();
    let task = play.task.clone();
    let stranger = world.call(anybody().with(1), |c| c.cancel(task));
    assert_eq!(stranger, Err(Error::Forbidden(id("stranger.near"))));
    let task = play.task.clone();
    world.call(client(), |c| c.cancel(task)).unwrap();
    assert_eq!(world.vault("client.near"), before);
    let task = world.task();
    let play = Play::start(&mut world, task);
    let task = play.task.clone();
    assert_eq!(world.call(client(), |c| c.cancel(task)), Err(Error::NotOpen));
}

#[test]
fn a_commitment_without_signature_needs_the_seats_key_in_a_direct_call() {
    let mut world = World::new();
    let task = world.task();
    let play = Play::start(&mut world, task);
    let bare = Commitment { signature: None, ..play.commitment(0, &DIGEST) };
    let commit = |world: &mut World, caller: Caller| {
        let ((task, committee), given) = (play.both(), vec![bare.clone()]);
        world.call(caller, |c| c.commit(task, committee, given))
    };
    assert_eq!(commit(&mut world, anybody()), Err(Error::BadSignature(0)));
    assert_eq!(commit(&mut world, operates(1)), Err(Error::BadSignature(0)));
    assert_eq!(commit(&mut world, Caller::of(owner(0).as_str())), Err(Error::BadSignature(0)));
    // A contract that the operator called is not the operator.
    let through = Caller { account: id("contract.near"), ..operates(0) };
    assert_eq!(commit(&mut world, through), Err(Error::BadSignature(0)));
    commit(&mut world, operates(0)).unwrap();
    assert_eq!(commit(&mut world, operates(0)), Err(Error::SeatTaken(0)));
}

#[test]
fn a_relayed_bundle_passes_over_seats_that_were_faster() {
    let mut world = World::new();
    let task = world.task();
    let mut play = Play::start(&mut world, task);
    play.commit(&mut world, &[1]).unwrap();
    let given: Vec<_> = (0..3).map(|seat| play.commitment(seat, &DIGEST)).collect();
    let (task, committee) = play.both();
    world.call(anybody(), |c| c.commit(task, committee, given)).unwrap();
    assert_eq!(world.lane(0).committed, 0b111);
    assert_eq!(world.events().len(), 2);
    let (task, committee) = play.both();
    let none = world.call(anybody(), |c| c.commit(task, committee, vec![]));
    assert_eq!(none, Err(Error::SeatTaken(0)));
}

#[test]
fn nothing_of_a_finished_task_stays_and_a_lane_never_grows() {
    let mut world = World::new();
    let task = Task { policy: 128, ..world.task() };
    let play = Play::committed(&mut world, task);
    let size =
        |world: &World| world.storage.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    let busy = size(&world);
    let approvals = (0..3).map(|seat| play.approval(seat, 0b111)).collect();
    play.finalise(&mut world, anybody(), play.openings(&[]), approvals).unwrap();
    assert_eq!(size(&world), busy);
    let records = world.storage.len();
    for _ in 0..3 {
        let task = world.task();
        let play = Play::committed(&mut world, task);
        play.finalise(&mut world, anybody(), play.openings(&[]), vec![]).unwrap();
    }
    assert_eq!((size(&world), world.storage.len()), (busy, records));
}

#[test]
fn the_last_nonce_of_a_lane_closes_it_for_ever() {
    let mut world = World::new();
    let task = world.task();
    let mut play = Play::new(&world, task);
    play.post_only(&mut world).unwrap();
    let task = play.task.clone();
    world.call(client(), |c| c.cancel(task)).unwrap();
    let lane = play.key();
    world
        .call(client(), |c| {
            let Some(LaneRecord::V1(record)) = c.lanes.get_mut(&lane) else { panic!() };
            (record.nonce, record.closed) = (u32::MAX, u32::MAX);
            Ok(())
        })
        .unwrap();
    let task = Task { nonce: u32::MAX, ..play.task.clone() };
    assert_eq!(Play::new(&world, task).post_only(&mut world), Err(Error::NotOpen));
}
