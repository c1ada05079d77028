//! Static gas of outgoing calls.
//!
//! Measured on the embedded chain (fees of protocol 84): `ft_transfer` 1.8 TGas, `burn` 1.7, a callback of
//! ours 1.7. Each constant is about two and a half times that, so that a doubled fee still fits.
use near_sdk::Gas;

/// `ft_transfer` and `burn` of the token.
pub const TOKEN_CALL: Gas = Gas::from_tgas(5);
/// `on_withdrawn`, `on_stake_withdrawn`, `on_burned`.
pub const CALLBACK: Gas = Gas::from_tgas(5);
/// `migrate` of new code, and a first read by it. Deployment itself costs about 70 GGas a kilobyte.
pub const MIGRATE: Gas = Gas::from_tgas(50);
pub const FIRST_READ: Gas = Gas::from_tgas(10);
