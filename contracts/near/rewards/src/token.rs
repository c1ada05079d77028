//! The only way in: `ft_transfer_call` of the token.
use near_sdk::json_types::U128;
use near_sdk::serde_json;
use near_sdk::{near, AccountId};

use crate::errors::Error;
use crate::events::Event;
use crate::types::MAX_AMOUNT;
use crate::{require_caller, Rewards, RewardsExt};

/// Of one payment, as on the other chain.
const MAX_SHARES: usize = 200;
/// A receipt may log 16 KiB, and the event holds what the message holds.
const MAX_MESSAGE: usize = 16_000;
/// 1 audit, 2 refund, 3 slash, 4 delegation.
const LAST_REASON: u8 = 4;

/// Among whom the tokens, or a part of them, are divided. No message leaves them all to nobody.
#[near(serializers = [json])]
#[derive(Default)]
#[serde(deny_unknown_fields)]
struct Message {
    reason: u8,
    shares: Vec<(AccountId, U128)>,
}

impl Message {
    fn read(text: &str, value: u128) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.len() > MAX_MESSAGE {
            return Err(Error::BadData);
        }
        let it: Self = serde_json::from_slice(text.as_bytes()).map_err(|_| Error::BadData)?;
        let is_sound = (1..=LAST_REASON).contains(&it.reason)
            && (1..=MAX_SHARES).contains(&it.shares.len())
            && it.shares.iter().all(|(_, amount)| 0 < amount.0 && amount.0 <= value)
            // None is above 2^96 any more.
            && it.shares.iter().map(|(_, amount)| amount.0).sum::<u128>() <= value;
        is_sound.then_some(it).ok_or(Error::BadData)
    }
}

#[near]
impl Rewards {
    /// NEP-141. A panic sends everything back.
    #[handle_result]
    pub fn ft_on_transfer(&mut self, sender_id: AccountId, amount: U128, msg: String) -> Result<U128, Error> {
        require_caller(self.token.as_str())?;
        if amount.0 == 0 || amount.0 > MAX_AMOUNT {
            return Err(Error::BadData);
        }
        let Message { reason, shares } = Message::read(&msg, amount.0)?;
        self.book.received += amount.0;
        Event::RewardsFunded { payer: &sender_id, reason, amount, shares: &shares }.emit();
        Ok(U128(0))
    }
}
