//! Lane T0, the committee's side: commitments, results, openings and approvals, each with the signature of the
//! seat's key. `settle` pays.
use near_sdk::near;

use crate::errors::Error;
use crate::events::Event;
use crate::hash::{self, Chain, Signing};
use crate::judge::Tally;
use crate::lanes::Found;
use crate::types::{
    Accept, Approval, Commitment, Opening, Seat, Signature, SignedResult, Task, Word, MAX_SEATS,
};
use crate::{now, require_key, Compute, ComputeExt};

pub const FULL_MASK: u16 = (1 << MAX_SEATS) - 1;

impl Compute {
    /// Rebuilds the chain of commitments, so that none can be dropped, added or changed.
    pub(crate) fn open_all(
        &self,
        found: &Found,
        task: &Task,
        committee: &[Seat],
        openings: &[Opening],
    ) -> Result<Tally, Error> {
        let mut tally = Tally::new(found.id, usize::from(task.seats));
        let mut chain = Chain::new(task.nonce);
        for opening in openings {
            let index = usize::from(opening.seat);
            let seat = committee.get(index).ok_or(Error::BadSeat(index))?;
            let mut value = opening.salt;
            if !opening.digest.is_zero() {
                value = if task.is_unchecked() {
                    opening.digest
                } else {
                    hash::commitment(&found.id, index, seat, &opening.digest, &opening.salt)
                };
                tally.digests[index] = opening.digest;
                tally.opened |= 1 << index;
            }
            chain.push(index, &value);
        }
        // Equal chains have equal seats in equal order, and `commit` let no seat in twice.
        if openings.is_empty() || chain.acc() != found.lane.acc {
            return Err(Error::BadOpening);
        }
        tally.committed = chain.seats;
        Ok(tally)
    }

    fn signing<'a>(&'a self, id: &'a Word, index: usize, seat: &Seat) -> Signing<'a> {
        Signing { separator: &self.escrow, id, seat: index, attempt: seat.attempt }
    }

    pub(crate) fn check_accept(
        &self,
        id: &Word,
        index: usize,
        seat: &Seat,
        accept: &Accept,
    ) -> Result<(), Error> {
        if now() > accept.valid_until {
            return Err(Error::AcceptExpired(accept.valid_until));
        }
        let digest = self.signing(id, index, seat).accept(&accept.node, accept.valid_until);
        check(digest, &accept.signature, seat, index)
    }

    pub(crate) fn check_result(
        &self,
        id: &Word,
        index: usize,
        seat: &Seat,
        result: &SignedResult,
    ) -> Result<(), Error> {
        let signing = self.signing(id, index, seat);
        let digest = signing.result(&result.output_digest, &result.evidence_digest);
        check(digest, &result.signature, seat, index)
    }

    pub(crate) fn check_approval(
        &self,
        found: &Found,
        committee: &[Seat],
        approval: &Approval,
    ) -> Result<(), Error> {
        let index = usize::from(approval.seat);
        let seat = committee.get(index).ok_or(Error::BadSeat(index))?;
        let digest = self.signing(&found.id, index, seat).approval(&found.lane.acc, approval.mask);
        check(digest, &approval.signature, seat, index)
    }
}

/// The seat's key signed `digest`.
fn check(digest: [u8; 32], signature: &Signature, seat: &Seat, index: usize) -> Result<(), Error> {
    if !hash::is_signed(digest, signature, &seat.operator) {
        return Err(Error::BadSignature(index));
    }
    Ok(())
}

#[near]
impl Compute {
    /// Anybody: puts commitments on chain. Seats that have committed already are passed over; refuses when no
    /// commitment was new.
    #[handle_result]
    pub fn commit(
        &mut self,
        task: Task,
        committee: Vec<Seat>,
        commitments: Vec<Commitment>,
    ) -> Result<(), Error> {
        if task.is_unchecked() {
            return Err(Error::BadTask);
        }
        let (Found { id, mut lane }, mut chain) = self.committing(&task, &committee)?;
        let before = chain.seats;
        for commitment in &commitments {
            let index = usize::from(commitment.seat);
            let seat = committee.get(index).ok_or(Error::BadSeat(index))?;
            if chain.seats & (1 << index) != 0 {
                continue; // somebody was faster; it must not stop the others
            }
            match &commitment.signature {
                Some(signature) => {
                    let digest = self.signing(&id, index, seat).commit(&commitment.value);
                    check(digest, signature, seat, index)?;
                }
                None => require_key(&seat.operator).map_err(|_| Error::BadSignature(index))?,
            }
            chain.push(index, &commitment.value);
            Event::ResultCommitted {
                task_id: id,
                seat: commitment.seat,
                attempt: seat.attempt,
                value: commitment.value,
            }
            .emit();
        }
        if chain.seats == before {
            return Err(Error::SeatTaken(commitments.first().map_or(0, |one| usize::from(one.seat))));
        }
        lane.set_commitments(&task, &chain);
        self.save(&task, lane);
        Ok(())
    }

    /// Anybody, `none/1`: the signed result is commit and reveal at once.
    #[handle_result]
    pub fn submit_result(
        &mut self,
        task: Task,
        committee: Vec<Seat>,
        result: SignedResult,
    ) -> Result<(), Error> {
        if !task.is_unchecked() || result.output_digest.is_zero() {
            return Err(Error::BadTask);
        }
        let (Found { id, mut lane }, mut chain) = self.committing(&task, &committee)?;
        if chain.seats != 0 {
            return Err(Error::SeatTaken(0));
        }
        let seat = committee.first().ok_or(Error::BadSeat(0))?;
        self.check_result(&id, 0, seat, &result)?;
        chain.push(0, &result.output_digest);
        lane.set_commitments(&task, &chain);
        Event::ResultDelivered {
            task_id: id,
            node: &seat.node,
            output_digest: result.output_digest,
            evidence_digest: result.evidence_digest,
            signature: result.signature,
        }
        .emit();
        self.save(&task, lane);
        Ok(())
    }

    /// The seat's key, before it commits: gives the seat back. It may still commit until it is reassigned.
    #[handle_result]
    pub fn release(&mut self, task: Task, committee: Vec<Seat>, seat: u8) -> Result<(), Error> {
        let Found { id, mut lane } = self.open(&task, &committee)?;
        let index = usize::from(seat);
        let held = committee.get(index).ok_or(Error::BadSeat(index))?;
        require_key(&held.operator)?;
        if now() > task.commit_deadline {
            return Err(Error::TooLate(task.commit_deadline));
        }
        if (lane.committed() | lane.released) & (1 << index) != 0 {
            return Err(Error::SeatTaken(index));
        }
        // A bit beside the committee's hash, so that a release cannot make the commits of others fail.
        lane.released |= 1 << index;
        Event::SeatReleased { task_id: id, seat }.emit();
        self.save(&task, lane);
        Ok(())
    }

    /// Anybody, within the window (tolerance policies: its first half): records every seat opened here.
    #[handle_result]
    pub fn reveal(&mut self, task: Task, committee: Vec<Seat>, openings: Vec<Opening>) -> Result<(), Error> {
        let found = self.open(&task, &committee)?;
        if task.is_unchecked() {
            return Err(Error::BadTask);
        }
        let window = if task.is_tolerance() { task.window / 2 } else { task.window };
        let end = found.lane.require_window(&task)? + u64::from(window);
        if now() > end {
            return Err(Error::TooLate(end));
        }
        let tally = self.open_all(&found, &task, &committee, &openings)?;
        let known = found.lane.revealed;
        if tally.opened & !known == 0 {
            return Err(Error::BadOpening);
        }
        for one in &openings {
            if !one.digest.is_zero() && known & (1 << one.seat) == 0 {
                Event::ResultRevealed {
                    task_id: found.id,
                    seat: one.seat,
                    digest: one.digest,
                    salt: one.salt,
                }
                .emit();
            }
        }
        let mut lane = found.lane;
        lane.revealed |= tally.opened;
        self.save(&task, lane);
        Ok(())
    }

    /// Anybody, tolerance policies, within the window: records a member's approval, the first one it gave.
    #[handle_result]
    pub fn approve(&mut self, task: Task, committee: Vec<Seat>, approval: Approval) -> Result<(), Error> {
        let mut found = self.open(&task, &committee)?;
        if !task.is_tolerance() {
            return Err(Error::BadTask);
        }
        let end = found.lane.require_window(&task)? + u64::from(task.window);
        if now() > end {
            return Err(Error::TooLate(end));
        }
        let index = usize::from(approval.seat);
        if index >= MAX_SEATS || found.lane.committed() & (1 << index) == 0 {
            return Err(Error::BadSeat(index)); // only who committed
        }
        let mask = approval.mask & FULL_MASK;
        if mask == 0 || found.lane.approvals[index] != 0 {
            return Err(Error::BadApproval);
        }
        self.check_approval(&found, &committee, &approval)?;
        found.lane.approvals[index] = mask;
        Event::ResultApproved {
            task_id: found.id,
            seat: approval.seat,
            mask: approval.mask,
            signature: approval.signature,
        }
        .emit();
        self.save(&task, found.lane);
        Ok(())
    }
}
