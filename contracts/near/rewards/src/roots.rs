//! Roots: proposed by one, taken back by another. Made for function-call keys.
use near_sdk::json_types::U128;
use near_sdk::near;

use crate::book::Root;
use crate::errors::Error;
use crate::events::Event;
use crate::roles::Role;
use crate::types::Word;
use crate::{now, Rewards, RewardsExt};

#[near]
impl Rewards {
    /// Proposer: a root for an epoch that is over; it may be claimed under after the delay. Epochs may be left out:
    /// amounts are cumulative. `statement` is the hash of the document from which anybody computes the root again.
    #[handle_result]
    pub fn propose(&mut self, epoch: u64, root: Word, total: U128, statement: Word) -> Result<(), Error> {
        self.roles.require(Role::Proposer)?;
        let proposed = Root { epoch, hash: root, total: total.0 };
        let active_at = self.book.propose(proposed, now(), &self.parameters)?;
        Event::RewardsProposed { epoch, root, total, statement, active_at }.emit();
        Ok(())
    }

    /// Guardian: takes the waiting root back. Nothing else of this contract can be stopped.
    #[handle_result]
    pub fn cancel(&mut self, epoch: u64) -> Result<(), Error> {
        self.roles.require(Role::Guardian)?;
        let root = self.book.cancel(epoch, now())?;
        Event::RewardsCancelled { epoch, root }.emit();
        Ok(())
    }
}
