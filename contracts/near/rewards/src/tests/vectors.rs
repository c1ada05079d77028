//! What Python wrote into `contracts/spec/vectors/rewards.json`, replayed: what it proves is paid, and what the core says
//! of a run of calls is what the contract does.
use near_sdk::serde_json::Value;

use super::*;

fn read() -> Value {
    let path = format!("{}/../../spec/vectors/rewards.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn from(value: &Value) -> Word {
    value.as_str().unwrap().parse().unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn sum(value: &Value) -> u128 {
    value.as_str().map_or_else(|| u128::from(value.as_u64().unwrap()), |text| text.parse().unwrap())
}

#[test]
fn the_type_hash_is_that_of_its_text() {
    let (text, hash) = signed::CLAIM;
    assert_eq!(env::keccak256_array(text.as_bytes()), hash);
}

#[test]
fn claims_that_python_proved_are_paid() {
    let file = read();
    let near = &file["near"];
    let text = |name: &str| near["domain"][name].as_str().unwrap();
    assert_eq!(text("name"), signed::NAME);
    let cases = list(&near["cases"]);
    assert!(cases.len() >= 4);
    for case in cases {
        let mut world = World::at(text("contract"), text("chainId"), parameters()).unwrap();
        assert_eq!(Word(world.domain), from(&near["domain"]["separator"]));
        let claims: Vec<Leaf> = list(&case["claims"])
            .iter()
            .map(|one| Leaf {
                account: id(one["account"].as_str().unwrap()),
                cumulative: sum(&one["cumulativeAmount"]),
                sides: one["sides"].as_u64().unwrap(),
                path: list(&one["path"]).iter().map(from).collect(),
            })
            .collect();
        for (leaf, one) in claims.iter().zip(list(&case["claims"])) {
            let own = world.view(|c| c.leaf_of(leaf.account.clone(), U128(leaf.cumulative)));
            assert_eq!(own, from(&one["leaf"]));
        }
        let owed: Vec<_> = claims.iter().map(|one| (one.account.clone(), one.cumulative)).collect();
        assert_eq!(Tree::new(&world.domain, &owed).root, from(&case["root"]));
        let total: u128 = claims.iter().map(|one| one.cumulative).sum();
        for leaf in &claims {
            world.tokens.insert(id(PAYER), leaf.cumulative);
            world.pay_in(leaf.cumulative, "").unwrap();
        }
        world.propose(world.over(), from(&case["root"]), total).unwrap();
        world.now += DELAY;
        for leaf in &claims {
            world.claim(leaf).unwrap();
            assert_eq!(world.has(&leaf.account), leaf.cumulative);
        }
    }
}

#[test]
fn a_claim_for_sei_is_none_here() {
    let world = World::new();
    for case in list(&read()["cases"]) {
        for one in list(&case["claims"]) {
            let account = id(one["account"].as_str().unwrap()); // an address is a name here too
            let own = world.view(|c| c.leaf_of(account.clone(), U128(sum(&one["cumulativeAmount"]))));
            assert_ne!(own, from(&one["leaf"]));
        }
    }
}

#[test]
fn runs_of_calls_do_what_the_core_says() {
    let file = read();
    let number = |name: &str| file[name].as_u64().unwrap();
    let ops: Vec<&str> = list(&file["ops"]).iter().map(|op| op.as_str().unwrap()).collect();
    assert_eq!((number("seconds"), number("accounts")), (SECONDS, 3));
    let runs = list(&file["runs"]);
    assert!(runs.len() >= 10);
    let mut seen = std::collections::BTreeSet::new();
    for run in runs {
        let mut world =
            World::at(CONTRACT, CHAIN, Parameters { delay: number("delay"), ..parameters() }).unwrap();
        for step in 0..list(&run["ops"]).len() {
            let at = |column: &str| sum(&run[column][step]);
            world.now = at("times") as u64;
            let (epoch, total) = (at("epochs") as u64, at("totals"));
            let tree = world.tree(&["first", "second", "third"].map(at));
            let op = ops[at("ops") as usize];
            let done = match op {
                "fund" => world.pay_in(total, ""),
                "propose" => world.propose(epoch, tree.root, total),
                "cancel" => world.cancel(epoch),
                "claim" => world.claim(&tree.leaves[at("who") as usize]),
                other => panic!("no such call: {other}"),
            };
            let said = match &done {
                Ok(()) => "",
                Err(Error::BadData) => "BadData",
                Err(Error::BadEpoch(_)) => "BadEpoch",
                Err(Error::BadProof) => "BadProof",
                Err(Error::Exhausted(_)) => "Exhausted",
                Err(Error::NothingNew(_)) => "NothingNew",
                Err(Error::NothingWaits) => "NothingWaits",
                Err(Error::StillWaiting(_)) => "StillWaiting",
                Err(Error::TooEarly(_)) => "TooEarly",
                Err(Error::Unfunded { .. }) => "Unfunded",
                Err(other) => panic!("{other:?}"),
            };
            assert_eq!(said, run["errors"][step].as_str().unwrap(), "{op} {step}");
            seen.insert((op, said));
            let RootsView { active, waiting } = world.roots();
            assert_eq!(u128::from(active.epoch), at("active"));
            assert_eq!((active.total.0, active.paid.0), (at("promised"), at("paid")));
            assert_eq!(u128::from(waiting.map_or(0, |it| it.active_at)), at("waits"));
            assert_eq!(world.has(&id(CONTRACT)), at("held"));
            for (i, column) in ["has0", "has1", "has2"].into_iter().enumerate() {
                assert_eq!(world.has(&account(i)), at(column));
                assert_eq!(world.claimed_by(&account(i)), at(column));
            }
        }
        world.check_books();
    }
    assert!(seen.len() >= 12, "{seen:?}");
}
