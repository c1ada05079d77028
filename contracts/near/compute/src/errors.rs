//! Every refusal of a rule: `E_NAME: {arguments as JSON}`. Names and arguments are stable.
use std::fmt::{Display, Formatter, Result as FmtResult};

use near_sdk::serde_json::{json, Value};
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

impl Error {
    fn parts(&self) -> (&'static str, Value) {
        match self {
            Self::AcceptExpired(at) => ("E_ACCEPT_EXPIRED", json!({ "valid_until": at })),
            Self::AlreadyBeaten(node, epoch) => ("E_ALREADY_BEATEN", json!({ "node": node, "epoch": epoch })),
            Self::BadApproval => ("E_BAD_APPROVAL", json!({})),
            Self::BadData => ("E_BAD_DATA", json!({})),
            Self::BadEvidence => ("E_BAD_EVIDENCE", json!({})),
            Self::BadNonce(expected) => ("E_BAD_NONCE", json!({ "expected": expected })),
            Self::BadOpening => ("E_BAD_OPENING", json!({})),
            Self::BadOperator(key) => ("E_BAD_OPERATOR", json!({ "operator": key })),
            Self::BadSeat(seat) => ("E_BAD_SEAT", json!({ "seat": seat })),
            Self::BadSignature(seat) => ("E_BAD_SIGNATURE", json!({ "seat": seat })),
            Self::BadStanding(node, standing) => {
                ("E_BAD_STANDING", json!({ "node": node, "standing": standing }))
            }
            Self::BadTask => ("E_BAD_TASK", json!({})),
            Self::Forbidden(caller) => ("E_FORBIDDEN", json!({ "caller": caller })),
            Self::InUse => ("E_IN_USE", json!({})),
            Self::Insufficient { account, available, needed } => (
                "E_INSUFFICIENT",
                json!({
                    "account": account,
                    "available": available.to_string(),
                    "needed": needed.to_string(),
                }),
            ),
            Self::LaneBusy => ("E_LANE_BUSY", json!({})),
            Self::NoHeartbeat(node, last) => ("E_NO_HEARTBEAT", json!({ "node": node, "last": last })),
            Self::NoUpgrade => ("E_NO_UPGRADE", json!({})),
            Self::NotOpen => ("E_NOT_OPEN", json!({})),
            Self::NotRegistered(account) => ("E_NOT_REGISTERED", json!({ "account": account })),
            Self::OneYocto(attached) => ("E_ONE_YOCTO", json!({ "attached": attached })),
            Self::OwnerTwice(owner) => ("E_OWNER_TWICE", json!({ "owner": owner })),
            Self::Paused => ("E_PAUSED", json!({})),
            Self::SeatTaken(seat) => ("E_SEAT_TAKEN", json!({ "seat": seat })),
            Self::SignatureExpired(at) => ("E_SIGNATURE_EXPIRED", json!({ "valid_until": at })),
            Self::StakeTooLow { stake, minimum } => {
                ("E_STAKE_TOO_LOW", json!({ "stake": stake.to_string(), "minimum": minimum.to_string() }))
            }
            Self::Storage(needed) => ("E_STORAGE", json!({ "needed": needed })),
            Self::TooEarly(time) => ("E_TOO_EARLY", json!({ "time": time })),
            Self::TooLate(deadline) => ("E_TOO_LATE", json!({ "deadline": deadline })),
        }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        let (name, arguments) = self.parts();
        write!(f, "{name}: {arguments}")
    }
}
