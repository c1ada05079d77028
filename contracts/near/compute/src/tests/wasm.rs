//! The shipped wasm in nearcore's own VM: it does what this source does, and stays below the ceilings of gas.
use std::sync::Arc;

use near_primitives_core::hash::CryptoHash;
use near_vm_runner::logic::mocks::mock_external::MockedExternal;
use near_vm_runner::logic::{VMContext, VMOutcome};
use near_vm_runner::{Contract, ContractCode, MockContractRuntimeCache};

use super::*;

const TGAS: u64 = 1_000_000_000_000;
/// Of the receipt and of the call as an action, beside what the VM counts (`action_receipt_creation` and
/// `function_call`, execution).
const ACTION_GAS: u64 = 108_059_500_000 + 780_000_000_000;

/// The compiled wasm: making it takes a minute in a debug build, so these tests are asked for by name.
static COMPILED: LazyLock<MockContractRuntimeCache> = LazyLock::new(MockContractRuntimeCache::default);

struct Shipped(Arc<ContractCode>);

impl Contract for Shipped {
    fn hash(&self) -> CryptoHash {
        *self.0.hash()
    }

    fn get_code(&self) -> Option<Arc<ContractCode>> {
        Some(self.0.clone())
    }
}

fn shipped() -> Shipped {
    let path = format!("{}/../../../deai/chain/artifacts/near/compute.wasm", env!("CARGO_MANIFEST_DIR"));
    Shipped(Arc::new(ContractCode::new(std::fs::read(&path).unwrap(), None)))
}

/// Runs a method on the storage of a world; returns what the VM says and the storage afterwards.
fn run(world: &World, caller: Caller, method: &str, arguments: serde_json::Value) -> (VMOutcome, Storage) {
    let mut external = MockedExternal::new();
    external.fake_trie = world.storage.clone();
    let mut signer_key = vec![0];
    signer_key.extend(caller.key);
    let account = |name: &AccountId| name.as_str().parse().unwrap();
    let input = serde_json::to_vec(&arguments).unwrap();
    let context = VMContext {
        current_account_id: CONTRACT.parse().unwrap(),
        signer_account_id: account(&caller.signer),
        signer_account_pk: signer_key,
        predecessor_account_id: account(&caller.account),
        refund_to_account_id: account(&caller.account),
        input: input.into(),
        promise_results: Arc::from([]),
        block_height: 1,
        block_timestamp: world.now * 1_000_000_000 + 999_999_999,
        epoch_height: 1,
        account_balance: yocto(1000 * NEAR),
        account_locked_balance: yocto(0),
        storage_usage: 1_000_000,
        account_contract: near_primitives_core::account::AccountContract::None,
        attached_deposit: yocto(caller.deposit),
        prepaid_gas: near_primitives_core::types::Gas::from_teragas(300),
        random_seed: vec![0; 32],
        view_config: None,
        output_data_receivers: vec![],
    };
    let config = Arc::new(near_parameters::vm::Config {
        vm_kind: near_parameters::vm::VMKind::Wasmtime,
        ..CONFIG.clone()
    });
    let counter = context.make_gas_counter(&config);
    let prepared = near_vm_runner::prepare(&shipped(), config, Some(&*COMPILED), counter, method);
    let outcome = prepared.run(&mut external, &context, Arc::new(FEES.clone())).unwrap();
    (outcome, external.fake_trie)
}

fn yocto(amount: u128) -> near_primitives_core::types::Balance {
    near_primitives_core::types::Balance::from_yoctonear(amount)
}

/// The wasm and the source agree on storage and events, and the call stays below `ceiling` TGas.
fn agree(
    world: &mut World,
    caller: Caller,
    method: &str,
    arguments: serde_json::Value,
    ceiling: u64,
    native: impl FnOnce(&mut Compute) -> Result<(), Error>,
) {
    let (outcome, storage) = run(world, caller.clone(), method, arguments);
    assert!(outcome.aborted.is_none(), "{method}: {:?}", outcome.aborted);
    world.run(caller, vec![], native).unwrap();
    assert_eq!(outcome.logs, world.logs, "{method}");
    assert!(storage == world.storage, "{method}");
    let gas = outcome.burnt_gas.as_gas() + ACTION_GAS;
    println!("{method}: {:.3} TGas", gas as f64 / TGAS as f64);
    assert!(gas <= ceiling * TGAS, "{method} takes {gas} gas");
}

fn json(value: impl near_sdk::serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap()
}

#[test]
#[ignore = "compiles the wasm for a minute: make test-vm"]
fn the_shipped_wasm_does_what_the_source_does_within_its_gas() {
    let mut world = World::new();
    world.advance(EPOCH);
    agree(&mut world, operates(0), "heartbeat", serde_json::json!({ "node": node(0) }), 2, |c| {
        c.heartbeat(node(0))
    });
    for i in 1..4 {
        world.call(operates(i), |c| c.heartbeat(node(i))).unwrap();
    }
    let message = world.registration(1, 1, world.now);
    let arguments = serde_json::json!({ "sender_id": owner(1), "amount": STAKE.to_string(), "msg": message });
    let token = Caller { account: id(TOKEN), ..Caller::of(owner(1).as_str()) };
    agree(&mut world, token, "ft_on_transfer", arguments, 3, |c| {
        c.ft_on_transfer(owner(1), U128(STAKE), message).map(drop)
    });
    let task = world.task();
    let mut play = Play::new(&world, task.clone());
    let arguments = serde_json::json!({ "task": json(&task), "accepts": null });
    agree(&mut world, client().with(NEAR / 50), "submit_task", arguments, 3, |c| {
        c.submit_task(task, None).map(drop)
    });
    let (task, accepts) = (play.task.clone(), play.accepts(world.now));
    let arguments = serde_json::json!({ "task": json(&task), "accepts": json(&accepts) });
    agree(&mut world, client(), "assign", arguments, 4, |c| c.assign(task, accepts));
    play.learn(&world);
    let commitments: Vec<_> = (0..3).map(|seat| play.commitment(seat, &DIGEST)).collect();
    play.order = commitments.iter().map(|one| (usize::from(one.seat), one.value)).collect();
    let (task, committee) = play.both();
    let both = || serde_json::json!({ "task": json(&play.task), "committee": json(&play.committee) });
    let mut arguments = both();
    arguments["commitments"] = json(&commitments);
    agree(&mut world, anybody(), "commit", arguments, 4, |c| c.commit(task, committee, commitments));
    let (task, committee) = play.both();
    let openings = play.openings(&[]);
    let mut arguments = both();
    arguments["openings"] = json(&openings);
    arguments["approvals"] = json(Vec::<Approval>::new());
    agree(&mut world, anybody(), "finalise", arguments, 6, |c| c.finalise(task, committee, openings, vec![]));
    let task = Task { policy: 0, seats: 1, ..world.task() };
    let play = Play::start(&mut world, task);
    let (task, committee) = play.both();
    let result = play.result(0, DIGEST, EVIDENCE);
    let arguments =
        serde_json::json!({ "task": json(&task), "committee": json(&committee), "result": json(&result) });
    agree(&mut world, anybody(), "submit_result", arguments, 6, |c| c.submit_result(task, committee, result));
}

#[test]
#[ignore = "compiles the wasm for a minute: make test-vm"]
fn the_shipped_wasm_refuses_in_the_sources_words() {
    let mut world = World::new();
    let (outcome, _) = run(&world, operates(0), "heartbeat", serde_json::json!({ "node": node(0) }));
    let refused = world.call(operates(0), |c| c.heartbeat(node(0))).unwrap_err();
    let said = format!("{:?}", outcome.aborted.unwrap());
    assert!(said.contains(&refused.to_string().replace('"', "\\\"")), "{said} is not {refused}");
}
