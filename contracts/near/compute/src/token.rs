//! The way to and from the token contract: what `ft_transfer_call` brings, and what leaves.
use near_sdk::json_types::U128;
use near_sdk::serde_json;
use near_sdk::{env, ext_contract, near, AccountId, NearToken, Promise};

use crate::errors::Error;
use crate::events::Event;
use crate::gas;
use crate::nodes::Registration;
use crate::types::{NodeId, MAX_AMOUNT};
use crate::{require_caller, Compute, ComputeExt};

/// Longer than any sound registration.
const MAX_MESSAGE: usize = 4096;

#[ext_contract(ext_token)]
#[allow(dead_code)] // only the generated callers are used
trait Token {
    fn ft_transfer(&mut self, receiver_id: AccountId, amount: U128, memo: Option<String>);
    fn burn(&mut self, amount: U128);
}

/// What the tokens are for; an empty message is a deposit for their sender.
#[near(serializers = [json])]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Message {
    Deposit(Deposit),
    Register(Registration),
    AddStake(AddStake),
}

#[near(serializers = [json])]
#[serde(deny_unknown_fields)]
struct Deposit {
    account_id: AccountId,
}

#[near(serializers = [json])]
#[serde(deny_unknown_fields)]
struct AddStake {
    node: NodeId,
}

impl Compute {
    pub(crate) fn send_tokens(&self, to: &AccountId, amount: u128) -> Promise {
        ext_token::ext(self.token.clone())
            .with_attached_deposit(NearToken::from_yoctonear(1))
            .with_static_gas(gas::TOKEN_CALL)
            .ft_transfer(to.clone(), U128(amount), None)
    }
}

#[near]
impl Compute {
    /// NEP-141: the only way in. A panic sends everything back.
    #[handle_result]
    pub fn ft_on_transfer(&mut self, sender_id: AccountId, amount: U128, msg: String) -> Result<U128, Error> {
        require_caller(self.token.as_str())?;
        if amount.0 > MAX_AMOUNT || msg.len() > MAX_MESSAGE {
            return Err(Error::BadData);
        }
        if msg.is_empty() {
            self.deposited(&sender_id, &sender_id, amount.0)?;
            return Ok(U128(0));
        }
        match serde_json::from_slice(msg.as_bytes()).map_err(|_| Error::BadData)? {
            Message::Deposit(it) => self.deposited(&it.account_id, &sender_id, amount.0)?,
            Message::Register(it) => self.register(sender_id, amount.0, it)?,
            Message::AddStake(it) => self.add_stake(&it.node, amount.0)?,
        }
        Ok(U128(0))
    }

    /// Anybody: destroys slashed tokens.
    #[handle_result]
    pub fn sweep_burns(&mut self) -> Result<Promise, Error> {
        let amount = U128(std::mem::take(&mut self.burn_due));
        if amount.0 == 0 {
            return Err(Error::BadData);
        }
        let burn = ext_token::ext(self.token.clone())
            .with_attached_deposit(NearToken::from_yoctonear(1))
            .with_static_gas(gas::TOKEN_CALL)
            .burn(amount);
        Ok(burn.then(Self::ext(env::current_account_id()).with_static_gas(gas::CALLBACK).on_burned(amount)))
    }

    #[private]
    pub fn on_burned(&mut self, amount: U128) -> bool {
        let burned = near_sdk::is_promise_success();
        if burned {
            Event::Burned { amount }.emit();
        } else {
            self.burn_due += amount.0;
            let this = env::current_account_id();
            Event::TransferFailed { account: &this, to: &self.token, amount }.emit();
        }
        burned
    }
}
