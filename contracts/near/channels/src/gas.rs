//! Static gas of outgoing calls.
//!
//! Measured on the embedded chain (fees of protocol 84): `ft_transfer` 1.7 TGas, a callback that puts one amount back
//! 1.5, each further one 0.3. Each constant is more than twice that, so that a doubled fee still fits.
use near_sdk::Gas;

/// `ft_transfer` of the token.
pub const TOKEN_CALL: Gas = Gas::from_tgas(5);
/// `on_sent`, and for every amount that it may have to restore.
pub const CALLBACK: Gas = Gas::from_tgas(4);
pub const RESTORE: Gas = Gas::from_tgas(1);
/// `migrate` of new code, and a first read by it. Deployment itself costs about 70 GGas a kilobyte.
pub const MIGRATE: Gas = Gas::from_tgas(50);
pub const FIRST_READ: Gas = Gas::from_tgas(10);
