//! Records under a key of their own. Calls read what they need and write what they changed, so that those which
//! change nothing in the contract's own state do not write that either.
use near_sdk::borsh::{to_vec, BorshDeserialize, BorshSerialize};
use near_sdk::env;

use crate::storage_keys::StorageKey;

fn place(kind: StorageKey, key: &[u8]) -> Vec<u8> {
    [&[kind as u8], key].concat()
}

pub fn load<T: BorshDeserialize>(kind: StorageKey, key: &[u8]) -> Option<T> {
    let found = env::storage_read(&place(kind, key))?;
    Some(T::try_from_slice(&found).unwrap_or_else(|_| env::panic_str("E_STATE: {}")))
}

pub fn save<T: BorshSerialize>(kind: StorageKey, key: &[u8], value: &T) {
    let bytes = to_vec(value).unwrap_or_else(|_| env::abort());
    env::storage_write(&place(kind, key), &bytes);
}

pub fn remove(kind: StorageKey, key: &[u8]) {
    env::storage_remove(&place(kind, key));
}
