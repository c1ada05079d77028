//! Tasks that are not taken, and those that end with nothing.
use super::*;
use crate::lanes::LaneRecord;

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
fn lanes_are_listed_in_pages_of_a_hundred_numbers() {
    let mut world = World::new();
    for lane in [0, 2, 99, 100, u32::MAX - 1] {
        let task = world.task_in(lane);
        Play::new(&world, task).post_only(&mut world).unwrap();
    }
    let page = |from, limit| -> Vec<u32> {
        let lanes = world.view(|c| c.get_lanes(id("client.near"), from, limit));
        assert!(lanes.iter().all(|lane| (lane.nonce, lane.closed) == (1, 0)));
        lanes.iter().map(|lane| lane.lane).collect()
    };
    assert_eq!(page(None, None), [0, 2, 99]);
    assert_eq!(page(None, Some(u32::MAX)), [0, 2, 99], "not more of them for whoever asks for more");
    assert_eq!(page(Some(1), Some(99)), [2, 99]);
    assert_eq!(page(Some(100), None), [100]);
    assert_eq!(page(Some(u32::MAX - 50), None), [u32::MAX - 1], "the last page ends with the numbers");
    assert!(page(Some(0), Some(0)).is_empty());
    assert!(world.view(|c| c.get_lanes(id("stranger.near"), None, None)).is_empty());
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
