//! The only way in: `ft_transfer_call` of the token.
use near_sdk::json_types::U128;
use near_sdk::serde_json;
use near_sdk::{near, AccountId};

use crate::channels::Open;
use crate::errors::Error;
use crate::types::{Word, MAX_AMOUNT};
use crate::{require_caller, require_no_deposit, Channels, ChannelsExt};

/// Longer than any sound message.
const MAX_MESSAGE: usize = 512;

/// What the tokens are for.
#[near(serializers = [json])]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Message {
    /// The sender's channel with a node, for good or for the first time.
    Open(Open),
    TopUp(TopUp),
}

#[near(serializers = [json])]
#[serde(deny_unknown_fields)]
struct TopUp {
    channel_id: Word,
}

#[near]
impl Channels {
    /// NEP-141. A panic sends everything back.
    #[handle_result]
    pub fn ft_on_transfer(&self, sender_id: AccountId, amount: U128, msg: String) -> Result<U128, Error> {
        require_no_deposit();
        require_caller(self.token.as_str())?;
        if self.paused {
            return Err(Error::Paused);
        }
        if amount.0 == 0 || amount.0 > MAX_AMOUNT || msg.len() > MAX_MESSAGE {
            return Err(Error::BadData);
        }
        match serde_json::from_slice(msg.as_bytes()).map_err(|_| Error::BadData)? {
            Message::Open(it) => self.open(sender_id, amount.0, it)?,
            Message::TopUp(it) => self.top_up(it.channel_id, amount.0)?,
        }
        Ok(U128(0))
    }
}
