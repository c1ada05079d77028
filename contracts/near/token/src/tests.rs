//! What the token adds to the standard, in the mocked VM. The standard's own behaviour is tested on the chain.
use near_sdk::json_types::U128;
use near_sdk::test_utils::{get_logs, VMContextBuilder};
use near_sdk::{testing_env, AccountId, NearToken};

use super::*;

fn id(name: &str) -> AccountId {
    name.parse().unwrap()
}

fn enter(caller: &str, deposit: u128) {
    let context = VMContextBuilder::new()
        .current_account_id(id("token.near"))
        .predecessor_account_id(id(caller))
        .attached_deposit(NearToken::from_yoctonear(deposit))
        .build();
    testing_env!(context);
}

fn made() -> Token {
    enter("token.near", 0);
    Token::new(id("holder.near"), U128(1_000))
}

#[test]
fn the_whole_supply_is_the_holders() {
    let token = made();
    assert_eq!(token.ft_total_supply(), U128(1_000));
    assert_eq!(token.ft_balance_of(id("holder.near")), U128(1_000));
    assert!(get_logs()[0].contains("ft_mint"));
}

#[test]
fn a_supply_wider_than_96_bits_or_empty_is_refused() {
    for supply in [0, 1 << 96, u128::MAX] {
        enter("token.near", 0);
        assert!(
            std::panic::catch_unwind(|| Token::new(id("holder.near"), U128(supply))).is_err(),
            "{supply}"
        );
    }
    enter("token.near", 0);
    Token::new(id("holder.near"), U128(MAX_SUPPLY));
}

#[test]
fn a_holder_burns_its_own_tokens() {
    let mut token = made();
    enter("holder.near", 1);
    token.burn(U128(400));
    assert_eq!((token.ft_total_supply(), token.ft_balance_of(id("holder.near"))), (U128(600), U128(600)));
    assert!(get_logs()[0].contains("ft_burn"));
}

#[test]
#[should_panic(expected = "Requires attached deposit of exactly 1 yoctoNEAR")]
fn a_burn_needs_a_full_access_key() {
    let mut token = made();
    enter("holder.near", 0);
    token.burn(U128(1));
}

#[test]
#[should_panic(expected = "enough balance")]
fn nobody_burns_what_it_does_not_have() {
    let mut token = made();
    enter("holder.near", 1);
    token.burn(U128(1_001));
}
