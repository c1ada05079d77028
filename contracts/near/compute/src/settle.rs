//! `finalise`: judges, moves reputation, pays, and closes the lane.
use near_sdk::json_types::U128;
use near_sdk::{env, near};

use crate::errors::Error;
use crate::events::{Event, SeatSettlement};
use crate::judge::{Tally, Verdict};
use crate::lanes::Found;
use crate::types::{Approval, Opening, Seat, Task, MAX_SEATS};
use crate::{now, reputation, Compute, ComputeExt};

/// Base units that do not go to a seat.
#[derive(Default)]
struct Rest {
    refunded: u128,
    protocol_fee: u128,
}

#[near]
impl Compute {
    /// Anybody: ends a task: pays, forfeits, refunds, moves reputation. The tip goes to the caller's account.
    /// Within the window with the opening (tolerance: and the approval) of every committed seat; after it with
    /// exactly those on chain.
    #[handle_result]
    pub fn finalise(
        &mut self,
        task: Task,
        committee: Vec<Seat>,
        openings: Vec<Opening>,
        approvals: Vec<Approval>,
    ) -> Result<(), Error> {
        let found = self.open(&task, &committee)?;
        let end = found.lane.require_window(&task)? + u64::from(task.window);
        let mut tally = self.open_all(&found, &task, &committee, &openings)?;
        let over = now() > end;
        if task.is_unchecked() {
            if tally.opened == 0 {
                return Err(Error::BadOpening);
            }
            // The client waives the rest of its own window.
            if !over && env::predecessor_account_id() != task.client {
                return Err(Error::TooEarly(end));
            }
        } else if over {
            if tally.opened != found.lane.revealed {
                return Err(Error::BadOpening);
            }
        } else if tally.opened != tally.committed {
            return Err(Error::TooEarly(end));
        }
        tally.judge_digests();
        if task.is_tolerance() {
            if !tally.fault {
                let masks = self.masks(&found, &tally, &committee, &approvals, over)?;
                tally.judge_approvals(&masks);
            }
        } else if !approvals.is_empty() {
            return Err(Error::BadApproval);
        }
        self.pay(found, &task, &committee, &tally)
    }
}

impl Compute {
    /// After the window only approvals on chain count. Within it every committed seat must have one, on chain or
    /// here; the one on chain wins.
    fn masks(
        &self,
        found: &Found,
        tally: &Tally,
        committee: &[Seat],
        approvals: &[Approval],
        over: bool,
    ) -> Result<[u16; MAX_SEATS], Error> {
        if over && !approvals.is_empty() {
            return Err(Error::BadApproval);
        }
        let mut masks = found.lane.approvals;
        let stored = |seat: &usize| masks[*seat] != 0;
        let mut seen = (0..MAX_SEATS).filter(stored).fold(0u16, |seen, seat| seen | 1 << seat);
        for approval in approvals {
            let index = usize::from(approval.seat);
            if index >= committee.len() {
                return Err(Error::BadSeat(index));
            }
            if seen & (1 << index) != 0 {
                continue;
            }
            self.check_approval(found, committee, approval)?;
            masks[index] = approval.mask;
            seen |= 1 << index;
        }
        if !over && tally.committed & !seen != 0 {
            return Err(Error::BadApproval);
        }
        Ok(masks)
    }

    fn pay(&mut self, found: Found, task: &Task, committee: &[Seat], tally: &Tally) -> Result<(), Error> {
        let mut rest = Rest::default();
        let mut seats = Vec::with_capacity(committee.len());
        for (index, seat) in committee.iter().enumerate() {
            let verdict = tally.verdict(index, task.policy);
            // A fault moves no reputation, not even that of a silent seat.
            let (before, after) =
                if tally.fault { (0, 0) } else { self.settle_node(&seat.node, verdict, task.fee.0) };
            let payment = split(verdict, task.fee.0, before, &mut rest);
            if payment != 0 {
                self.credit(&seat.node.owner_id(), payment)?;
                self.total_rewards += payment;
            }
            let payment = U128(payment);
            seats.push(SeatSettlement { payment, before, after, verdict: verdict as u8 });
        }
        let finaliser = env::predecessor_account_id();
        // Nobody pays for an account that the caller did not open: its tip returns, too.
        let tipped = finaliser != task.client && self.is_registered(&finaliser);
        let tip = if tipped { task.tip.0 } else { 0 };
        rest.refunded += task.tip.0 - tip;
        if tip != 0 {
            self.credit(&finaliser, tip)?;
        }
        if rest.refunded != 0 {
            self.credit(&task.client, rest.refunded)?;
        }
        let mut lane = found.lane;
        lane.close(rest.protocol_fee);
        Event::TaskFinalised {
            task_id: found.id,
            result: tally.result,
            fault: tally.fault,
            refunded: U128(rest.refunded),
            protocol_fee: U128(rest.protocol_fee),
            finaliser: &finaliser,
            tip: U128(tip),
            seats: &seats,
        }
        .emit();
        self.save(task, lane);
        Ok(())
    }
}

/// What a seat gets of its fee, and where the rest goes. A forfeited fee is never refunded: lying must not turn into
/// a refund.
fn split(verdict: Verdict, fee: u128, reputation_before: u32, rest: &mut Rest) -> u128 {
    match verdict {
        Verdict::Paid | Verdict::Unchecked => {
            let payment = reputation::payment(fee, reputation_before);
            rest.protocol_fee += fee - payment;
            payment
        }
        Verdict::Fault => {
            let payment = reputation::fault_payment(fee);
            rest.refunded += fee - payment;
            payment
        }
        Verdict::Lost | Verdict::Forfeited => {
            rest.protocol_fee += fee;
            0
        }
        Verdict::None | Verdict::Silent => {
            rest.refunded += fee;
            0
        }
    }
}
