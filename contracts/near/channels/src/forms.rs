//! What travels in arguments: the same objects as in the Python core.
use near_sdk::json_types::U128;
use near_sdk::{near, AccountId};

use crate::decoders;
use crate::errors::Error;
use crate::types::{NodeId, OperatorKey, Signature, Word, MAX_AMOUNT};

/// Who pays, which node works, and whose signature promises; fixed for the channel's life. Its hash is its id.
#[near(serializers = [json])]
#[derive(Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    pub client: AccountId,
    /// `owner#index`; its owner is paid. Two daemons of one owner that counted on the same voucher would work for
    /// money that exists once, so a channel is one node's.
    pub node: NodeId,
    /// Signs vouchers for the client. It cannot be changed or revoked: it dies with the channel.
    #[serde(deserialize_with = "decoders::key")]
    pub session_key: OperatorKey,
}

/// The epoch is signed too, and is always the channel's own.
#[near(serializers = [json])]
#[derive(Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Voucher {
    /// Base units promised since the channel was opened.
    pub cumulative_amount: U128,
    /// Stands for the receipts of everything that is paid by it.
    pub receipts_root: Word,
    #[serde(deserialize_with = "decoders::signature")]
    pub signature: Signature,
}

impl Voucher {
    /// What is signed has 96 bits for the amount.
    pub fn require_sound(&self) -> Result<(), Error> {
        if self.cumulative_amount.0 > MAX_AMOUNT {
            return Err(Error::BadData);
        }
        Ok(())
    }
}

#[near(serializers = [json])]
#[derive(Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Redemption {
    pub channel: Channel,
    pub voucher: Voucher,
}
