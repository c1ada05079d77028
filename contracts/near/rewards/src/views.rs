//! What anybody may read.
use near_sdk::json_types::U128;
use near_sdk::{near, AccountId, NearToken};

use crate::claims::{record_price, Claimed};
use crate::types::Word;
use crate::{now, signed, Rewards, RewardsExt};

/// The root in force now.
#[near(serializers = [json])]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActiveView {
    pub epoch: u64,
    pub root: Word,
    pub total: U128,
    /// To everybody since ever, and on its way.
    pub paid: U128,
}

#[near(serializers = [json])]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitingView {
    pub epoch: u64,
    pub root: Word,
    pub total: U128,
    /// From then on it is the active root.
    pub active_at: u64,
}

#[near(serializers = [json])]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RootsView {
    pub active: ActiveView,
    pub waiting: Option<WaitingView>,
}

#[near(serializers = [json])]
pub struct InfoView {
    pub version: u16,
    pub token: AccountId,
    pub chain_id: String,
    pub owner: AccountId,
    pub proposed_owner: Option<AccountId>,
    pub accept_not_before: Option<u64>,
    pub proposers: Vec<AccountId>,
    pub guardians: Vec<AccountId>,
    pub delay: u64,
    pub epoch_length: u64,
    pub owner_delay: u64,
    /// Base units that ever came in; less what was paid, the contract holds them.
    pub received: U128,
}

#[near]
impl Rewards {
    /// The root in force now, and the one that waits.
    pub fn roots(&self) -> RootsView {
        let mut book = self.book.clone();
        book.mature(now());
        let active = book.active;
        RootsView {
            active: ActiveView {
                epoch: active.epoch,
                root: active.hash,
                total: U128(active.total),
                paid: U128(book.paid),
            },
            waiting: book.waiting.map(|(root, active_at)| WaitingView {
                epoch: root.epoch,
                root: root.hash,
                total: U128(root.total),
                active_at,
            }),
        }
    }

    /// Base units paid to an account since ever, and on their way to it.
    pub fn claimed_by(&self, account: AccountId) -> U128 {
        U128(Claimed::find(&account).unwrap_or_default())
    }

    /// Seconds in which the guardian may cancel.
    pub fn delay(&self) -> u64 {
        self.parameters.delay
    }

    /// Seconds of an epoch.
    pub fn epoch_length(&self) -> u64 {
        self.parameters.epoch_seconds
    }

    /// The leaf of an account.
    pub fn leaf_of(&self, account: AccountId, cumulative: U128) -> Word {
        signed::leaf(&self.domain, &account, cumulative.0)
    }

    /// yoctoNEAR that a claim for the account must bring now: 0 once it has a record.
    pub fn storage_cost(&self, account_id: AccountId) -> NearToken {
        let is_known = Claimed::find(&account_id).is_some();
        NearToken::from_yoctonear(if is_known { 0 } else { record_price(&account_id) })
    }

    pub fn info(&self) -> InfoView {
        let (roles, p) = (&*self.roles, &self.parameters);
        let (proposed_owner, accept_not_before) = roles.proposed.clone().unzip();
        InfoView {
            version: self.version,
            token: self.token.clone(),
            chain_id: self.chain_id.clone(),
            owner: roles.owner.clone(),
            proposed_owner,
            accept_not_before,
            proposers: roles.proposers.clone(),
            guardians: roles.guardians.clone(),
            delay: p.delay,
            epoch_length: p.epoch_seconds,
            owner_delay: p.owner_delay,
            received: U128(self.book.received),
        }
    }
}
