//! What Python wrote into `contracts/spec/vectors`, replayed.
use near_sdk::serde_json::Value;

use super::*;
use crate::judge::Tally;

fn read(name: &str) -> Value {
    let path = format!("{}/../../spec/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn from<T: std::str::FromStr<Err = &'static str>>(value: &Value) -> T {
    value.as_str().unwrap().parse().unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn separator(domain: &Value) -> [u8; 32] {
    let text = |name: &str| domain[name].as_str().unwrap();
    let found = hash::separator(text("name"), text("chainId"), &id(text("contract")));
    assert_eq!(Word(found), from::<Word>(&domain["separator"]));
    found
}

#[test]
fn every_type_hash_is_that_of_its_text() {
    for (text, hash) in [
        hash::DOMAIN,
        hash::TASK,
        hash::ACCEPT,
        hash::COMMIT,
        hash::RESULT,
        hash::APPROVAL,
        hash::OPERATE,
        hash::COMMITMENT,
        hash::FAULT,
    ] {
        assert_eq!(env::keccak256_array(text.as_bytes()), hash, "{text}");
    }
}

#[test]
fn ids_digests_and_signatures_are_those_of_the_core() {
    let file = read("near");
    let (escrow, registry) = (separator(&file["escrow"]), separator(&file["registry"]));
    for case in list(&file["cases"]) {
        let task: Task = serde_json::from_value(case["task"].clone()).unwrap();
        let id = hash::task(&escrow, &task);
        assert_eq!(id, from::<Word>(&case["taskId"]));
        assert_eq!(serde_json::to_value(&task).unwrap(), case["task"]);
        let (node, key): (NodeId, OperatorKey) = (from(&case["node"]), from(&case["operator"]));
        assert_eq!(key.to_string(), case["operator"].as_str().unwrap());
        let seed: Word = from(&case["secret"]);
        assert_eq!(SigningKey::from_bytes(&seed.0).verifying_key().to_bytes(), key.0);
        let (output, evidence): (Word, Word) = (from(&case["outputDigest"]), from(&case["evidenceDigest"]));
        let (attempt, seat) = (number(&case["attempt"]) as u8, number(&case["seat"]));
        let valid_until = case["validUntil"].as_u64().unwrap();
        let held = Seat { node: node.clone(), operator: key, lease_end: 0, attempt };
        let value = hash::commitment(&id, seat, &held, &output, &from(&case["salt"]));
        assert_eq!(value, from::<Word>(&case["commitment"]));
        let signing = Signing { separator: &escrow, id: &id, seat, attempt };
        let digests = [
            ("accept", signing.accept(&node, valid_until)),
            ("commit", signing.commit(&value)),
            ("result", signing.result(&output, &evidence)),
            ("approval", signing.approval(&value, number(&case["mask"]) as u16)),
            ("operate", hash::operate(&registry, &node, &key, valid_until)),
        ];
        for (name, digest) in digests {
            assert_eq!(Word(digest), from::<Word>(&case["digests"][name]), "{name}");
            let signature: Signature = from(&case["signatures"][name]);
            assert!(hash::is_signed(digest, &signature, &key), "{name}");
            assert!(!hash::is_signed(value.0, &signature, &key) || digest == value.0);
            assert_eq!(signature.to_string(), case["signatures"][name].as_str().unwrap());
        }
    }
}

#[test]
fn a_text_that_is_no_node_or_no_key_is_refused() {
    let file = read("near");
    for text in list(&file["badNodes"]) {
        assert!(text.as_str().unwrap().parse::<NodeId>().is_err(), "{text}");
    }
    for text in list(&file["badKeys"]) {
        assert!(text.as_str().unwrap().parse::<OperatorKey>().is_err(), "{text}");
    }
}

#[test]
fn a_signature_for_sei_is_none_here() {
    let cases = read("digests");
    for case in list(&cases["cases"]) {
        for (name, digest) in case["digests"].as_object().unwrap() {
            let digest: Word = from(digest);
            let text = case["signatures"][name].as_str().unwrap();
            let bytes: Vec<u8> = (2..text.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
                .collect();
            let signature = Signature(bytes.try_into().unwrap());
            let seed: Word = from(&case["secret"]);
            let key = OperatorKey(SigningKey::from_bytes(&seed.0).verifying_key().to_bytes());
            assert!(!hash::is_signed(digest.0, &signature, &key));
        }
    }
}

#[test]
fn the_word_of_commitments_and_the_faults_are_those_of_the_core() {
    let file = read("commitments");
    for fold in list(&file["folds"]) {
        let mut chain = hash::Chain::new(number(&fold["nonce"]) as u32);
        for (seat, value) in list(&fold["seats"]).iter().zip(list(&fold["values"])) {
            chain.push(number(seat), &from(value));
        }
        let acc: Word = from(&fold["acc"]);
        assert_eq!(chain.acc(), acc);
        assert!(hash::Chain::read(&acc) == chain, "reads back");
    }
    let id: Word = from(&file["faultTaskId"]);
    for fault in list(&file["faults"]) {
        let digest: Word = from(&fault["digest"]);
        assert_eq!(hash::fault(&id, number(&fault["code"]) as u8), digest);
        assert!(hash::is_fault(&id, &digest));
        assert!(!hash::is_fault(&DIGEST, &digest));
    }
    assert!(!hash::is_fault(&id, &hash::fault(&id, 0)));
    assert!(!hash::is_fault(&id, &hash::fault(&id, 9)));
}

#[test]
fn verdicts_are_those_of_the_core() {
    let file = read("verdicts");
    for case in list(&file["digest"]) {
        let mut tally = Tally::new(Word([1; 32]), number(&case["seats"]));
        for (seat, digest) in list(&case["digests"]).iter().enumerate() {
            if number(digest) != 0 {
                tally.digests[seat] = Word([number(digest) as u8; 32]);
                tally.opened |= 1 << seat;
            }
        }
        tally.judge_digests();
        let winner = tally.result.map_or(0, |digest| usize::from(digest.0[0]));
        assert_eq!(
            (winner, usize::from(tally.paid)),
            (number(&case["winner"]), number(&case["paid"])),
            "{case}"
        );
    }
    for case in list(&file["tolerance"]) {
        let mut tally = Tally::new(Word([1; 32]), number(&case["seats"]));
        tally.opened = number(&case["revealed"]) as u16;
        let mut masks = [0; MAX_SEATS];
        for (seat, mask) in list(&case["masks"]).iter().enumerate() {
            tally.digests[seat] = Word([seat as u8 + 1; 32]);
            masks[seat] = mask.as_i64().unwrap().max(0) as u16;
        }
        tally.judge_approvals(&masks);
        let best = tally.result.map_or(-1, |digest| i64::from(digest.0[0]) - 1);
        assert_eq!(best, case["best"].as_i64().unwrap(), "{case}");
        assert_eq!(usize::from(tally.paid), number(&case["paid"]), "{case}");
    }
}
