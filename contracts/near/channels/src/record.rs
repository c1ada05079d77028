//! What is kept of a channel, and what each event does to it: the arithmetic of `ChannelRecord` in the core.
use std::fmt::{Display, Formatter, Result as FmtResult};

use near_sdk::near;

use crate::errors::Error;
use crate::storage::RECORD_OVERHEAD;
use crate::storage_keys::StorageKey;
use crate::store;
use crate::types::Word;

/// Of the 24 bits that an epoch has in what is signed.
pub const MAX_EPOCH: u32 = (1 << 24) - 1;
/// Bytes of version, deposit, claimed, time, epoch and two amounts that are due.
const RECORD_VALUE: u64 = 1 + 16 + 16 + 8 + 4 + 16 + 16;
/// What a channel stores, for good: its epoch must outlive every voucher.
pub const CHANNEL_BYTES: u64 = RECORD_OVERHEAD + 1 + 32 + RECORD_VALUE;

#[near(serializers = [json])]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Never opened.
    None,
    /// A deposit is locked; vouchers pay.
    Open,
    /// The client asked for the rest; vouchers pay until the challenge period ends.
    Closing,
    /// Holds nothing; may be opened again, with the next epoch.
    Closed,
}

impl Display for State {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        f.write_str(match self {
            Self::None => "none",
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Closed => "closed",
        })
    }
}

#[near(serializers = [borsh])]
#[derive(Clone)]
pub enum ChannelRecord {
    V1(Record),
}

/// One record of a fixed size, bought when the channel is first opened and never removed. Amounts are base units;
/// all but the last two are of the present epoch.
#[near(serializers = [borsh])]
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Record {
    /// Put in since the channel was opened.
    pub deposit: u128,
    /// Paid out of it; never more.
    pub claimed: u128,
    /// The last second in which a voucher pays; 0 while the client has not asked for the rest.
    pub closes_at: u64,
    /// How often the channel was opened; vouchers of another epoch are worth nothing.
    pub epoch: u32,
    /// What the token refused to send to the owner and to the client. No part of the deposit any more; waits for
    /// `pay_due` whatever becomes of the channel.
    pub due_owner: u128,
    pub due_client: u128,
}

impl Record {
    /// None where no channel was ever opened.
    pub fn find(id: &Word) -> Option<Self> {
        let ChannelRecord::V1(record) = store::load(StorageKey::Channels, &id.0)?;
        Some(record)
    }

    /// Of a channel that holds money.
    pub fn live(id: &Word) -> Result<Self, Error> {
        let record = Self::find(id).unwrap_or_default();
        if record.deposit == 0 {
            return Err(Error::BadState(*id, record.state()));
        }
        Ok(record)
    }

    pub fn save(self, id: &Word) {
        store::save(StorageKey::Channels, &id.0, &ChannelRecord::V1(self));
    }

    pub fn state(&self) -> State {
        match (self.deposit, self.epoch, self.closes_at) {
            (0, 0, _) => State::None,
            (0, ..) => State::Closed,
            (_, _, 0) => State::Open,
            _ => State::Closing,
        }
    }

    /// What a voucher adds to what was claimed: never more than the deposit holds.
    pub fn payable(&self, cumulative_amount: u128) -> u128 {
        cumulative_amount.min(self.deposit).saturating_sub(self.claimed)
    }

    /// A new epoch with a deposit.
    pub fn open(&mut self, id: &Word, deposit: u128) -> Result<(), Error> {
        if self.deposit != 0 {
            return Err(Error::BadState(*id, self.state()));
        }
        if self.epoch == MAX_EPOCH {
            return Err(Error::UsedUp(*id));
        }
        *self = Self { deposit, claimed: 0, closes_at: 0, epoch: self.epoch + 1, ..*self };
        Ok(())
    }

    /// Whoever held something gets it; the rest of the deposit is returned.
    pub fn end(&mut self) -> u128 {
        let refunded = self.deposit - self.claimed;
        *self = Self { deposit: 0, claimed: 0, closes_at: 0, ..*self };
        refunded
    }
}
