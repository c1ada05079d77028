//! Reputation, fees and slashes. Integers, non-negative, divisions round down; R is in thousandths of a point.
//!
//! ```text
//! payment  fee · (8,500,000 + R) / 10,000,000                 (φ = 1500 - R bps, R in points, unrounded)
//! w        min(fee · (1,500,000 - R) / 10,000,000, w0)        (w / w0 is the weight, 0..1)
//! paid     R + 10,000 · w · (1,000,000 - R) / (w0 · 1,000,000)
//! lost     R - R · w / (10 · w0)
//! silent   R - R / 20
//! slash    a fifth of what is bonded and unbonding, rounded up; bonded first; of it the smaller of the
//!          fixed bounty and a tenth to the submitter, the rest burned
//! idle     for each whole week: R - (R - 100,000) / 10 while R > 100,000
//! ```
//! The same lines as in Solidity and Python, which replay the same vectors. R is the value before the update,
//! after idle weeks were charged. The largest product, 10,000 · w · 1,000,000 with w < 2^94, is below 2^128.

pub const MAX: u32 = 1_000_000;
pub const START: u32 = 100_000;

pub fn payment(fee: u128, r: u32) -> u128 {
    fee * (8_500_000 + u128::from(r)) / 10_000_000
}

pub fn fault_payment(fee: u128) -> u128 {
    fee / 10
}

fn weight(fee: u128, r: u32, w0: u128) -> u128 {
    (fee * (1_500_000 - u128::from(r)) / 10_000_000).min(w0)
}

pub fn paid(r: u32, fee: u128, w0: u128) -> u32 {
    let gain = 10_000 * weight(fee, r, w0) * u128::from(MAX - r) / (w0 * u128::from(MAX));
    r + gain as u32 // at most 10,000
}

pub fn lost(r: u32, fee: u128, w0: u128) -> u32 {
    r - (u128::from(r) * weight(fee, r, w0) / (10 * w0)) as u32 // at most R / 10
}

pub fn silent(r: u32) -> u32 {
    r - r / 20
}

/// Ends when a week changes nothing any more, after 110 rounds at most.
pub fn idle(mut r: u32, weeks: u64) -> u32 {
    for _ in 0..weeks {
        if r < START + 10 {
            break;
        }
        r -= (r - START) / 10;
    }
    r
}

/// What a proven equivocation costs.
#[derive(Debug, PartialEq, Eq)]
pub struct Slash {
    pub from_bonded: u128,
    pub from_unbonding: u128,
    pub bounty: u128,
}

impl Slash {
    pub fn amount(&self) -> u128 {
        self.from_bonded + self.from_unbonding
    }
}

pub fn slash(bonded: u128, unbonding: u128, fixed_bounty: u128) -> Slash {
    let amount = (bonded + unbonding).div_ceil(5);
    let from_bonded = amount.min(bonded);
    Slash { from_bonded, from_unbonding: amount - from_bonded, bounty: (amount / 10).min(fixed_bounty) }
}
