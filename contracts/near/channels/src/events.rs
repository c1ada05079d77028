//! NEP-297 events, one for every change of state; they are the index.
use near_sdk::json_types::{Base58CryptoHash, U128};
use near_sdk::{near, AccountId};

use crate::types::{NodeId, OperatorKey, Word};

#[near(event_json(standard = "deai"))]
pub enum Event<'a> {
    #[event_version("1.0.0")]
    ChannelOpened {
        channel_id: Word,
        client: &'a AccountId,
        node: &'a NodeId,
        session_key: OperatorKey,
        epoch: u32,
        deposit: U128,
    },
    #[event_version("1.0.0")]
    ChannelToppedUp { channel_id: Word, amount: U128, deposit: U128 },
    /// `paid` to the node's owner by this voucher, `claimed` by all of this epoch.
    #[event_version("1.0.0")]
    VoucherRedeemed { channel_id: Word, paid: U128, claimed: U128, receipts_root: Word },
    /// One of many that could not be redeemed; `reason` is the error of `redeem`.
    #[event_version("1.0.0")]
    VoucherSkipped { channel_id: Word, reason: &'static str },
    /// Vouchers pay until then.
    #[event_version("1.0.0")]
    ChannelClosing { channel_id: Word, closes_at: u64 },
    /// deposit = `claimed` + `refunded`, since the channel was opened.
    #[event_version("1.0.0")]
    ChannelClosed { channel_id: Word, epoch: u32, claimed: U128, refunded: U128 },
    /// The token refused; the money waits in the channel's record for `pay_due`.
    #[event_version("1.0.0")]
    TransferFailed { channel_id: Word, to: &'a AccountId, amount: U128 },
    /// It is sent once more.
    #[event_version("1.0.0")]
    DueSent { channel_id: Word, to: &'a AccountId, amount: U128 },
    #[event_version("1.0.0")]
    PauseSet { paused: bool },
    #[event_version("1.0.0")]
    GuardianSet { account_id: &'a AccountId, on: bool },
    #[event_version("1.0.0")]
    OwnerProposed { account_id: Option<&'a AccountId>, not_before: u64 },
    #[event_version("1.0.0")]
    OwnerChanged { account_id: &'a AccountId },
    #[event_version("1.0.0")]
    UpgradeProposed { code_hash: Base58CryptoHash, not_before: u64 },
    #[event_version("1.0.0")]
    UpgradeCancelled { code_hash: Base58CryptoHash },
    #[event_version("1.0.0")]
    Upgraded { version: u16 },
}
