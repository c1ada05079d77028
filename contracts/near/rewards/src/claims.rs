//! Tokens that leave: to the account of a leaf, whoever asks for it.
//!
//! A transfer is on its way for a few blocks, in which the account may be paid again, under another root too. What the
//! token refuses is therefore taken off what the account had, whatever that is by then: as if it had never been
//! claimed, and claimed again by anybody once the account can be paid.
use near_sdk::json_types::{U128, U64};
use near_sdk::{env, ext_contract, near, AccountId, NearToken, Promise, PromiseError};

use crate::errors::Error;
use crate::events::Event;
use crate::storage_keys::StorageKey;
use crate::types::Word;
use crate::{gas, now, signed, store, Rewards, RewardsExt};

/// Levels of a tree.
const MAX_PATH: usize = 64;
/// Bytes that the chain adds to every record.
const RECORD_OVERHEAD: u64 = 40;
/// Bytes of the version and an amount.
const RECORD_VALUE: u64 = 1 + 16;

#[ext_contract(ext_token)]
#[allow(dead_code)] // only the generated caller is used
trait Token {
    fn ft_transfer(&mut self, receiver_id: AccountId, amount: U128);
}

/// What an account was paid since ever, and what is on its way to it. Stays for good: without it a leaf would be paid
/// again.
#[near(serializers = [borsh])]
pub enum Claimed {
    V1(u128),
}

impl Claimed {
    pub fn find(account: &AccountId) -> Option<u128> {
        let Self::V1(claimed) = store::load(StorageKey::Claimed, account.as_bytes())?;
        Some(claimed)
    }

    fn save(account: &AccountId, claimed: u128) {
        store::save(StorageKey::Claimed, account.as_bytes(), &Self::V1(claimed));
    }
}

/// yoctoNEAR that an account's record locks. Whoever claims for it first pays: nobody can spend the contract's NEAR by
/// naming accounts.
pub fn record_price(account: &AccountId) -> u128 {
    let bytes = RECORD_OVERHEAD + 1 + account.len() as u64 + RECORD_VALUE;
    env::storage_byte_cost().as_yoctonear() * u128::from(bytes)
}

#[near]
impl Rewards {
    /// Anybody, for any account: pays the account what it has not had. Never paused. Bit k of `sides`: sibling k of
    /// `path` stands on the left. The value is whether it arrived.
    #[payable]
    #[handle_result]
    pub fn claim(
        &mut self,
        account: AccountId,
        cumulative: U128,
        sides: U64,
        path: Vec<Word>,
    ) -> Result<Promise, Error> {
        self.book.mature(now());
        let leaf = signed::leaf(&self.domain, &account, cumulative.0);
        if path.len() > MAX_PATH || signed::root_of(leaf, sides.0, &path) != self.book.active.hash {
            return Err(Error::BadProof);
        }
        let found = Claimed::find(&account);
        let before = found.unwrap_or_default();
        if cumulative.0 <= before {
            return Err(Error::NothingNew(before));
        }
        let amount = cumulative.0 - before;
        self.book.pay(amount)?;
        let needed = if found.is_some() { 0 } else { record_price(&account) };
        take_deposit(needed)?;
        Claimed::save(&account, cumulative.0);
        let callback = Self::ext(env::current_account_id()).with_static_gas(gas::CALLBACK).on_sent(
            account.clone(),
            U128(amount),
            cumulative,
        );
        Ok(ext_token::ext(self.token.clone())
            .with_attached_deposit(NearToken::from_yoctonear(1))
            .with_static_gas(gas::TOKEN_CALL)
            .ft_transfer(account, U128(amount))
            .then(callback))
    }

    /// After the transfer.
    #[private]
    pub fn on_sent(
        #[serializer(borsh)] account: AccountId,
        #[serializer(borsh)] amount: U128,
        #[serializer(borsh)] cumulative: U128,
    ) -> bool {
        if !matches!(env::promise_result_checked(0, 0), Err(PromiseError::Failed)) {
            Event::RewardsClaimed { account: &account, amount, cumulative }.emit();
            return true;
        }
        let mut this: Self = env::state_read().unwrap_or_else(|| env::abort());
        this.book.paid -= amount.0;
        env::state_write(&this);
        Claimed::save(&account, Claimed::find(&account).unwrap_or_default() - amount.0);
        Event::TransferFailed { account: &account, to: &account, amount }.emit();
        false
    }
}

/// Keeps what is needed and sends the rest back; nothing waits for that, and a receiver cannot refuse.
fn take_deposit(needed: u128) -> Result<(), Error> {
    let attached = env::attached_deposit().as_yoctonear();
    if attached < needed {
        return Err(Error::Storage(NearToken::from_yoctonear(needed)));
    }
    if attached != needed {
        let rest = NearToken::from_yoctonear(attached - needed);
        Promise::new(env::predecessor_account_id()).transfer(rest).detach();
    }
    Ok(())
}
