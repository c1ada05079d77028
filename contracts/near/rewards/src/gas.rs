//! Static gas of outgoing calls.
//!
//! Measured on the embedded chain (fees of protocol 84): `ft_transfer` 1.7 TGas, a callback that takes a claim back 1.6.
//! Each constant is more than twice that, so that a doubled fee still fits.
use near_sdk::Gas;

/// `ft_transfer` of the token.
pub const TOKEN_CALL: Gas = Gas::from_tgas(5);
/// `on_sent`.
pub const CALLBACK: Gas = Gas::from_tgas(5);
