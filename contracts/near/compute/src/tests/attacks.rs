//! The attacks of the escrow's design on commitments, openings and time, one test each, and what they gain.
use super::*;

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
fn a_digest_told_early_to_a_partner_pays_neither_of_them() {
    // Node 3 guesses and tells node 4: two equal wrong digests of five neither win nor come back.
    let mut world = World::with_nodes(5);
    let before = world.vault("client.near");
    let task = Task { seats: 5, ..world.task() };
    let mut play = Play::start(&mut world, task);
    let digest = |seat: usize| if seat < 3 { DIGEST } else { OTHER };
    let commits: Vec<_> = (0..5).map(|seat| (seat, digest(seat))).collect();
    play.commit_as(&mut world, &commits).unwrap();
    play.finalise(&mut world, client(), play.openings_as(digest, &[]), vec![]).unwrap();
    assert_eq!(verdicts(&world), [2, 2, 2, 3, 3]);
    assert_eq!(world.vault(owner(3).as_str()) + world.vault(owner(4).as_str()), 0);
    assert_eq!(world.vault("client.near"), before - 5 * FEE, "its own tip came back, and no fee");
    assert!(world.node(3).reputation < 100_000);
    assert_eq!(world.node(3).bonded.0, 2 * STAKE);
    world.check_books(0);
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
fn nobody_finalises_without_somebodys_approval() {
    let mut world = World::new();
    let task = Task { policy: 128, ..world.task() };
    let play = Play::committed(&mut world, task);
    let two = || vec![play.approval(0, 0b111), play.approval(1, 0b111)];
    let finalise =
        |world: &mut World, approvals| play.finalise(world, anybody(), play.openings(&[]), approvals);
    assert_eq!(finalise(&mut world, vec![]), Err(Error::BadApproval));
    assert_eq!(finalise(&mut world, two()), Err(Error::BadApproval));
    // The one on chain counts beside those sent along, and before another of the same seat.
    play.reveal(&mut world, play.openings(&[])).unwrap();
    play.approve(&mut world, play.approval(2, 0b111)).unwrap();
    let mut three = two();
    three.push(play.approval(2, 0b100));
    finalise(&mut world, three).unwrap();
    assert_eq!(verdicts(&world), [2, 2, 2]);
    world.check_books(0);
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
