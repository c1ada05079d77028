//! Transfers that the token refuses, and what happens while they are on their way.
use super::*;

fn world() -> World {
    let mut world = World::new();
    world.open(&chan(), DEPOSIT).unwrap();
    world
}

#[test]
fn what_the_token_refuses_waits_for_the_owner_and_for_nobody_else() {
    let mut world = world();
    world.refused = vec![id(&owner(0))];
    let voucher = world.voucher(&chan(), 3 * UNIT);
    world.redeem(&chan(), &voucher).unwrap();
    let told = world.event("transfer_failed");
    assert_eq!((&told["to"], &told["amount"]), (&owner(0).into(), &(3 * UNIT).to_string().into()));
    assert_eq!(told["channel_id"], world.id_of(&chan()).to_string());
    let c = world.channel(&chan());
    assert_eq!((c.claimed.0, c.due_owner.0, c.due_client.0), (3 * UNIT, 3 * UNIT, 0));
    assert_eq!(world.redeem(&chan(), &voucher), Err(Error::NothingNew(3 * UNIT)), "it was redeemed");
    world.check_books(&[chan()]);
    world.pay_due(&chan()).unwrap(); // still refused
    assert_eq!(world.event("due_sent")["amount"], (3 * UNIT).to_string());
    assert_eq!(world.channel(&chan()).due_owner.0, 3 * UNIT);
    world.refused.clear();
    world.pay_due(&chan()).unwrap();
    assert_eq!((world.has(&owner(0)), world.channel(&chan()).due_owner.0), (3 * UNIT, 0));
    assert_eq!(world.pay_due(&chan()), Err(Error::NothingDue), "once");
    let strange = channel(CLIENT, node(1), 0);
    assert_eq!(world.pay_due(&strange), Err(Error::NothingDue));
    world.check_books(&[chan()]);
}

#[test]
fn a_close_whose_transfers_fail_owes_each_party_its_own() {
    for refused in [vec![owner(0)], vec![CLIENT.to_string()], vec![owner(0), CLIENT.to_string()]] {
        let mut world = world();
        world.refused = refused.iter().map(|name| id(name)).collect();
        let last = world.voucher(&chan(), 40 * UNIT);
        world.close(&chan(), Some(&last)).unwrap();
        let c = world.channel(&chan());
        let due = |name: &str, amount| if refused.iter().any(|one| one == name) { amount } else { 0 };
        assert_eq!((c.state, c.deposit.0, c.claimed.0), (State::Closed, 0, 0));
        assert_eq!(c.due_owner.0, due(&owner(0), 40 * UNIT));
        assert_eq!(c.due_client.0, due(CLIENT, 60 * UNIT));
        world.check_books(&[chan()]);
        world.refused.clear();
        world.pay_due(&chan()).unwrap();
        assert_eq!((world.has(&owner(0)), world.has(CONTRACT)), (40 * UNIT, 0));
        assert_eq!(world.has(CLIENT), SUPPLY / 2 - 40 * UNIT);
    }
}

#[test]
fn money_on_its_way_survives_a_close_and_another_epoch() {
    let mut world = world();
    world.is_slow = true;
    world.refused = vec![id(&owner(0)), id(CLIENT)];
    world.pays(&chan(), 10 * UNIT).unwrap();
    // Before the token has answered the owner closes and the client opens anew.
    world.close(&chan(), None).unwrap();
    world.open(&chan(), 7).unwrap();
    world.settle();
    let c = world.channel(&chan());
    assert_eq!((c.epoch, c.deposit.0, c.claimed.0), (2, 7, 0), "nothing falls back into another epoch");
    assert_eq!((c.due_owner.0, c.due_client.0), (10 * UNIT, 90 * UNIT));
    world.check_books(&[chan()]);
    // What is due is no part of the new deposit.
    world.pays(&chan(), DEPOSIT).unwrap();
    world.settle();
    assert_eq!(world.channel(&chan()).due_owner.0, 10 * UNIT + 7);
    world.refused.clear();
    world.pay_due(&chan()).unwrap();
    assert_eq!(world.pay_due(&chan()), Err(Error::NothingDue), "not twice while it is on its way");
    world.settle();
    assert_eq!((world.has(&owner(0)), world.has(CONTRACT)), (10 * UNIT + 7, 0));
    world.check_books(&[chan()]);
}

#[test]
fn a_transfer_that_fails_after_the_challenge_period_costs_the_owner_nothing() {
    let mut world = world();
    world.is_slow = true;
    world.request_close(&chan()).unwrap();
    world.now = world.channel(&chan()).closes_at;
    world.refused = vec![id(&owner(0))];
    world.pays(&chan(), 30 * UNIT).unwrap();
    world.now += 1;
    world.finish(&chan()).unwrap();
    world.settle();
    assert_eq!(world.has(CLIENT), SUPPLY / 2 - 30 * UNIT);
    assert_eq!(world.channel(&chan()).due_owner.0, 30 * UNIT);
    world.check_books(&[chan()]);
}

#[test]
fn of_a_batch_only_the_refused_owners_parts_come_back_to_their_channels() {
    let mut world = World::new();
    let all: Vec<Channel> = (0..4).map(|i| channel(CLIENT, node(i % 2), i)).collect();
    let mut vouchers = vec![];
    for (i, c) in all.iter().enumerate() {
        world.open(c, DEPOSIT).unwrap();
        vouchers.push(world.signed_by(c, i, 1, 10u128.pow(i as u32)));
    }
    world.refused = vec![id(&owner(1))];
    world.redeem_many(&all.iter().zip(&vouchers).collect::<Vec<_>>()).unwrap();
    assert_eq!(world.has(&owner(0)), 101);
    let due: Vec<u128> = all.iter().map(|c| world.channel(c).due_owner.0).collect();
    assert_eq!(due, [0, 10, 0, 1000]);
    world.check_books(&all);
}

/// The callback of the largest batch, with the longest names and amounts and nothing arrived, still fits the chain's
/// limits of logs and gas: a callback that fails would lose what it should have put back.
#[test]
fn the_largest_batch_with_the_longest_of_everything_loses_nothing() {
    let mut world = World::new();
    let mut all = vec![];
    for i in 0..MAX_BATCH {
        let longest = id(&format!("{:x>64}", format!(".{}", i % 8)));
        let c = channel(CLIENT, NodeId::new(&longest, u32::MAX - i as u32), 0);
        world.put(world.id_of(&c), Record { deposit: MAX_AMOUNT, epoch: 1, ..Record::default() });
        world.refused.push(longest);
        all.push(c);
    }
    let vouchers: Vec<Voucher> = all.iter().map(|c| world.voucher(c, MAX_AMOUNT)).collect();
    world.redeem_many(&all.iter().zip(&vouchers).collect::<Vec<_>>()).unwrap();
    let logged: usize = world.logs.iter().map(String::len).sum();
    assert!(logged > 16 * 1024 && logged < 2 * 16 * 1024, "{logged} bytes in two receipts");
    assert_eq!(world.events().len(), 2 * MAX_BATCH);
    assert!(all.iter().all(|c| world.channel(c).due_owner.0 == MAX_AMOUNT));
}
