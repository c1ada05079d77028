//! What travels in arguments and events: the same objects as in the Python core.
use std::fmt::{Display, Formatter, Result as FmtResult};
use std::str::FromStr;

use near_sdk::base64::engine::general_purpose::STANDARD as BASE64;
use near_sdk::base64::Engine;
use near_sdk::borsh::{BorshDeserialize, BorshSerialize};
use near_sdk::json_types::U128;
use near_sdk::serde::de::Error as DeError;
use near_sdk::serde::{Deserialize, Deserializer, Serialize, Serializer};
use near_sdk::{bs58, near, AccountId};

/// Base units fit 96 bits, on both chains and in everything that is signed.
pub const MAX_AMOUNT: u128 = (1 << 96) - 1;
pub const MAX_SEATS: usize = 15;

/// A value with one text form: JSON strings, and nothing else.
macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

/// 32 bytes, written `0x` + 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
#[borsh(crate = "near_sdk::borsh")]
pub struct Word(pub [u8; 32]);

impl Word {
    pub const ZERO: Self = Self([0; 32]);

    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl Display for Word {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'0'; 66];
        text[1] = b'x';
        for (i, byte) in self.0.iter().enumerate() {
            text[2 + 2 * i] = DIGITS[usize::from(byte >> 4)];
            text[3 + 2 * i] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| std::fmt::Error)?)
    }
}

impl FromStr for Word {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "not 0x and 64 lower-case hex digits";
        let digits = text.strip_prefix("0x").ok_or(WANTED)?.as_bytes();
        if digits.len() != 64 {
            return Err(WANTED);
        }
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(WANTED),
        };
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = (nibble(digits[2 * i])? << 4) | nibble(digits[2 * i + 1])?;
        }
        Ok(Self(bytes))
    }
}

as_text!(Word);

/// An Ed25519 signature, base64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signature(pub [u8; 64]);

impl Display for Signature {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl FromStr for Signature {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = "not 64 bytes in base64";
        let bytes = BASE64.decode(text).map_err(|_| wanted)?;
        Ok(Self(bytes.try_into().map_err(|_| wanted)?))
    }
}

as_text!(Signature);

/// A node's hot key: `ed25519:` + base58.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(crate = "near_sdk::borsh")]
pub struct OperatorKey(pub [u8; 32]);

impl Display for OperatorKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        write!(f, "ed25519:{}", bs58::encode(self.0).into_string())
    }
}

impl FromStr for OperatorKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = "not an ed25519: key";
        let digits = text.strip_prefix("ed25519:").ok_or(wanted)?;
        let mut key = [0; 32];
        // Longer text would not fit 32 bytes, and base58 takes quadratic time.
        if digits.len() > 44 || bs58::decode(digits).onto(&mut key[..]) != Ok(32) {
            return Err(wanted);
        }
        Ok(Self(key))
    }
}

as_text!(OperatorKey);

/// `owner#index`: who owns a node is read from its id, not from storage.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(crate = "near_sdk::borsh")]
pub struct NodeId(String);

impl NodeId {
    pub fn new(owner: &AccountId, index: u32) -> Self {
        Self(format!("{owner}#{index}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn owner(&self) -> &str {
        self.0.split_once('#').map_or("", |(owner, _)| owner)
    }

    pub fn owner_id(&self) -> AccountId {
        // Checked when the id was read.
        self.owner().parse().unwrap_or_else(|_| near_sdk::env::abort())
    }
}

impl Display for NodeId {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = "not owner#index";
        let (owner, index) = text.split_once('#').ok_or(wanted)?;
        let canonical = index == "0" || !index.starts_with(['0', '+']);
        if !canonical || index.parse::<u32>().is_err() || owner.parse::<AccountId>().is_err() {
            return Err(wanted);
        }
        Ok(Self(text.to_owned()))
    }
}

as_text!(NodeId);

/// Where a node stands.
#[near(serializers = [borsh, json])]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Never registered.
    None,
    /// Assignable; fewer than 20 tasks paid and checked.
    Probation,
    Active,
    /// All of the stake is leaving; slashable, not assignable.
    Unbonding,
    /// Slashed; its owner releases it.
    Jailed,
    /// Stake withdrawn; the id is not used again.
    Exited,
}

impl Standing {
    /// As in JSON.
    pub fn text(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Probation => "probation",
            Self::Active => "active",
            Self::Unbonding => "unbonding",
            Self::Jailed => "jailed",
            Self::Exited => "exited",
        }
    }
}

/// What a client pays for. Travels in arguments and events; storage keeps its hash.
#[near(serializers = [json])]
#[derive(Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Task {
    pub client: AccountId,
    pub lane: u32,
    /// 1, 2, 3 … in each lane of the client.
    pub nonce: u32,
    /// Of one seat, base units.
    pub fee: U128,
    /// For whoever finalises, base units.
    pub tip: U128,
    /// 1 exactly for policy 0, else odd, 3 to 15.
    pub seats: u8,
    /// 0 `none/1`, 1–127 digest policies, 128–255 tolerance policies.
    pub policy: u8,
    /// Seconds a seat has from its assignment.
    pub lease: u32,
    /// Chain time; commits and assignments end with it.
    pub commit_deadline: u64,
    /// Seconds from the last commit, or else from the commit deadline, in which openings count.
    pub window: u32,
    pub spec_hash: Word,
}

impl Task {
    pub fn is_unchecked(&self) -> bool {
        self.policy == 0
    }

    pub fn is_tolerance(&self) -> bool {
        self.policy >= 128
    }

    /// Cannot overflow once the fields are known to be in range.
    pub fn escrowed(&self) -> u128 {
        self.fee.0 * u128::from(self.seats) + self.tip.0
    }

    pub fn all_seats(&self) -> u16 {
        (1 << self.seats) - 1
    }
}

/// One place of a committee; attempts count from 0.
#[near(serializers = [json])]
#[derive(Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    pub node: NodeId,
    pub operator: OperatorKey,
    pub lease_end: u64,
    pub attempt: u8,
}

/// A node's signed promise to take one seat.
#[near(serializers = [json])]
#[derive(Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    pub node: NodeId,
    pub valid_until: u64,
    pub signature: Signature,
}

/// Without a signature: the seat's key sent the transaction.
#[near(serializers = [json])]
#[derive(Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Commitment {
    pub seat: u8,
    pub value: Word,
    pub signature: Option<Signature>,
}

/// One for every committed seat, in the order of the commits. `digest` zero: not opened, and `salt` holds the
/// commitment itself. Under `none/1` the digest is the delivered one and the salt ignored.
#[near(serializers = [json])]
#[derive(Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    pub seat: u8,
    pub digest: Word,
    pub salt: Word,
}

/// A node's signed statement of what it computed.
#[near(serializers = [json])]
#[derive(Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct SignedResult {
    pub output_digest: Word,
    pub evidence_digest: Word,
    pub signature: Signature,
}

/// Bit i of `mask`: the output of seat i is within tolerance of the signer's own.
#[near(serializers = [json])]
#[derive(Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    pub seat: u8,
    pub mask: u16,
    pub signature: Signature,
}

/// Constants of a deployment; sums in base units, times in seconds.
#[near(serializers = [borsh, json])]
#[derive(Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Its vault account gets swept fees and forfeits.
    pub treasury: AccountId,
    pub min_stake: U128,
    /// Protocol fee of one seat at which an outcome moves reputation fully.
    pub weight_fee: U128,
    pub epoch_seconds: u64,
    pub unbonding_seconds: u64,
    /// For whoever proves equivocation, at most a tenth of what is slashed.
    pub bounty: U128,
    pub min_fee: U128,
    pub min_lease: u32,
    pub min_window: u32,
    /// The longest time from post to commit deadline, and the longest window.
    pub max_span: u32,
    /// Before a proposed owner may accept.
    pub owner_delay: u64,
    /// Before a proposed upgrade may be carried out; longer than unbonding.
    pub upgrade_delay: u64,
}
