//! Vouchers that should not pay, closes that should not win, and the edges of a channel's record.
use super::*;

fn world() -> World {
    let mut world = World::new();
    world.open(&chan(), DEPOSIT).unwrap();
    world
}

fn bad(world: &mut World, voucher: &Voucher) {
    let before = world.storage.clone();
    assert_eq!(world.redeem(&chan(), voucher), Err(Error::BadSignature));
    assert!(world.storage == before);
}

#[test]
fn a_lower_or_equal_voucher_pays_nothing() {
    let mut world = world();
    world.pays(&chan(), 5 * UNIT).unwrap();
    for amount in [5 * UNIT, 4 * UNIT, 1, 0] {
        assert_eq!(world.pays(&chan(), amount), Err(Error::NothingNew(5 * UNIT)));
    }
    assert_eq!(world.has(&owner(0)), 5 * UNIT, "once");
}

#[test]
fn a_voucher_above_the_deposit_pays_the_deposit_and_more_only_when_it_grows() {
    let mut world = world();
    let voucher = world.voucher(&chan(), DEPOSIT + 4);
    world.redeem(&chan(), &voucher).unwrap();
    assert_eq!(world.has(&owner(0)), DEPOSIT);
    assert_eq!(world.redeem(&chan(), &voucher), Err(Error::NothingNew(DEPOSIT)));
    world.top_up(&chan(), 10).unwrap();
    world.redeem(&chan(), &voucher).unwrap();
    assert_eq!(world.has(&owner(0)), DEPOSIT + 4, "what was promised");
}

#[test]
fn two_vouchers_for_one_window_pay_once() {
    let mut world = world();
    let one = world.voucher(&chan(), UNIT);
    let other = Voucher { receipts_root: Word([7; 32]), ..one.clone() };
    bad(&mut world, &other); // the root is signed
    world.redeem(&chan(), &one).unwrap();
    assert_eq!(world.redeem(&chan(), &other), Err(Error::NothingNew(UNIT)));
}

#[test]
fn vouchers_of_another_epoch_are_worth_nothing() {
    let mut world = world();
    let old = world.voucher(&chan(), 9 * UNIT);
    world.close(&chan(), Some(&old)).unwrap();
    let refused = Err(world.bad_state(&chan(), State::Closed));
    assert_eq!(world.redeem(&chan(), &old), refused);
    world.open(&chan(), DEPOSIT).unwrap();
    bad(&mut world, &old);
    let ahead = world.signed_by(&chan(), 0, 3, 9 * UNIT);
    bad(&mut world, &ahead);
    assert_eq!(world.close(&chan(), Some(&old)), Err(Error::BadSignature));
    assert_eq!(world.has(&owner(0)), 9 * UNIT, "once");
    world.pays(&chan(), UNIT).unwrap();
    assert_eq!(world.has(&owner(0)), 10 * UNIT, "the new epoch pays from nought");
}

#[test]
fn vouchers_of_another_channel_are_worth_nothing_in_this_one() {
    let mut world = world();
    let sibling = NodeId::new(&id(&owner(0)), 1);
    let others = [channel(CLIENT, node(1), 0), channel(OTHER, node(0), 0), channel(CLIENT, sibling, 0)];
    for other in &others {
        world.open(other, DEPOSIT).unwrap();
        let voucher = world.voucher(other, UNIT);
        bad(&mut world, &voucher);
    }
    world.pays(&others[2], UNIT).unwrap();
    assert_eq!(world.has(&owner(0)), UNIT, "each channel of an owner pays by itself");
    assert_eq!(world.channel(&chan()).claimed.0, 0, "and touches no other");
}

#[test]
fn vouchers_of_another_chain_contract_or_domain_are_worth_nothing_here() {
    let mut world = world();
    let here = world.voucher(&chan(), UNIT);
    for (contract, chain) in [("channels2.near", CHAIN), (CONTRACT, "near:other")] {
        let mut there = World::at(contract, chain, parameters()).unwrap();
        there.call(Caller::of(CLIENT).with(NEAR), |c| c.storage_deposit(None, None)).unwrap();
        assert!(there.id_of(&chan()) != world.id_of(&chan()), "the id binds chain and contract");
        there.open(&chan(), DEPOSIT).unwrap();
        assert_eq!(there.redeem(&chan(), &here), Err(Error::BadSignature));
        let elsewhere = there.voucher(&chan(), UNIT);
        bad(&mut world, &elsewhere);
    }
    // The right id signed under the escrow's domain of this very account.
    let escrow = crate::hash::separator("deai escrow", CHAIN, &id(CONTRACT));
    let digest = signed::voucher(&escrow, &world.id_of(&chan()), 1, &here);
    let strange = Voucher { signature: Signature(session(0).sign(&digest).to_bytes()), ..here.clone() };
    bad(&mut world, &strange);
    world.redeem(&chan(), &here).unwrap();
}

#[test]
fn nothing_but_the_session_keys_signature_will_do() {
    let mut world = world();
    let good = world.voucher(&chan(), UNIT);
    bad(&mut world, &Voucher { signature: Signature([0; 64]), ..good.clone() });
    bad(&mut world, &Voucher { signature: Signature([0xFF; 64]), ..good.clone() });
    for byte in [0, 31, 32, 63] {
        let mut flipped = good.clone();
        flipped.signature.0[byte] ^= 1;
        bad(&mut world, &flipped);
    }
    bad(&mut world, &Voucher { cumulative_amount: U128(2 * UNIT), ..good.clone() });
    bad(&mut world, &Voucher { receipts_root: Word::ZERO, ..good.clone() });
    // The other half: s + the group's order signs the same, and is refused.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut other_half = good.clone();
    let mut carry = 0;
    for (byte, more) in other_half.signature.0[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(more) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    bad(&mut world, &other_half);
    for other in 1..20 {
        let voucher = world.signed_by(&chan(), other, 1, UNIT);
        bad(&mut world, &voucher);
    }
    world.redeem(&chan(), &good).unwrap();
}

#[test]
fn the_checks_come_in_the_order_of_the_core() {
    let mut world = World::new();
    let mut voucher = world.signed_by(&chan(), 1, 1, MAX_AMOUNT);
    let too_large = Voucher { cumulative_amount: U128(MAX_AMOUNT + 1), ..voucher.clone() };
    assert_eq!(world.redeem(&chan(), &too_large), Err(Error::BadData));
    let refused = Err(world.bad_state(&chan(), State::None));
    assert_eq!(world.redeem(&chan(), &voucher), refused);
    world.open(&chan(), DEPOSIT).unwrap();
    world.request_close(&chan()).unwrap();
    world.after_period(&chan());
    let end = world.now - 1;
    assert_eq!(world.redeem(&chan(), &too_large), Err(Error::BadData));
    assert_eq!(world.close(&chan(), Some(&too_large)), Err(Error::BadData));
    assert_eq!(world.redeem(&chan(), &voucher), Err(Error::TooLate(end)), "before the signature");
    voucher.cumulative_amount = U128(0);
    assert_eq!(world.redeem(&chan(), &voucher), Err(Error::NothingNew(0)), "before the time");
}

#[test]
fn a_stale_close_is_answered_by_whoever_holds_the_voucher() {
    let mut world = world();
    world.pays(&chan(), UNIT).unwrap();
    let last = world.voucher(&chan(), 80 * UNIT);
    world.request_close(&chan()).unwrap();
    world.now = world.channel(&chan()).closes_at;
    world.redeem(&chan(), &last).unwrap();
    assert_eq!(world.has(&owner(0)), 80 * UNIT, "to the owner, and in full");
    let before = world.has(CLIENT);
    world.after_period(&chan());
    world.finish(&chan()).unwrap();
    assert_eq!(world.has(CLIENT) - before, 20 * UNIT, "the client gets no more than its rest");
}

#[test]
fn a_voucher_that_comes_too_late_pays_neither_now_nor_in_another_epoch() {
    let mut world = world();
    let voucher = world.voucher(&chan(), UNIT);
    world.request_close(&chan()).unwrap();
    let end = world.channel(&chan()).closes_at;
    world.after_period(&chan());
    assert_eq!(world.redeem(&chan(), &voucher), Err(Error::TooLate(end)));
    assert_eq!(world.close(&chan(), Some(&voucher)), Err(Error::TooLate(end)));
    world.finish(&chan()).unwrap();
    world.now += 365 * 24 * 3600;
    let refused = Err(world.bad_state(&chan(), State::Closed));
    assert_eq!(world.redeem(&chan(), &voucher), refused);
    world.open(&chan(), DEPOSIT).unwrap();
    bad(&mut world, &voucher);
}

#[test]
fn the_client_gets_nothing_back_before_the_period_is_over() {
    let mut world = world();
    let before = world.has(CLIENT);
    world.request_close(&chan()).unwrap();
    let end = world.channel(&chan()).closes_at;
    world.now += 100;
    let closing = Err(world.bad_state(&chan(), State::Closing));
    assert_eq!(world.request_close(&chan()), closing, "asking again neither shortens nor prolongs it");
    world.now = end;
    assert_eq!(world.finish(&chan()), Err(Error::TooEarly(end)));
    assert_eq!(world.has(CLIENT), before);
}

#[test]
fn a_session_key_lives_as_long_as_its_channel() {
    let mut world = world();
    let next = channel(CLIENT, node(0), 1);
    world.open(&next, DEPOSIT).unwrap(); // a new key is a new channel; the old one goes on
    world.pays(&chan(), UNIT).unwrap();
    world.request_close(&chan()).unwrap();
    world.pays(&chan(), 2 * UNIT).unwrap(); // asking for the rest takes nothing from the node
    let voucher = world.signed_by(&next, 0, 1, UNIT);
    assert_eq!(world.redeem(&next, &voucher), Err(Error::BadSignature));
    assert_eq!(world.has(&owner(0)), 2 * UNIT);
}

#[test]
fn an_owner_that_closes_with_a_bad_voucher_has_not_closed() {
    let mut world = world();
    let good = world.voucher(&chan(), 7 * UNIT);
    let slip = Voucher { cumulative_amount: U128(7 * UNIT + 1), ..good.clone() };
    assert_eq!(world.close(&chan(), Some(&slip)), Err(Error::BadSignature));
    world.close(&chan(), Some(&good)).unwrap();
    assert_eq!(world.has(&owner(0)), 7 * UNIT, "nothing was lost by the slip");
}

#[test]
fn only_the_token_brings_money_and_only_with_a_channels_name() {
    let mut world = world();
    let message = serde_json::json!({ "open": { "node": node(1), "session_key": key(1) } }).to_string();
    for stranger in [OTHER, CONTRACT, "token2.near"] {
        let text = message.clone();
        let done = world.call(Caller::of(stranger), |c| c.ft_on_transfer(id(OTHER), U128(5), text));
        assert_eq!(done, Err(Error::Forbidden(id(stranger))));
    }
    let wrong = [
        String::new(),
        "\"open\"".into(),
        "{}".into(),
        format!("{{\"top_up\":{{\"channel_id\":\"{}\",\"more\":1}}}}", world.id_of(&chan())),
        message.replace("ed25519:", "secp256k1:"),
        message.replace("#0", "#00"),
        message.replace("#0", ""),
        format!("{message}{}", " ".repeat(512)),
    ];
    for text in wrong {
        assert_eq!(world.pay_in(OTHER, 5, &text), Err(Error::BadData), "{text}");
    }
    assert_eq!(world.open(&channel(OTHER, node(1), 1), 0), Err(Error::BadData));
    assert_eq!(world.open(&chan(), 0), Err(Error::BadData), "before the state");
    let token = Caller::of(TOKEN);
    let done = world.call(token, |c| c.ft_on_transfer(id(OTHER), U128(MAX_AMOUNT + 1), message));
    assert_eq!(done, Err(Error::BadData));
}

#[test]
fn a_token_with_more_units_than_an_amount_holds_fills_no_channel_beyond_one() {
    let mut world = World::new();
    world.put(world.id_of(&chan()), Record { deposit: MAX_AMOUNT - 3, epoch: 1, ..Record::default() });
    assert_eq!(world.top_up(&chan(), 4), Err(Error::BadData));
    world.top_up(&chan(), 3).unwrap();
    assert_eq!(world.channel(&chan()).deposit.0, MAX_AMOUNT);
}

#[test]
fn the_last_epoch_is_the_last() {
    let mut world = World::new();
    let c = channel(CLIENT, node(3), 0);
    world.put(world.id_of(&c), Record { epoch: MAX_EPOCH - 1, ..Record::default() });
    assert_eq!(world.channel(&c).state, State::Closed);
    world.open(&c, DEPOSIT).unwrap();
    assert_eq!(world.channel(&c).epoch, MAX_EPOCH);
    world.pays(&c, UNIT).unwrap();
    world.close(&c, None).unwrap();
    let used_up = Err(Error::UsedUp(world.id_of(&c)));
    assert_eq!(world.open(&c, DEPOSIT), used_up);
}
