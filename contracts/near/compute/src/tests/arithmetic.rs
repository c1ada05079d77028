//! `contracts/spec/vectors/arithmetic.json`, replayed.
use near_sdk::serde_json::Value;

use super::*;
use crate::reputation;

fn read() -> Value {
    let path = format!("{}/../../spec/vectors/arithmetic.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn sum(value: &Value) -> u128 {
    value.as_str().unwrap().parse().unwrap()
}

fn points(value: &Value) -> u32 {
    value.as_u64().unwrap() as u32
}

#[test]
fn fees_and_reputation_are_those_of_the_core() {
    for case in read()["seats"].as_array().unwrap() {
        let (fee, r, w0) = (sum(&case["fee"]), points(&case["reputation"]), sum(&case["w0"]));
        assert_eq!(reputation::payment(fee, r), sum(&case["paid"]));
        assert_eq!(fee - reputation::payment(fee, r), sum(&case["protocolCut"]));
        assert_eq!(reputation::fault_payment(fee), sum(&case["faultPaid"]));
        assert_eq!(reputation::paid(r, fee, w0), points(&case["success"]));
        assert_eq!(reputation::lost(r, fee, w0), points(&case["lostVote"]));
        assert_eq!(reputation::silent(r), points(&case["silent"]));
    }
}

#[test]
fn idle_weeks_cost_what_the_core_says() {
    for case in read()["idle"].as_array().unwrap() {
        let weeks = case["weeks"].as_u64().unwrap();
        assert_eq!(reputation::idle(points(&case["reputation"]), weeks), points(&case["after"]));
    }
    // A node that comes back after centuries does not run out of gas.
    assert_eq!(reputation::idle(reputation::MAX, u64::MAX), reputation::idle(reputation::MAX, 200));
}

#[test]
fn slashes_are_those_of_the_core() {
    for case in read()["slashes"].as_array().unwrap() {
        let (bonded, unbonding) = (sum(&case["bonded"]), sum(&case["unbonding"]));
        let slash = reputation::slash(bonded, unbonding, sum(&case["fixedBounty"]));
        assert_eq!(slash.amount(), sum(&case["amount"]));
        assert_eq!(slash.from_bonded, sum(&case["fromBonded"]));
        assert_eq!(slash.bounty, sum(&case["bounty"]));
        assert!(slash.from_unbonding <= unbonding);
    }
}

#[test]
fn the_largest_sums_do_not_overflow() {
    for r in [0, 1, reputation::START, reputation::MAX - 1, reputation::MAX] {
        for w0 in [1, MAX_AMOUNT] {
            assert!(reputation::paid(r, MAX_AMOUNT, w0) <= reputation::MAX);
            assert!(reputation::lost(r, MAX_AMOUNT, w0) <= r);
            assert!(reputation::payment(MAX_AMOUNT, r) <= MAX_AMOUNT);
        }
    }
}
