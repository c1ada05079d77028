//! Every refusal of a rule: `E_NAME: {arguments as JSON}`. Names and arguments are stable.
use std::fmt::{Display, Formatter, Result as FmtResult};

use near_sdk::{AccountId, FunctionError, NearToken};

use crate::record::State;
use crate::types::Word;

#[derive(Debug, Clone, PartialEq, Eq, FunctionError)]
pub enum Error {
    /// No channel, or no amount.
    BadData,
    /// Another key, channel, epoch, contract or chain.
    BadSignature,
    BadState(Word, State),
    Forbidden(AccountId),
    InUse,
    Insufficient {
        account: AccountId,
        available: u128,
        needed: u128,
    },
    NoUpgrade,
    NotRegistered(AccountId),
    NothingDue,
    NothingNew(u128),
    NothingRedeemed,
    OneYocto(NearToken),
    Paused,
    Storage(NearToken),
    TooEarly(u64),
    TooLate(u64),
    /// Opened as often as its epochs can count.
    UsedUp(Word),
}

impl Error {
    pub fn name(&self) -> &'static str {
        match self {
            Self::BadData => "E_BAD_DATA",
            Self::BadSignature => "E_BAD_SIGNATURE",
            Self::BadState(..) => "E_BAD_STATE",
            Self::Forbidden(_) => "E_FORBIDDEN",
            Self::InUse => "E_IN_USE",
            Self::Insufficient { .. } => "E_INSUFFICIENT",
            Self::NoUpgrade => "E_NO_UPGRADE",
            Self::NotRegistered(_) => "E_NOT_REGISTERED",
            Self::NothingDue => "E_NOTHING_DUE",
            Self::NothingNew(_) => "E_NOTHING_NEW",
            Self::NothingRedeemed => "E_NOTHING_REDEEMED",
            Self::OneYocto(_) => "E_ONE_YOCTO",
            Self::Paused => "E_PAUSED",
            Self::Storage(_) => "E_STORAGE",
            Self::TooEarly(_) => "E_TOO_EARLY",
            Self::TooLate(_) => "E_TOO_LATE",
            Self::UsedUp(_) => "E_USED_UP",
        }
    }
}

impl Display for Error {
    /// Written by hand: a JSON serialiser for this alone would weigh 20 kB. No text in it needs an escape.
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        write!(f, "{}: {{", self.name())?;
        match self {
            Self::BadState(id, state) => write!(f, "\"channel_id\":\"{id}\",\"state\":\"{state}\"")?,
            Self::Forbidden(caller) => write!(f, "\"caller\":\"{caller}\"")?,
            Self::Insufficient { account, available, needed } => {
                write!(f, "\"account\":\"{account}\",\"available\":\"{available}\",\"needed\":\"{needed}\"")?
            }
            Self::NotRegistered(account) => write!(f, "\"account\":\"{account}\"")?,
            Self::NothingNew(claimed) => write!(f, "\"claimed\":\"{claimed}\"")?,
            Self::OneYocto(attached) => write!(f, "\"attached\":\"{}\"", attached.as_yoctonear())?,
            Self::Storage(needed) => write!(f, "\"needed\":\"{}\"", needed.as_yoctonear())?,
            Self::TooEarly(time) => write!(f, "\"time\":{time}")?,
            Self::TooLate(deadline) => write!(f, "\"deadline\":{deadline}")?,
            Self::UsedUp(id) => write!(f, "\"channel_id\":\"{id}\"")?,
            _ => {}
        }
        f.write_str("}")
    }
}
