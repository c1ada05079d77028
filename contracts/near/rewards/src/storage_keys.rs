//! Prefixes of what is stored beside the contract's own state. Never renumber.
use near_sdk::{near, BorshStorageKey};

#[near(serializers = [borsh])]
#[derive(BorshStorageKey)]
pub enum StorageKey {
    Roles,
    Claimed,
}
