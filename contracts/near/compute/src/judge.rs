//! Who wins. Thresholds count the seats that were assigned, not those that were revealed: 60 % of them.
use crate::hash::is_fault;
use crate::types::{Word, MAX_SEATS};

/// What is known about a task when it ends; masks are by seat.
pub struct Tally {
    pub id: Word,
    pub seats: usize,
    pub committed: u16,
    pub opened: u16,
    pub paid: u16,
    /// By seat, zero where not opened.
    pub digests: [Word; MAX_SEATS],
    pub result: Option<Word>,
    pub fault: bool,
}

impl Tally {
    pub fn new(id: Word, seats: usize) -> Self {
        let digests = [Word::ZERO; MAX_SEATS];
        Self { id, seats, committed: 0, opened: 0, paid: 0, digests, result: None, fault: false }
    }

    /// The digest revealed by enough seats wins. A fault needs every revealed seat besides.
    pub fn judge_digests(&mut self) {
        let Some((best, mask)) = self.majority() else { return };
        if is_fault(&self.id, &best) {
            if mask != self.opened {
                return;
            }
            self.fault = true;
        }
        (self.result, self.paid) = (Some(best), mask);
    }

    /// Paid is a seat that enough revealed seats mask, itself among them; the result is the paid seat with the
    /// most masks, the lowest index on ties. Only revealed seats have a voice: one that could vote without
    /// revealing would get its fee back for it.
    pub fn judge_approvals(&mut self, masks: &[u16; MAX_SEATS]) {
        (self.result, self.paid) = (None, 0);
        let mut most = 0;
        for seat in 0..self.seats {
            let bit = 1 << seat;
            if self.opened & masks[seat] & bit == 0 {
                continue;
            }
            let voices = (0..self.seats).filter(|i| self.opened & (1 << i) != 0);
            let count = voices.filter(|i| masks[*i] & bit != 0).count();
            // A fault wins unanimously or not at all, which `judge_digests` has tried.
            if !self.is_enough(count) || is_fault(&self.id, &self.digests[seat]) {
                continue;
            }
            self.paid |= bit;
            if count > most {
                (most, self.result) = (count, Some(self.digests[seat]));
            }
        }
    }

    fn is_enough(&self, count: usize) -> bool {
        count * 5 >= self.seats * 3
    }

    fn majority(&self) -> Option<(Word, u16)> {
        let opened = || (0..self.seats).filter(|seat| self.opened & (1 << seat) != 0);
        opened().map(|seat| self.digests[seat]).find_map(|digest| {
            let mask = opened()
                .filter(|seat| self.digests[*seat] == digest)
                .fold(0u16, |mask, seat| mask | 1 << seat);
            self.is_enough(mask.count_ones() as usize).then_some((digest, mask))
        })
    }
}

/// What a seat did, as `task_finalised` tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Never committed: refunded, no record is touched.
    None = 0,
    /// Paid, but nobody checked (`none/1`): R is read for the fee, never moved.
    Unchecked = 1,
    Paid = 2,
    /// Another digest than the winner: forfeited.
    Lost = 3,
    /// Committed and never revealed: refunded.
    Silent = 4,
    /// Revealed and unpaid without a lost vote.
    Forfeited = 5,
    /// A tenth of the fee: every revealed seat says that the task is bad.
    Fault = 6,
}

impl Tally {
    pub fn verdict(&self, seat: usize, policy: u8) -> Verdict {
        let bit = 1 << seat;
        if self.committed & bit == 0 {
            Verdict::None
        } else if self.opened & bit == 0 {
            Verdict::Silent
        } else if self.paid & bit == 0 {
            if policy < 128 && self.paid != 0 {
                Verdict::Lost
            } else {
                Verdict::Forfeited
            }
        } else if self.fault {
            Verdict::Fault
        } else if policy == 0 {
            Verdict::Unchecked
        } else {
            Verdict::Paid
        }
    }
}
