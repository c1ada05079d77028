//! The root under which accounts claim, the one that waits, and what came in and went out: the arithmetic of
//! `RewardsRecord` in the core.
use near_sdk::near;

use crate::errors::Error;
use crate::types::Word;
use crate::Parameters;

/// The last second that a reader of either chain can write down.
pub const MAX_TIME: u64 = (1 << 40) - 1;

/// What a root says; all zero before the first. Amounts are base units.
#[near(serializers = [borsh])]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Root {
    pub epoch: u64,
    pub hash: Word,
    /// Of all its leaves: no more is paid under it and the roots before it.
    pub total: u128,
}

#[near(serializers = [borsh])]
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Book {
    /// Base units that ever came in, through `ft_on_transfer`.
    pub received: u128,
    /// To everybody since ever, and on its way; never more than the active total, and that never more than `received`.
    pub paid: u128,
    pub active: Root,
    /// The root that is waiting, and from when on it is the active one.
    pub waiting: Option<(Root, u64)>,
}

impl Book {
    /// The waiting root comes into force once its time has come.
    pub fn mature(&mut self, now: u64) {
        if let Some((root, active_at)) = self.waiting {
            if now >= active_at {
                self.active = root;
                self.waiting = None;
            }
        }
    }

    /// A root begins to wait; returns until when.
    pub fn propose(&mut self, root: Root, now: u64, p: &Parameters) -> Result<u64, Error> {
        let ends = root.epoch.saturating_add(1).saturating_mul(p.epoch_seconds);
        if now < ends {
            return Err(Error::TooEarly(ends.min(MAX_TIME)));
        }
        self.mature(now);
        if let Some((_, active_at)) = self.waiting {
            return Err(Error::StillWaiting(active_at));
        }
        if root.epoch <= self.active.epoch {
            return Err(Error::BadEpoch(self.active.epoch));
        }
        if root.hash.is_zero() || root.total < self.active.total {
            return Err(Error::BadData);
        }
        if root.total > self.received {
            return Err(Error::Unfunded { total: root.total, available: self.received });
        }
        let active_at = now + p.delay;
        self.waiting = Some((root, active_at));
        Ok(active_at)
    }

    /// The waiting root is taken back.
    pub fn cancel(&mut self, epoch: u64, now: u64) -> Result<Word, Error> {
        self.mature(now);
        match self.waiting {
            Some((root, _)) if root.epoch == epoch => {
                self.waiting = None;
                Ok(root.hash)
            }
            _ => Err(Error::NothingWaits),
        }
    }

    /// Counts an amount as paid.
    pub fn pay(&mut self, amount: u128) -> Result<(), Error> {
        let left = self.active.total.saturating_sub(self.paid);
        if amount > left {
            return Err(Error::Exhausted(left));
        }
        self.paid += amount;
        Ok(())
    }
}
