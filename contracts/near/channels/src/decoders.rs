//! Base64 and base58 of the one length that a signature and a key have.
//!
//! Every payment decodes both, and the payment and its callback each load the contract. The decoder that `Signature` has
//! for any length weighs 4 kB, and the one of `OperatorKey` goes through all bytes for every digit; together they would
//! be 20 GGas. What is refused, and in which words, is the same.
use near_sdk::serde::de::Error;
use near_sdk::serde::{Deserialize, Deserializer};

use crate::types::{OperatorKey, Signature};

/// Digits that one step takes: 58^5 is below 2^32.
const STEP: usize = 5;
/// No 32 bytes have more.
const MAX_DIGITS: usize = 44;

pub fn signature<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Signature, D::Error> {
    let text = <String as Deserialize>::deserialize(deserializer)?;
    base64(&text).map(Signature).ok_or_else(|| D::Error::custom("not 64 bytes in base64"))
}

pub fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OperatorKey, D::Error> {
    let text = <String as Deserialize>::deserialize(deserializer)?;
    let digits = text.strip_prefix("ed25519:");
    let key = digits.and_then(|digits| base58(digits.as_bytes()));
    key.map(OperatorKey).ok_or_else(|| D::Error::custom("not an ed25519: key"))
}

fn base64(text: &str) -> Option<[u8; 64]> {
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

fn base58(digits: &[u8]) -> Option<[u8; 32]> {
    if digits.len() > MAX_DIGITS {
        return None;
    }
    // The number, 32 bits by 32 bits, the greatest first.
    let mut words = [0u32; 8];
    for step in digits.chunks(STEP) {
        // Nothing reaches 2^64 here; to see that, a checked product would take longer than the rest.
        let (mut factor, mut carry) = (1u64, 0u64);
        for digit in step {
            let value = match digit {
                b'1'..=b'9' => digit - b'1',
                b'A'..=b'H' => digit - b'A' + 9,
                b'J'..=b'N' => digit - b'J' + 17,
                b'P'..=b'Z' => digit - b'P' + 22,
                b'a'..=b'k' => digit - b'a' + 33,
                b'm'..=b'z' => digit - b'm' + 44,
                _ => return None,
            };
            factor = factor.wrapping_mul(58);
            carry = carry.wrapping_mul(58) + u64::from(value);
        }
        for word in words.iter_mut().rev() {
            carry += u64::from(*word).wrapping_mul(factor);
            *word = carry as u32;
            carry >>= 32;
        }
        if carry != 0 {
            return None;
        }
    }
    let mut bytes = [0; 32];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    // Zeros in front are ones, each of them.
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let ones = digits.iter().take_while(|digit| **digit == b'1').count();
    (zeros == ones).then_some(bytes)
}
