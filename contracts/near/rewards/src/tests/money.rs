//! Tokens that come: for nobody, or for whom their message names.
use super::*;

fn shares(pairs: &[(AccountId, u128)]) -> serde_json::Value {
    pairs.iter().map(|(account, amount)| serde_json::json!([account, amount.to_string()])).collect()
}

fn message(reason: u8, pairs: &[(AccountId, u128)]) -> String {
    serde_json::json!({ "reason": reason, "shares": shares(pairs) }).to_string()
}

#[test]
fn tokens_without_a_message_are_nobodys() {
    let mut world = World::new();
    world.pay_in(70, "").unwrap();
    let wanted = serde_json::json!({ "payer": PAYER, "reason": 0, "amount": "70", "shares": [] });
    assert_eq!(world.event("rewards_funded"), wanted);
    assert_eq!(world.view(|c| c.info()).received.0, 70);
    world.check_books();
}

#[test]
fn a_message_divides_all_or_a_part_of_the_tokens() {
    let mut world = World::new();
    for reason in 1..=4 {
        for parts in [vec![(account(0), 10)], vec![(account(0), 1), (account(1), 2), (account(0), 7)]] {
            world.pay_in(10, &message(reason, &parts)).unwrap();
            let wanted = serde_json::json!(
                { "payer": PAYER, "reason": reason, "amount": "10", "shares": shares(&parts) });
            assert_eq!(world.event("rewards_funded"), wanted);
        }
        world.pay_in(11, &message(reason, &[(account(0), 10)])).unwrap();
    }
    assert_eq!(world.view(|c| c.info()).received.0, 4 * 31);
    world.check_books();
}

#[test]
fn shares_that_make_no_sense_send_everything_back() {
    let mut world = World::new();
    let many: Vec<_> = (0..201).map(|i| (id(&format!("a{i}")), 1)).collect();
    let bad = [
        message(0, &[(account(0), 1)]),
        message(5, &[(account(0), 1)]),
        message(255, &[(account(0), 1)]),
        message(1, &[]),
        message(1, &[(account(0), 0)]),
        message(1, &[(account(0), 1), (account(1), 0)]),
        message(1, &[(account(0), 1001)]),
        message(1, &[(account(0), 600), (account(1), 401)]),
        message(1, &[(account(0), u128::MAX), (account(1), u128::MAX)]),
        message(1, &many),
        r#"{"reason": 1}"#.into(),
        r#"{"shares": [["a.near", "1"]]}"#.into(),
        r#"{"reason": 1, "shares": [["a.near", "1"]], "more": 1}"#.into(),
        r#"{"reason": 1, "reason": 1, "shares": [["a.near", "1"]]}"#.into(),
        r#"{"reason": "1", "shares": [["a.near", "1"]]}"#.into(),
        r#"{"reason": 1, "shares": [["a.near", 1]]}"#.into(),
        r#"{"reason": 1, "shares": [["a.near", "-1"]]}"#.into(),
        r#"{"reason": 1, "shares": [["a.near", "1", "1"]]}"#.into(),
        r#"{"reason": 1, "shares": [["a.near"]]}"#.into(),
        r#"{"reason": 1, "shares": [["A.near", "1"]]}"#.into(),
        r#"{"reason": 1, "shares": {"a.near": "1"}}"#.into(),
        r#"{"reason": 1, "shares": [["a.near", "1"]]} x"#.into(),
        " ".into(),
        "null".into(),
        "{}".into(),
        "[]".into(),
        format!("{}{}", message(1, &[(account(0), 1)]), " ".repeat(16_000)),
    ];
    for text in bad {
        assert_eq!(world.pay_in(1000, &text), Err(Error::BadData), "{text}");
    }
    world.pay_in(1000, &message(1, &many[1..])).unwrap();
    assert_eq!(world.view(|c| c.info()).received.0, 1000);
}

#[test]
fn what_a_message_may_hold_fits_what_a_receipt_may_log() {
    let mut world = World::new();
    let longest: Vec<_> = (0..160).map(|i| (id(&format!("{i:a>64}")), SUPPLY)).collect();
    let payer = id(&"p".repeat(64));
    let fill = |text: String| format!("{}{}", " ".repeat(16_000 - text.len()), text);
    let call = |world: &mut World, text: String| {
        world.call(Caller::of(TOKEN), |c| c.ft_on_transfer(payer.clone(), U128(MAX_AMOUNT), text))
    };
    call(&mut world, fill(message(4, &longest))).unwrap();
    assert!(world.logs[0].len() < 16_384);
    let mut most = vec![];
    while message(4, &most).len() < 15_800 {
        most.push((id(&format!("{:a>64}", most.len())), 10u128.pow(26)));
    }
    call(&mut world, fill(message(4, &most))).unwrap();
    assert!(world.logs[0].len() > 15_900 && world.logs[0].len() <= 16_384, "{}", world.logs[0].len());
}

#[test]
fn only_the_token_brings_money() {
    let mut world = World::new();
    for caller in [STRANGER, OWNER, PROPOSER, CONTRACT, "token.near.evil.near"] {
        let done = world.call(Caller::of(caller), |c| c.ft_on_transfer(id(PAYER), U128(5), String::new()));
        assert_eq!(done, Err(Error::Forbidden(id(caller))));
    }
    for amount in [0, MAX_AMOUNT + 1, u128::MAX] {
        let done =
            world.call(Caller::of(TOKEN), |c| c.ft_on_transfer(id(PAYER), U128(amount), String::new()));
        assert_eq!(done, Err(Error::BadData));
    }
    assert_eq!(world.view(|c| c.info()).received.0, 0);
}
