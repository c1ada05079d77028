//! NEP-297 events, one for every change of state; they are the index.
use near_sdk::json_types::U128;
use near_sdk::{near, AccountId};

use crate::roles::Role;
use crate::types::Word;

#[near(event_json(standard = "deai"))]
pub enum Event<'a> {
    /// `reason` 0 and no shares: nobody's. What the shares leave of `amount` is nobody's too.
    #[event_version("1.0.0")]
    RewardsFunded { payer: &'a AccountId, reason: u8, amount: U128, shares: &'a [(AccountId, U128)] },
    /// `statement` is the hash of the document from which anybody computes the root again.
    #[event_version("1.0.0")]
    RewardsProposed { epoch: u64, root: Word, total: U128, statement: Word, active_at: u64 },
    #[event_version("1.0.0")]
    RewardsCancelled { epoch: u64, root: Word },
    /// It has arrived; `cumulative` is what the account was ever owed by the leaf.
    #[event_version("1.0.0")]
    RewardsClaimed { account: &'a AccountId, amount: U128, cumulative: U128 },
    /// The token refused; nothing was claimed.
    #[event_version("1.0.0")]
    TransferFailed { account: &'a AccountId, to: &'a AccountId, amount: U128 },
    #[event_version("1.0.0")]
    RoleSet { role: Role, account_id: &'a AccountId, on: bool },
    #[event_version("1.0.0")]
    OwnerProposed { account_id: Option<&'a AccountId>, not_before: u64 },
    #[event_version("1.0.0")]
    OwnerChanged { account_id: &'a AccountId },
}
