//! Deposits, withdrawals, NEAR for storage: exact to the yocto.
use super::*;

fn refunds(world: &World, to: &str) -> u128 {
    let amount = |one: &Sent| match one {
        Sent::Near(receiver, amount) if *receiver == id(to) => *amount,
        _ => 0,
    };
    world.sent.iter().map(amount).sum()
}

#[test]
fn tokens_come_in_only_from_the_token_and_only_for_registered_accounts() {
    let mut world = World::new();
    let fake = world.call(anybody(), |c| c.ft_on_transfer(id("stranger.near"), U128(5), String::new()));
    assert_eq!(fake, Err(Error::Forbidden(id("stranger.near"))));
    assert_eq!(world.deposit("new.near", 5), Err(Error::NotRegistered(id("new.near"))));
    let to_client = r#"{"deposit":{"account_id":"client.near"}}"#;
    world.pay_in("new.near", 5, to_client).unwrap();
    assert_eq!(world.vault("client.near"), 1000 * UNIT + 5);
    assert_eq!(world.event("deposited")["payer"], "new.near");
    assert_eq!(world.pay_in("client.near", 1 << 96, ""), Err(Error::BadData));
    for message in [
        "null",
        "{}",
        "deposit",
        "[]",
        "{\"deposit\":{}}",
        "{\"deposit\":{\"account_id\":\"B@d\"}}",
        "{\"deposit\":{\"account_id\":\"client.near\",\"x\":1}}",
        "{\"steal\":{}}",
        "{\"deposit\":{\"account_id\":\"client.near\"},\"add_stake\":{\"node\":\"a.near#0\"}}",
        "{\"add_stake\":{\"node\":\"☃#0\"}}",
        &format!("{{\"deposit\":{{\"account_id\":\"{}\"}}}}", "a".repeat(10_000)),
        &"[".repeat(4_000),
    ] {
        assert_eq!(world.pay_in("client.near", 5, message), Err(Error::BadData), "{message}");
    }
    world.check_books(0);
}

#[test]
fn a_withdrawal_arrives_or_comes_back() {
    let mut world = World::new();
    let all = 1000 * UNIT;
    let take = |world: &mut World, caller: Caller, amount: u128| {
        world.call(caller, |c| c.withdraw(id("cold.near"), U128(amount)).map(drop))
    };
    let hot = Caller { deposit: 0, ..client() };
    assert_eq!(take(&mut world, hot, 1), Err(Error::OneYocto(NearToken::from_yoctonear(0))));
    let two = client().with(2);
    assert_eq!(take(&mut world, two, 1), Err(Error::OneYocto(NearToken::from_yoctonear(2))));
    assert_eq!(take(&mut world, client(), 0), Err(Error::BadData));
    let needed = all + 1;
    let poor = Error::Insufficient { account: id("client.near"), available: all, needed };
    assert_eq!(take(&mut world, client(), needed), Err(poor));
    let unknown = Caller::of("new.near").with(1);
    assert_eq!(take(&mut world, unknown, 1), Err(Error::NotRegistered(id("new.near"))));
    world.token_refuses = true;
    take(&mut world, client(), all).unwrap();
    assert_eq!(world.event("transfer_failed")["to"], "cold.near");
    assert_eq!(world.vault("client.near"), all);
    world.check_books(0);
    take(&mut world, client(), all).unwrap();
    assert_eq!(world.event("withdrawn")["amount"], all.to_string());
    assert_eq!(world.tokens[&id("cold.near")], all);
    world.check_books(0);
}

#[test]
fn tokens_on_their_way_out_cannot_be_spent_again() {
    let mut world = World::new();
    // Between the call and its callback the money is gone, whatever else the account tries.
    world.run(client(), vec![], |c| c.withdraw(id("cold.near"), U128(1000 * UNIT)).map(drop)).unwrap();
    assert_eq!(world.vault("client.near"), 0);
    let again = world.run(client(), vec![], |c| c.withdraw(id("cold.near"), U128(1)).map(drop));
    assert!(matches!(again, Err(Error::Insufficient { available: 0, .. })));
    let task = world.task();
    let post = Play::new(&world, task).post_only(&mut world);
    assert!(matches!(post, Err(Error::Insufficient { available: 0, .. })));
}

#[test]
fn tokens_come_back_even_to_an_account_that_was_closed_meanwhile() {
    let mut world = World::new();
    world.deposit("stranger.near", 5).unwrap();
    let stranger = || anybody().with(1);
    world.run(stranger(), vec![], |c| c.withdraw(id("cold.near"), U128(5)).map(drop)).unwrap();
    assert!(world.run(stranger(), vec![], |c| c.storage_unregister(None)).unwrap());
    let callback = Caller::of(CONTRACT);
    let back = |c: &mut Compute| c.on_withdrawn(id("stranger.near"), id("cold.near"), U128(5));
    assert!(!world.run(callback, vec![PromiseResult::Failed], back).unwrap());
    assert_eq!(world.vault("stranger.near"), 5);
    world.check_books(0);
}

#[test]
fn there_is_nothing_to_burn_before_a_slash() {
    let mut world = World::new();
    assert_eq!(world.call(anybody(), |c| c.sweep_burns().map(drop)), Err(Error::BadData));
}

#[test]
fn a_lane_is_paid_once_and_the_rest_comes_back_exactly() {
    let mut world = World::new();
    let deposited =
        |world: &World| world.view(|c| c.storage_balance_of(id("client.near"))).unwrap().total.as_yoctonear();
    // The storage balance of the account comes first; what it lacks is taken from the deposit.
    let free = world.view(|c| c.storage_balance_of(id("client.near"))).unwrap().available;
    let one = NearToken::from_yoctonear(1);
    world.call(client(), |c| c.storage_withdraw(Some(free.saturating_sub(one)))).unwrap();
    assert_eq!(refunds(&world, "client.near"), free.as_yoctonear(), "the yocto comes back, too");
    let lane = world.view(|c| c.storage_cost(id("client.near"))).lane.as_yoctonear();
    let lacking = lane - 1;
    let before = deposited(&world);
    let post = |world: &mut World, deposit: u128| {
        let task = world.task();
        world.call(client().with(deposit), |c| c.submit_task(task, None).map(drop))
    };
    assert_eq!(post(&mut world, 0), Err(Error::OneYocto(NearToken::from_yoctonear(0))));
    assert_eq!(post(&mut world, 1), Err(Error::Storage(NearToken::from_yoctonear(lacking))));
    assert_eq!(post(&mut world, lacking - 1), Err(Error::Storage(NearToken::from_yoctonear(lacking))));
    post(&mut world, lacking + 12_345).unwrap();
    assert_eq!(refunds(&world, "client.near"), 12_345);
    assert_eq!(deposited(&world), before + lacking);
    let task = Task { nonce: 1, ..world.task() };
    world.call(client(), |c| c.cancel(task)).unwrap();
    // The second task of the lane needs nothing but the proof of a full-access key.
    post(&mut world, 500).unwrap();
    assert_eq!(refunds(&world, "client.near"), 499);
    assert_eq!(deposited(&world), before + lacking + 1);
}

#[test]
fn storage_is_deposited_withdrawn_and_given_up_to_the_yocto() {
    let mut world = World::new();
    let cost = world.view(|c| c.storage_cost(id("new.near"))).account.as_yoctonear();
    let deposit = |world: &mut World, amount: u128, only: Option<bool>| {
        world.call(Caller::of("new.near").with(amount), |c| c.storage_deposit(None, only))
    };
    assert!(matches!(deposit(&mut world, cost - 1, None), Err(Error::Storage(_))));
    let balance = deposit(&mut world, cost + 7, Some(true)).unwrap();
    assert_eq!((balance.total.as_yoctonear(), balance.available.as_yoctonear()), (cost, 0));
    assert_eq!(refunds(&world, "new.near"), 7);
    deposit(&mut world, 9, Some(true)).unwrap();
    assert_eq!(refunds(&world, "new.near"), 9, "registered already");
    let balance = deposit(&mut world, 9, None).unwrap();
    assert_eq!(balance.available.as_yoctonear(), 9);
    let more = NearToken::from_yoctonear(10);
    let caller = || Caller::of("new.near").with(1);
    let done = world.call(caller(), |c| c.storage_withdraw(Some(more)));
    assert!(matches!(done, Err(Error::Insufficient { available: 9, needed: 10, .. })));
    world.call(caller(), |c| c.storage_withdraw(None)).unwrap();
    assert_eq!(refunds(&world, "new.near"), 10);
    // Somebody else may pay, and gets its own change.
    let payer = Caller::of("payer.near").with(2 * cost);
    world.call(payer, |c| c.storage_deposit(Some(id("poor.near")), Some(true))).unwrap();
    assert!(refunds(&world, "payer.near") > 0);
    assert!(world.view(|c| c.storage_balance_of(id("poor.near"))).is_some());
    assert!(world.call(caller(), |c| c.storage_unregister(None)).unwrap());
    assert_eq!(refunds(&world, "new.near"), cost + 1);
    assert!(!world.call(caller(), |c| c.storage_unregister(Some(true))).unwrap());
    let bounds = world.view(|c| c.storage_balance_bounds());
    assert!(bounds.min.as_yoctonear() >= cost);
}

#[test]
fn an_account_in_use_cannot_be_closed() {
    let mut world = World::new();
    let close = |world: &mut World, who: &str| {
        world.call(Caller::of(who).with(1), |c| c.storage_unregister(Some(true)))
    };
    assert_eq!(close(&mut world, "client.near"), Err(Error::InUse), "holds tokens");
    assert_eq!(close(&mut world, owner(0).as_str()), Err(Error::InUse), "owns a node");
    assert_eq!(close(&mut world, "treasury.near"), Err(Error::InUse));
    let task = world.task();
    Play::new(&world, task).post_only(&mut world).unwrap();
    let rest = world.vault("client.near");
    world.call(client(), |c| c.withdraw(id("cold.near"), U128(rest)).map(drop)).unwrap();
    assert_eq!(close(&mut world, "client.near"), Err(Error::InUse), "has a lane with money in it");
    assert_eq!(close(&mut world, "stranger.near"), Ok(true));
}

#[test]
fn a_tip_or_bounty_for_nobodys_account_goes_back_or_up_in_smoke() {
    let mut world = World::new();
    let before = world.vault("client.near");
    let task = world.task();
    let play = Play::committed(&mut world, task);
    play.finalise(&mut world, Caller::of("new.near"), play.openings(&[]), vec![]).unwrap();
    assert_eq!(world.event("task_finalised")["tip"], "0");
    assert_eq!(world.vault("client.near"), before - 3 * FEE);
    world.check_books(0);
}

#[test]
fn fees_are_swept_to_the_treasury_once() {
    let mut world = World::new();
    let task = world.task();
    let play = Play::committed(&mut world, task);
    play.finalise(&mut world, client(), play.openings(&[]), vec![]).unwrap();
    let accrued = world.lane(0).accrued.0;
    assert!(accrued > 0);
    world.call(anybody(), |c| c.sweep(id("client.near"), vec![0, 0, 7])).unwrap();
    assert_eq!(world.event("fees_swept")["amount"], accrued.to_string());
    assert_eq!(world.vault("treasury.near"), accrued);
    assert_eq!(world.lane(0).accrued.0, 0);
    world.check_books(0);
    let many = world.call(anybody(), |c| c.sweep(id("client.near"), vec![0; 65]));
    assert_eq!(many, Err(Error::BadData));
}

#[test]
fn a_burn_that_the_token_refuses_waits() {
    let mut world = World::new();
    let task = world.task();
    let play = Play::committed(&mut world, task);
    let pair = (play.result(1, DIGEST, EVIDENCE), play.result(1, OTHER, EVIDENCE));
    play.evidence(&mut world, 1, pair.0, pair.1).unwrap();
    let due = world.view(|c| c.burn_due()).0;
    world.token_refuses = true;
    world.call(anybody(), |c| c.sweep_burns().map(drop)).unwrap();
    assert_eq!(world.view(|c| c.burn_due()).0, due);
    world.call(anybody(), |c| c.sweep_burns().map(drop)).unwrap();
    assert_eq!((world.view(|c| c.burn_due()).0, world.burned), (0, due));
    assert_eq!(world.event("burned")["amount"], due.to_string());
    world.check_books(play.task.escrowed());
}

#[test]
fn amounts_are_text_and_nothing_else() {
    let world = World::new();
    let task = serde_json::to_value(world.task()).unwrap();
    assert!(serde_json::from_value::<Task>(task.clone()).is_ok());
    for (name, value) in [
        ("fee", serde_json::json!(1000)),
        ("fee", serde_json::json!("-1")),
        ("fee", serde_json::json!("1e3")),
        ("fee", serde_json::json!("")),
        ("tip", serde_json::json!(null)),
        ("seats", serde_json::json!("3")),
        ("seats", serde_json::json!(256)),
        ("lane", serde_json::json!(-1)),
        ("nonce", serde_json::json!(1.5)),
        ("client", serde_json::json!("Client.near")),
        ("client", serde_json::json!("☃.near")),
        ("client", serde_json::json!("a".repeat(10_000))),
        ("spec_hash", serde_json::json!("0x05")),
        ("spec_hash", serde_json::json!("0X".to_owned() + &"05".repeat(32))),
        ("spec_hash", serde_json::json!("0x".to_owned() + &"0A".repeat(32))),
        ("spec_hash", serde_json::json!("é".repeat(33))),
        ("unknown", serde_json::json!(1)),
    ] {
        let mut changed = task.clone();
        changed[name] = value.clone();
        assert!(serde_json::from_value::<Task>(changed).is_err(), "{name} {value}");
    }
}
