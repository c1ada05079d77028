//! Every refusal of a rule: `E_NAME: {arguments as JSON}`. Names and arguments are stable.
use std::fmt::{Display, Formatter, Result as FmtResult};

use near_sdk::{AccountId, FunctionError, NearToken};

#[derive(Debug, Clone, PartialEq, Eq, FunctionError)]
pub enum Error {
    /// No root, a total below the last, or shares that make no sense.
    BadData,
    /// Not after the active root's.
    BadEpoch(u64),
    /// Not a leaf of the active root, or of another contract or chain.
    BadProof,
    /// Leaves add up to more than the root's total.
    Exhausted(u128),
    Forbidden(AccountId),
    NothingNew(u128),
    NothingWaits,
    OneYocto(NearToken),
    StillWaiting(u64),
    /// yoctoNEAR that the account's record costs whoever claims for it first.
    Storage(NearToken),
    TooEarly(u64),
    Unfunded {
        total: u128,
        available: u128,
    },
}

impl Error {
    pub fn name(&self) -> &'static str {
        match self {
            Self::BadData => "E_BAD_DATA",
            Self::BadEpoch(_) => "E_BAD_EPOCH",
            Self::BadProof => "E_BAD_PROOF",
            Self::Exhausted(_) => "E_EXHAUSTED",
            Self::Forbidden(_) => "E_FORBIDDEN",
            Self::NothingNew(_) => "E_NOTHING_NEW",
            Self::NothingWaits => "E_NOTHING_WAITS",
            Self::OneYocto(_) => "E_ONE_YOCTO",
            Self::StillWaiting(_) => "E_STILL_WAITING",
            Self::Storage(_) => "E_STORAGE",
            Self::TooEarly(_) => "E_TOO_EARLY",
            Self::Unfunded { .. } => "E_UNFUNDED",
        }
    }
}

impl Display for Error {
    /// Written by hand: a JSON serialiser for this alone would weigh 20 kB. No text in it needs an escape.
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        write!(f, "{}: {{", self.name())?;
        match self {
            Self::BadEpoch(epoch) => write!(f, "\"epoch\":{epoch}")?,
            Self::Exhausted(left) => write!(f, "\"left\":\"{left}\"")?,
            Self::Forbidden(caller) => write!(f, "\"caller\":\"{caller}\"")?,
            Self::NothingNew(claimed) => write!(f, "\"claimed\":\"{claimed}\"")?,
            Self::OneYocto(attached) => write!(f, "\"attached\":\"{}\"", attached.as_yoctonear())?,
            Self::StillWaiting(active_at) => write!(f, "\"active_at\":{active_at}")?,
            Self::Storage(needed) => write!(f, "\"needed\":\"{}\"", needed.as_yoctonear())?,
            Self::TooEarly(time) => write!(f, "\"time\":{time}")?,
            Self::Unfunded { total, available } => {
                write!(f, "\"total\":\"{total}\",\"available\":\"{available}\"")?
            }
            Self::BadData | Self::BadProof | Self::NothingWaits => {}
        }
        f.write_str("}")
    }
}
