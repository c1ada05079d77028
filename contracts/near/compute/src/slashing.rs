//! Equivocation: two results of one seat and attempt with different outputs, by the key that the lane records.
use near_sdk::json_types::U128;
use near_sdk::{env, near};

use crate::errors::Error;
use crate::events::Event;
use crate::lanes::Found;
use crate::types::{NodeId, Seat, SignedResult, Standing, Task};
use crate::{reputation, Compute, ComputeExt};

#[near]
impl Compute {
    /// Anybody, until the lane is used again; once per seat and attempt. The submitter gets the bounty on its
    /// account, if it has one; the rest waits for `sweep_burns`.
    #[handle_result]
    pub fn prove_equivocation(
        &mut self,
        task: Task,
        committee: Vec<Seat>,
        seat: u8,
        first: SignedResult,
        second: SignedResult,
    ) -> Result<(), Error> {
        // The task may have ended, as long as the lane was not used again.
        let Found { id, mut lane } = self.matching(&task, &committee)?;
        let index = usize::from(seat);
        let held = committee.get(index).ok_or(Error::BadSeat(index))?;
        if first.output_digest == second.output_digest {
            return Err(Error::BadEvidence);
        }
        self.check_result(&id, index, held, &first)?;
        self.check_result(&id, index, held, &second)?;
        if lane.equivocated & (1 << index) != 0 {
            return Err(Error::BadEvidence);
        }
        lane.equivocated |= 1 << index;
        self.save(&task, lane);
        let submitter = env::predecessor_account_id();
        Event::EquivocationProven { task_id: id, seat, node: &held.node, submitter: &submitter }.emit();
        self.slash(&held.node)
    }
}

impl Compute {
    /// A fifth of the stake, R = 0, jail. Refuses while jailed already, and after the exit.
    fn slash(&mut self, id: &NodeId) -> Result<(), Error> {
        let submitter = env::predecessor_account_id();
        let fixed = if self.is_registered(&submitter) { self.parameters.bounty.0 } else { 0 };
        let node = self.node_mut(id)?;
        if matches!(node.standing, Standing::Jailed | Standing::Exited) {
            return Err(Error::BadStanding(id.clone(), node.standing));
        }
        let slash = reputation::slash(node.bonded, node.unbonding, fixed);
        node.bonded -= slash.from_bonded;
        node.unbonding -= slash.from_unbonding;
        (node.standing, node.reputation) = (Standing::Jailed, 0);
        let burned = slash.amount() - slash.bounty;
        self.burn_due += burned;
        if slash.bounty != 0 {
            self.credit(&submitter, slash.bounty)?;
        }
        Event::NodeSlashed {
            node: id,
            submitter: &submitter,
            amount: U128(slash.amount()),
            bounty: U128(slash.bounty),
            burned: U128(burned),
        }
        .emit();
        Ok(())
    }
}
