//! What travels in arguments: the same objects as in the Python core.
use near_sdk::json_types::U128;
use near_sdk::serde::de::Error as DeError;
use near_sdk::serde::{Deserialize, Deserializer};
use near_sdk::{near, AccountId};

use crate::errors::Error;
use crate::types::{NodeId, OperatorKey, Signature, Word, MAX_AMOUNT};

/// Who pays, which node works, and whose signature promises; fixed for the channel's life. Its hash is its id.
#[near(serializers = [json])]
#[derive(Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    pub client: AccountId,
    /// `owner#index`; its owner is paid. Two daemons of one owner that counted on the same voucher would work for
    /// money that exists once, so a channel is one node's.
    pub node: NodeId,
    /// Signs vouchers for the client. It cannot be changed or revoked: it dies with the channel.
    pub session_key: OperatorKey,
}

/// The epoch is signed too, and is always the channel's own.
#[near(serializers = [json])]
#[derive(Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Voucher {
    /// Base units promised since the channel was opened.
    pub cumulative_amount: U128,
    /// Stands for the receipts of everything that is paid by it.
    pub receipts_root: Word,
    #[serde(deserialize_with = "signature")]
    pub signature: Signature,
}

fn signature<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Signature, D::Error> {
    let text = <String as Deserialize>::deserialize(deserializer)?;
    from_base64(&text).map(Signature).ok_or_else(|| D::Error::custom("not 64 bytes in base64"))
}

/// The decoder that `Signature` has for any length and alphabet would weigh 4 kB, which every payment loads twice.
fn from_base64(text: &str) -> Option<[u8; 64]> {
    let digits = text.strip_suffix("==")?.as_bytes();
    if digits.len() != 86 {
        return None;
    }
    let mut bytes = [0; 64];
    let (mut held, mut bits, mut out) = (0, 0, bytes.iter_mut());
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            *out.next()? = (held >> bits) as u8;
            held &= (1 << bits) - 1;
        }
    }
    // The last digit has four bits more than there are.
    (held == 0).then_some(bytes)
}

impl Voucher {
    /// What is signed has 96 bits for the amount.
    pub fn require_sound(&self) -> Result<(), Error> {
        if self.cumulative_amount.0 > MAX_AMOUNT {
            return Err(Error::BadData);
        }
        Ok(())
    }
}

#[near(serializers = [json])]
#[derive(Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Redemption {
    pub channel: Channel,
    pub voucher: Voucher,
}
