//! Every refusal of a rule: `E_NAME: {arguments as JSON}`. Names and arguments are stable.
use std::fmt::{Display, Formatter, Result as FmtResult};

use near_sdk::{AccountId, FunctionError, NearToken};

use crate::types::{NodeId, OperatorKey, Standing};

#[derive(Debug, Clone, PartialEq, Eq, FunctionError)]
pub enum Error {
    AcceptExpired(u64),
    AlreadyBeaten(NodeId, u64),
    BadApproval,
    BadData,
    BadEvidence,
    BadNonce(u32),
    BadOpening,
    BadOperator(OperatorKey),
    BadSeat(usize),
    BadSignature(usize),
    BadStanding(NodeId, Standing),
    BadTask,
    Forbidden(AccountId),
    InUse,
    Insufficient { account: AccountId, available: u128, needed: u128 },
    LaneBusy,
    NoHeartbeat(NodeId, u64),
    NoUpgrade,
    NotOpen,
    NotRegistered(AccountId),
    OneYocto(NearToken),
    OwnerTwice(AccountId),
    Paused,
    SeatTaken(usize),
    SignatureExpired(u64),
    StakeTooLow { stake: u128, minimum: u128 },
    Storage(NearToken),
    TooEarly(u64),
    TooLate(u64),
}

impl Display for Error {
    /// Written by hand: a JSON serialiser for this alone would weigh 20 kB. No text in it needs an escape.
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        match self {
            Self::AcceptExpired(at) => write!(f, "E_ACCEPT_EXPIRED: {{\"valid_until\":{at}}}"),
            Self::AlreadyBeaten(node, epoch) => {
                write!(f, "E_ALREADY_BEATEN: {{\"node\":\"{node}\",\"epoch\":{epoch}}}")
            }
            Self::BadApproval => f.write_str("E_BAD_APPROVAL: {}"),
            Self::BadData => f.write_str("E_BAD_DATA: {}"),
            Self::BadEvidence => f.write_str("E_BAD_EVIDENCE: {}"),
            Self::BadNonce(expected) => write!(f, "E_BAD_NONCE: {{\"expected\":{expected}}}"),
            Self::BadOpening => f.write_str("E_BAD_OPENING: {}"),
            Self::BadOperator(key) => write!(f, "E_BAD_OPERATOR: {{\"operator\":\"{key}\"}}"),
            Self::BadSeat(seat) => write!(f, "E_BAD_SEAT: {{\"seat\":{seat}}}"),
            Self::BadSignature(seat) => write!(f, "E_BAD_SIGNATURE: {{\"seat\":{seat}}}"),
            Self::BadStanding(node, standing) => {
                write!(f, "E_BAD_STANDING: {{\"node\":\"{node}\",\"standing\":\"{}\"}}", standing.text())
            }
            Self::BadTask => f.write_str("E_BAD_TASK: {}"),
            Self::Forbidden(caller) => write!(f, "E_FORBIDDEN: {{\"caller\":\"{caller}\"}}"),
            Self::InUse => f.write_str("E_IN_USE: {}"),
            Self::Insufficient { account, available, needed } => write!(
                f,
                "E_INSUFFICIENT: {{\"account\":\"{account}\",\"available\":\"{available}\",\"needed\":\"{needed}\"}}"
            ),
            Self::LaneBusy => f.write_str("E_LANE_BUSY: {}"),
            Self::NoHeartbeat(node, last) => {
                write!(f, "E_NO_HEARTBEAT: {{\"node\":\"{node}\",\"last\":{last}}}")
            }
            Self::NoUpgrade => f.write_str("E_NO_UPGRADE: {}"),
            Self::NotOpen => f.write_str("E_NOT_OPEN: {}"),
            Self::NotRegistered(account) => write!(f, "E_NOT_REGISTERED: {{\"account\":\"{account}\"}}"),
            Self::OneYocto(attached) => {
                write!(f, "E_ONE_YOCTO: {{\"attached\":\"{}\"}}", attached.as_yoctonear())
            }
            Self::OwnerTwice(owner) => write!(f, "E_OWNER_TWICE: {{\"owner\":\"{owner}\"}}"),
            Self::Paused => f.write_str("E_PAUSED: {}"),
            Self::SeatTaken(seat) => write!(f, "E_SEAT_TAKEN: {{\"seat\":{seat}}}"),
            Self::SignatureExpired(at) => write!(f, "E_SIGNATURE_EXPIRED: {{\"valid_until\":{at}}}"),
            Self::StakeTooLow { stake, minimum } => {
                write!(f, "E_STAKE_TOO_LOW: {{\"stake\":\"{stake}\",\"minimum\":\"{minimum}\"}}")
            }
            Self::Storage(needed) => {
                write!(f, "E_STORAGE: {{\"needed\":\"{}\"}}", needed.as_yoctonear())
            }
            Self::TooEarly(time) => write!(f, "E_TOO_EARLY: {{\"time\":{time}}}"),
            Self::TooLate(deadline) => write!(f, "E_TOO_LATE: {{\"deadline\":{deadline}}}"),
        }
    }
}
