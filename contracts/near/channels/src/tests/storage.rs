//! Who pays for what is stored, to the yocto.
use super::*;

const POOR: &str = "poor.near";

fn deposit(world: &mut World, amount: u128) -> Result<(), Error> {
    world.call(Caller::of(POOR).with(amount), |c| c.storage_deposit(None, None))
}

fn needed(amount: u128) -> Error {
    Error::Storage(NearToken::from_yoctonear(amount))
}

fn costs(world: &World) -> (u128, u128) {
    let cost = world.view(|c| c.storage_cost(id(POOR)));
    (cost.account.as_yoctonear(), cost.channel.as_yoctonear())
}

fn refunded(world: &World, to: &str) -> u128 {
    let back = |one: &Sent| match one {
        Sent::Near(receiver, amount) if *receiver == id(to) => *amount,
        other => panic!("{other:?}"),
    };
    world.sent.iter().map(back).sum()
}

#[test]
fn stored_bytes_are_what_the_accounts_pay_for() {
    let mut world = World::new();
    world.tokens.insert(id(POOR), 5);
    world.tokens.insert(id(OTHER), SUPPLY / 2 - 5);
    let used = |world: &World| -> u64 {
        world.storage.iter().map(|(key, value)| (key.len() + value.len()) as u64 + 40).sum()
    };
    let (account, channel_cost) = costs(&world);
    let byte = env::storage_byte_cost().as_yoctonear();
    let before = used(&world);
    deposit(&mut world, account).unwrap();
    assert_eq!(u128::from(used(&world) - before) * byte, account);
    let c = channel(POOR, node(0), 0);
    assert_eq!(world.open(&c, 5), Err(needed(channel_cost)));
    deposit(&mut world, channel_cost - 1).unwrap();
    assert_eq!(world.open(&c, 5), Err(needed(1)));
    deposit(&mut world, 1).unwrap();
    let before = used(&world);
    world.open(&c, 5).unwrap();
    assert_eq!(u128::from(used(&world) - before) * byte, channel_cost);
    // Bought once: no other event grows it.
    let full_size = used(&world);
    world.pays(&c, 3).unwrap();
    world.request_close(&c).unwrap();
    world.refused = vec![id(POOR)];
    world.close(&c, None).unwrap();
    assert_eq!(world.channel(&c).due_client.0, 2);
    world.refused.clear();
    world.pay_due(&c).unwrap();
    world.open(&c, 2).unwrap();
    assert_eq!(used(&world), full_size);
}

#[test]
fn a_client_that_paid_for_nothing_opens_nothing() {
    let mut world = World::new();
    world.tokens.insert(id(POOR), 5);
    assert_eq!(world.open(&channel(POOR, node(0), 0), 5), Err(Error::NotRegistered(id(POOR))));
}

#[test]
fn too_little_is_refused_and_too_much_sent_back() {
    let mut world = World::new();
    let (account, _) = costs(&world);
    assert_eq!(deposit(&mut world, account - 1), Err(needed(account)));
    assert_eq!(deposit(&mut world, 0), Err(needed(account)));
    let only = |world: &mut World, amount| {
        let payer = Caller::of(OTHER).with(amount);
        world.call(payer, |c| c.storage_deposit(Some(id(POOR)), Some(true)))
    };
    only(&mut world, account + 9).unwrap();
    assert_eq!(refunded(&world, OTHER), 9, "to who paid");
    only(&mut world, 77).unwrap();
    assert_eq!(refunded(&world, OTHER), 77, "it is there already");
    deposit(&mut world, 50).unwrap();
    let held = world.view(|c| c.storage_balance_of(id(POOR))).unwrap();
    assert_eq!((held.total.as_yoctonear(), held.available.as_yoctonear()), (account + 50, 50));
    let take = |world: &mut World, amount: Option<u128>| {
        world.call(full(POOR), |c| c.storage_withdraw(amount.map(NearToken::from_yoctonear)))
    };
    let refused = Error::Insufficient { account: id(POOR), available: 50, needed: 51 };
    assert_eq!(take(&mut world, Some(51)), Err(refused));
    take(&mut world, Some(20)).unwrap();
    assert_eq!(refunded(&world, POOR), 21, "and the yocto");
    take(&mut world, None).unwrap();
    assert_eq!(refunded(&world, POOR), 31);
    world.call(full(POOR), |c| c.storage_unregister(Some(true))).unwrap();
    assert_eq!(refunded(&world, POOR), account + 1);
    assert!(world.view(|c| c.storage_balance_of(id(POOR))).is_none());
    let bounds = world.view(|c| c.storage_balance_bounds());
    assert!(bounds.min.as_yoctonear() > account && bounds.max.is_none());
}

#[test]
fn an_account_with_a_channel_stays() {
    let mut world = World::new();
    world.open(&chan(), DEPOSIT).unwrap();
    world.close(&chan(), None).unwrap();
    for force in [None, Some(false), Some(true)] {
        assert_eq!(world.call(full(CLIENT), |c| c.storage_unregister(force)), Err(Error::InUse));
    }
    world.call(full(CLIENT), |c| c.storage_withdraw(None)).unwrap();
    let held = world.view(|c| c.storage_balance_of(id(CLIENT))).unwrap();
    assert_eq!(held.available.as_yoctonear(), 0);
    assert!(held.total.as_yoctonear() > 0, "what its channel locks");
    world.open(&chan(), DEPOSIT).unwrap();
    assert_eq!(
        world.call(Caller::of(CLIENT), |c| c.storage_withdraw(None)),
        Err(Error::OneYocto(NearToken::from_yoctonear(0)))
    );
}
