//! Who is paid, and what it does to reputation.
use super::*;

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
