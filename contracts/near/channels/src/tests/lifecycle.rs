//! The table of `deai/channels.py`: what each call does, and that every other is refused.
use super::*;

fn closed(world: &World, epoch: u32) {
    let c = world.channel(&chan());
    assert_eq!((c.state, c.deposit.0 + c.claimed.0, c.closes_at, c.epoch), (State::Closed, 0, 0, epoch));
}

#[test]
fn a_deposit_opens_a_channel() {
    let mut world = World::new();
    assert_eq!(world.channel(&chan()).state, State::None);
    world.open(&chan(), DEPOSIT).unwrap();
    let told = world.event("channel_opened");
    assert_eq!(told["channel_id"], world.id_of(&chan()).to_string());
    assert_eq!(told["client"], CLIENT);
    assert_eq!(told["node"], "provider-0.near#0");
    assert_eq!(told["session_key"], key(0).to_string());
    assert_eq!((&told["epoch"], &told["deposit"]), (&1.into(), &DEPOSIT.to_string().into()));
    let c = world.channel(&chan());
    assert_eq!((c.state, c.deposit.0, c.claimed.0, c.closes_at, c.epoch), (State::Open, DEPOSIT, 0, 0, 1));
    assert_eq!(world.has(CONTRACT), DEPOSIT);
    assert_eq!(world.view(|it| it.channel_id(chan())), world.id_of(&chan()));
    let listed = world.view(|it| it.get_channels(vec![Word::ZERO, world.id_of(&chan())])).unwrap();
    assert_eq!(listed.iter().map(|one| one.state).collect::<Vec<_>>(), [State::None, State::Open]);
    assert_eq!(world.view(|it| it.get_channels(vec![Word::ZERO; 101])), Err(Error::BadData));
}

#[test]
fn a_voucher_pays_the_difference_to_the_owner_whoever_brings_it() {
    let mut world = World::new();
    world.open(&chan(), DEPOSIT).unwrap();
    world.pays(&chan(), 3 * UNIT).unwrap();
    world.pays(&chan(), 5 * UNIT).unwrap();
    let told = world.event("voucher_redeemed");
    assert_eq!(told["paid"], (2 * UNIT).to_string());
    assert_eq!(told["claimed"], (5 * UNIT).to_string());
    assert_eq!(told["receipts_root"], ROOT.to_string());
    assert_eq!(world.has(&owner(0)), 5 * UNIT);
    assert_eq!(world.channel(&chan()).state, State::Open);
    world.check_books(&[chan()]);
}

#[test]
fn anybody_tops_up_an_open_channel() {
    let mut world = World::new();
    world.open(&chan(), DEPOSIT).unwrap();
    let message = serde_json::json!({ "top_up": { "channel_id": world.id_of(&chan()) } }).to_string();
    world.pay_in(OTHER, 7, &message).unwrap();
    let told = world.event("channel_topped_up");
    assert_eq!((&told["amount"], &told["deposit"]), (&"7".into(), &(DEPOSIT + 7).to_string().into()));
    assert_eq!(world.channel(&chan()).epoch, 1, "the same channel");
}

#[test]
fn the_owner_closes_at_once_with_the_last_voucher() {
    let mut world = World::new();
    world.open(&chan(), DEPOSIT).unwrap();
    world.pays(&chan(), UNIT).unwrap();
    let last = world.voucher(&chan(), 4 * UNIT);
    world.close(&chan(), Some(&last)).unwrap();
    assert_eq!(world.event("voucher_redeemed")["paid"], (3 * UNIT).to_string());
    let told = world.event("channel_closed");
    assert_eq!((&told["epoch"], &told["claimed"]), (&1.into(), &(4 * UNIT).to_string().into()));
    assert_eq!(told["refunded"], (DEPOSIT - 4 * UNIT).to_string());
    assert_eq!((world.has(&owner(0)), world.has(CLIENT)), (4 * UNIT, SUPPLY / 2 - 4 * UNIT));
    assert_eq!(world.has(CONTRACT), 0, "nothing stays");
    closed(&world, 1);
}

#[test]
fn the_owner_closes_without_a_voucher_or_with_one_that_adds_nothing() {
    let mut world = World::new();
    for round in 0..3 {
        world.open(&chan(), DEPOSIT).unwrap();
        let before = world.has(CLIENT);
        world.pays(&chan(), DEPOSIT / 2).unwrap();
        let last = [None, Some(1), Some(DEPOSIT / 2)][round].map(|amount| world.voucher(&chan(), amount));
        world.close(&chan(), last.as_ref()).unwrap();
        assert_eq!(world.has(CLIENT) - before, DEPOSIT / 2);
    }
    assert_eq!(world.has(&owner(0)), 3 * (DEPOSIT / 2), "paid once each");
    closed(&world, 3);
}

#[test]
fn a_channel_spent_to_the_end_closes_without_a_refund() {
    let mut world = World::new();
    world.open(&chan(), DEPOSIT).unwrap();
    let before = world.has(CLIENT);
    let last = world.voucher(&chan(), DEPOSIT + 5);
    world.close(&chan(), Some(&last)).unwrap();
    assert_eq!((world.has(&owner(0)), world.has(CLIENT)), (DEPOSIT, before));
    world.open(&chan(), DEPOSIT).unwrap();
    world.pays(&chan(), DEPOSIT).unwrap();
    world.request_close(&chan()).unwrap();
    world.after_period(&chan());
    world.finish(&chan()).unwrap();
    assert!(world.sent.is_empty(), "a transfer of nothing would fail");
    closed(&world, 2);
}

#[test]
fn the_client_gets_the_rest_after_the_challenge_period() {
    let mut world = World::new();
    world.open(&chan(), DEPOSIT).unwrap();
    let end = world.now + PERIOD;
    world.request_close(&chan()).unwrap();
    assert_eq!(world.event("channel_closing")["closes_at"], end);
    world.now = end; // in the last second
    world.pays(&chan(), 6 * UNIT).unwrap();
    assert_eq!(world.finish(&chan()), Err(Error::TooEarly(end)));
    world.now = end + 1;
    let before = world.has(CLIENT);
    world.finish(&chan()).unwrap();
    assert_eq!(world.has(CLIENT) - before, DEPOSIT - 6 * UNIT);
    assert_eq!(world.has(&owner(0)), 6 * UNIT, "a newer voucher wins");
    closed(&world, 1);
}

#[test]
fn the_owner_may_end_the_challenge_period() {
    let mut world = World::new();
    world.open(&chan(), DEPOSIT).unwrap();
    world.request_close(&chan()).unwrap();
    let last = world.voucher(&chan(), 2 * UNIT);
    world.close(&chan(), Some(&last)).unwrap();
    assert_eq!(world.has(&owner(0)), 2 * UNIT);
    world.open(&chan(), DEPOSIT).unwrap();
    world.request_close(&chan()).unwrap();
    world.after_period(&chan());
    world.close(&chan(), None).unwrap();
    closed(&world, 2);
}

#[test]
fn a_closed_channel_opens_again_in_its_record() {
    let mut world = World::new();
    world.open(&chan(), DEPOSIT).unwrap();
    let stored = world.storage.len();
    world.close(&chan(), None).unwrap();
    world.open(&chan(), 5).unwrap();
    let c = world.channel(&chan());
    assert_eq!((c.state, c.epoch, c.deposit.0, c.claimed.0), (State::Open, 2, 5, 0));
    assert_eq!(world.storage.len(), stored);
}

#[test]
fn only_the_owner_closes_and_only_the_client_asks() {
    let mut world = World::new();
    world.open(&chan(), DEPOSIT).unwrap();
    for other in [CLIENT, OTHER, "stranger.near"] {
        let done = world.call(full(other), |c| c.close(chan(), None));
        assert_eq!(done, Err(Error::Forbidden(id(other))));
    }
    for other in [owner(0).as_str(), OTHER, "stranger.near"] {
        let done = world.call(full(other), |c| c.request_close(chan()));
        assert_eq!(done, Err(Error::Forbidden(id(other))));
    }
    for wrong in [0, 2, NEAR] {
        let one_yocto = Err(Error::OneYocto(NearToken::from_yoctonear(wrong)));
        let caller = |name: &str| Caller::of(name).with(wrong);
        assert_eq!(world.call(caller(&owner(0)), |c| c.close(chan(), None)), one_yocto, "a hot key");
        assert_eq!(world.call(caller(CLIENT), |c| c.request_close(chan())), one_yocto);
    }
}

#[test]
fn a_step_is_in_the_table_or_refused() {
    let mut world = World::new();
    let voucher = world.signed_by(&chan(), 0, 1, UNIT);
    let refuses = |world: &mut World, state: State| {
        let refused = Err(world.bad_state(&chan(), state));
        assert_eq!(world.redeem(&chan(), &voucher), refused);
        assert_eq!(world.close(&chan(), Some(&voucher)), refused);
        assert_eq!(world.close(&chan(), None), refused);
        assert_eq!(world.request_close(&chan()), refused);
        assert_eq!(world.finish(&chan()), refused);
        assert_eq!(world.top_up(&chan(), 1), refused);
    };
    refuses(&mut world, State::None);
    world.open(&chan(), DEPOSIT).unwrap();
    let open = Err(world.bad_state(&chan(), State::Open));
    assert_eq!(world.open(&chan(), DEPOSIT), open);
    assert_eq!(world.finish(&chan()), open);
    world.request_close(&chan()).unwrap();
    let closing = Err(world.bad_state(&chan(), State::Closing));
    assert_eq!(world.open(&chan(), DEPOSIT), closing);
    assert_eq!(world.top_up(&chan(), 1), closing);
    assert_eq!(world.request_close(&chan()), closing);
    world.close(&chan(), Some(&voucher)).unwrap();
    refuses(&mut world, State::Closed);
}

#[test]
fn many_channels_are_redeemed_at_once_and_each_owner_paid_once() {
    let mut world = World::new();
    let all: Vec<Channel> =
        [0, 0, 1, 1, 0].iter().enumerate().map(|(i, of)| channel(CLIENT, node(*of), i)).collect();
    let mut vouchers = vec![];
    for (i, c) in all.iter().enumerate() {
        world.open(c, DEPOSIT).unwrap();
        vouchers.push(world.signed_by(c, i, 1, 10u128.pow(i as u32)));
    }
    let batch: Vec<_> = all.iter().zip(&vouchers).collect();
    world.redeem_many(&batch).unwrap();
    assert_eq!((world.has(&owner(0)), world.has(&owner(1))), (10_011, 1_100));
    assert_eq!(world.sent.len(), 3, "two transfers and one callback");
    for (i, c) in all.iter().enumerate() {
        assert_eq!(world.channel(c).claimed.0, 10u128.pow(i as u32));
    }
    let most: Vec<_> = batch.iter().cycle().take(MAX_BATCH + 1).copied().collect();
    assert_eq!(world.redeem_many(&most), Err(Error::BadData));
    world.check_books(&all);
}

#[test]
fn one_bad_voucher_does_not_sink_the_others() {
    let mut world = World::new();
    let all: Vec<Channel> = (0..8).map(|i| channel(CLIENT, node(0), i)).collect();
    let mut vouchers = vec![];
    for (i, c) in all.iter().enumerate() {
        if i != 2 {
            world.open(c, DEPOSIT).unwrap();
        }
        vouchers.push(world.signed_by(c, i, 1, UNIT));
    }
    vouchers[1] = world.signed_by(&all[1], 0, 1, UNIT); // another channel's key
    world.redeem(&all[3], &vouchers[3]).unwrap(); // somebody was faster
    world.request_close(&all[4]).unwrap();
    world.after_period(&all[4]);
    vouchers[5].cumulative_amount = U128(0);
    vouchers[6].cumulative_amount = U128(MAX_AMOUNT + 1);
    let batch: Vec<_> = all.iter().zip(&vouchers).collect();
    world.redeem_many(&batch).unwrap();
    let skipped: Vec<_> = world.events().into_iter().filter(|e| e["event"] == "voucher_skipped").collect();
    let names = ["BAD_SIGNATURE", "BAD_STATE", "NOTHING_NEW", "TOO_LATE", "NOTHING_NEW", "BAD_DATA"];
    assert_eq!(skipped.len(), names.len());
    for ((event, name), c) in skipped.iter().zip(names).zip(&all[1..]) {
        assert_eq!(event["data"]["reason"], format!("E_{name}"));
        assert_eq!(event["data"]["channel_id"], world.id_of(c).to_string());
    }
    assert_eq!(world.has(&owner(0)), 3 * UNIT, "the first, the last, and the one redeemed before");
    assert_eq!(world.redeem_many(&batch), Err(Error::NothingRedeemed));
    assert_eq!(world.redeem_many(&[]), Err(Error::NothingRedeemed));
    world.check_books(&all);
}

#[test]
fn one_channel_twice_in_a_batch_pays_the_largest_once() {
    let mut world = World::new();
    world.open(&chan(), DEPOSIT).unwrap();
    let vouchers = [4, 9, 6].map(|amount| world.voucher(&chan(), amount));
    let c = chan();
    world.redeem_many(&vouchers.each_ref().map(|v| (&c, v))).unwrap();
    assert_eq!(world.has(&owner(0)), 9);
    assert_eq!(world.event("voucher_skipped")["reason"], "E_NOTHING_NEW");
}
