// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ComputeToken} from "../../src/ComputeToken.sol";
import {Delegations} from "../../src/Delegations.sol";
import {OrderSettlement} from "../../src/OrderSettlement.sol";
import {IDelegations} from "../../src/interfaces/IDelegations.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {PoolFixture} from "../support/PoolFixture.sol";

/// @dev A token that calls somebody whenever tokens move.
contract WildToken is ComputeToken {
    address private _target;
    bytes private _call;

    constructor() ComputeToken(msg.sender, 1e27) {}

    function arm(address target, bytes calldata call) external {
        (_target, _call) = (target, call);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (_target == address(0)) return;
        (bool ok, bytes memory why) = _target.call(_call);
        if (ok) return;
        assembly ("memory-safe") {
            revert(add(why, 32), mload(why))
        }
    }
}

/// @dev Wants no calls.
contract Trap {
    error Called();

    fallback() external {
        revert Called();
    }
}

/// @dev Delegators, managers and strangers who want what is not theirs, or others to have less.
contract PoolsAttacks is PoolFixture {
    // --- prices -----------------------------------------------------------------------------------------------

    function test_income_that_has_come_is_not_shared_with_who_joins_before_it_is_harvested() public {
        _delegate(ALICE, 1000e18);
        _earn(500e18);
        token.transfer(owner, 500e18);
        _delegate(BOB, 9000e18);
        assertTrue(_worth(BOB) <= 9000e18, "nothing of it");
        assertTrue(_worth(ALICE) >= 1450e18 - 2, "all of hers");
    }

    /// @dev Somebody who sees income coming may join for it. It costs a whole period in which nothing is earned and the
    /// stake can be taken: whoever stays over two incomes a period has twice as much.
    function test_joining_for_one_income_earns_no_more_than_staying() public {
        _delegate(ALICE, 1000e18);
        token.transfer(BOB, 1000e18);
        for (uint256 i; i < 3; ++i) {
            _delegateOwn(BOB, _has(BOB));
            _earn(100e18);
            _advance();
            _leave(BOB);
            vm.warp(block.timestamp + PERIOD / 2);
            _earn(100e18);
            _period();
            _claim(BOB);
        }
        uint256 sniped = _has(BOB) - 1000e18;
        uint256 stayed = _worth(ALICE) - 1000e18;
        assertTrue(sniped != 0 && sniped * 2 < stayed, "the patient have more than twice as much");
    }

    function test_no_part_of_a_slash_is_escaped_by_leaving_before_it() public {
        _delegate(ALICE, 1000e18);
        _delegate(BOB, 1000e18);
        _leave(ALICE); // she saw the proof coming
        _slash();
        _advance();
        uint256 alice = _p().leaving;
        assertTrue(alice <= _worth(BOB) && alice + 2 >= _worth(BOB), "she bears what he bears");
    }

    function test_no_part_of_a_slash_is_escaped_before_it_is_recognised() public {
        _delegate(ALICE, 1000e18);
        _delegate(BOB, 1000e18);
        _slash();
        _leave(ALICE);
        assertTrue(_p().leaving < 801e18, "at the price after it");
        token.transfer(MANAGER, 100e18);
        uint256 before = _p().assets;
        _delegateOwn(MANAGER, 100e18);
        assertEq(_p().assets, before + 100e18, "and nobody joins at another");
        _unjail();
        _slash();
        _delegate(MANAGER, 100e18);
        _unjail();
        uint256 shares = _p().shares;
        uint256 assets = _p().assets;
        _delegate(CAROL, 50e18);
        assertEq(_of(CAROL).shares, 50e18 * shares / assets, "the newest price");
    }

    /// @dev The manager alone in its pool may make a share as dear as it likes. Who joins then loses next to nothing, or
    /// is refused.
    function test_a_dear_share_takes_nothing_from_who_joins() public {
        for (uint256 i; i < 2; ++i) {
            _inflate();
            uint256 before = _p().assets;
            _delegate(ALICE, 200e18);
            assertTrue(200e18 - _worth(ALICE) <= 200e18 / 1e6, "a millionth at most");
            assertTrue(_p().assets - before == 200e18, "and what she lost is nobody's alone");
            _leave(ALICE);
            _period();
            _claim(ALICE);
        }
        _inflate();
        uint256 dear = uint256(200e18) * _p().shares / _p().assets;
        assertTrue(dear < 1e6, "now a share is dear");
        token.transfer(ALICE, 200e18);
        _expectPair(IDelegations.TooSmall.selector, dear, 1e6);
        _delegateOwn(ALICE, 200e18);
    }

    function test_a_gift_costs_the_giver_and_nobody_else() public {
        _delegate(ALICE, 1000e18);
        _delegate(BOB, 1000e18);
        token.transfer(BOB, 300e18);
        vm.prank(BOB);
        token.transfer(owner, 300e18);
        _leave(BOB);
        _period();
        uint256 back = _claim(BOB);
        assertTrue(back < 1300e18, "he has less than before");
        assertTrue(_worth(ALICE) > 1000e18, "others have more");
    }

    function test_rounding_is_never_for_who_comes_or_goes() public {
        token.transfer(owner, 333e18 + 2);
        _advance(); // a share is worth 1.3-odd
        uint256 assets = _p().assets;
        uint256 shares = _p().shares;
        for (uint256 i = 1; i < 20; ++i) {
            _delegate(ALICE, 1e18 + i * 7);
            _undelegate(ALICE, 1 + i % 3);
            assertTrue(_p().assets * shares >= assets * _p().shares, "no share is worth less");
            (assets, shares) = (_p().assets, _p().shares);
            _period();
            _claim(ALICE);
        }
        _assertBacked();
    }

    // --- slashes ----------------------------------------------------------------------------------------------

    /// @dev The manager proves its own node guilty and takes the bounty.
    function test_a_manager_that_is_its_own_judge_takes_nothing_from_others() public {
        _undelegate(MANAGER, OWN - MIN_STAKE);
        _period();
        _claim(MANAGER);
        _delegate(ALICE, 900e18);
        uint256 supply = token.totalSupply();
        _slash();
        _advance();
        uint256 burned = supply - token.totalSupply();
        assertTrue(900e18 - _worth(ALICE) <= burned * 9 / 10 + 1, "hers is burned, and no more");
        assertTrue(_worth(MANAGER) + 1e18 <= MIN_STAKE - burned / 10, "the bounty was its own");
    }

    /// @dev Somebody hides a slash that reached what unbonds by adding as much to what is bonded.
    function test_a_slash_hidden_by_a_gift_blocks_nobody() public {
        _delegate(ALICE, 9000e18);
        _leave(ALICE);
        _slash(); // all 1000 that were bonded, and 1000 of what unbonds
        token.transferAndCall(address(registry), 2000e18, abi.encode(node));
        _period();
        uint256 paid = _claim(ALICE);
        assertEq(paid, 8000e18, "what came back, and no more");
        assertTrue(_worth(MANAGER) >= 1900e18, "the rest is the manager's");
        _assertBacked();
        _close();
        _period();
        assertTrue(_claim(MANAGER) >= 1900e18, "and can be had");
    }

    function test_stake_given_to_a_jailed_node_whose_pool_closes_blocks_nobody() public {
        _delegate(ALICE, 1000e18);
        _close();
        _slash();
        uint40 matures = _p().maturesAt;
        token.transferAndCall(address(registry), 7, abi.encode(node));
        _advance();
        assertEq(_p().maturesAt, matures, "the clock goes on");
        vm.warp(matures + 1);
        assertTrue(_claim(ALICE) > 799e18, "out");
        _claim(MANAGER);
        assertEq(_has(owner), 0, "all of it");
        assertEq(_n().bonded, 7, "but what was given away");
        _advance();
    }

    function test_stake_given_to_a_node_whose_pool_waits_to_close_blocks_nobody() public {
        _delegate(ALICE, 1000e18);
        _undelegate(ALICE, 500e18);
        _close();
        token.transferAndCall(address(registry), 7, abi.encode(node));
        _period();
        assertEq(_claim(ALICE), 500e18, "the batch");
        assertEq(_n().bonded, 0, "all the rest unbonds, and the gift too");
        _period();
        assertTrue(_claim(ALICE) >= 500e18, "out");
        assertTrue(_claim(MANAGER) > OWN, "with the gift");
        assertEq(_has(owner), 0, "all of it");
    }

    // --- griefing ---------------------------------------------------------------------------------------------

    function test_nobody_moves_the_clock_of_who_leaves() public {
        _delegate(ALICE, 100e18);
        _delegate(BOB, 100e18);
        _leave(ALICE);
        uint40 matures = _p().maturesAt;
        for (uint256 i; i < 5; ++i) {
            vm.warp(block.timestamp + 1 days);
            _undelegate(BOB, 1);
            token.transferAndCall(address(registry), 1, abi.encode(node));
            _earn(1);
            _advance();
            assertEq(_n().unbondAt, matures, "at the registry");
        }
        _close();
        assertEq(_n().unbondAt, matures, "nor does the manager");
        vm.warp(matures + 1);
        assertEq(_claim(ALICE), 100e18, "in time");
    }

    function test_dust_blocks_nothing() public {
        _delegate(ALICE, 100e18);
        for (uint256 i; i < 3; ++i) {
            token.transfer(owner, 1);
            _earn(1);
            token.transferAndCall(address(registry), 1, abi.encode(node));
            token.transferAndCall(address(registry), 0, abi.encode(node));
            _advance();
        }
        _undelegate(ALICE, 1);
        _period();
        _claim(ALICE);
        _leave(ALICE);
        _period();
        assertTrue(_claim(ALICE) >= 100e18 - 2, "out");
        _assertBacked();
    }

    /// @dev Jailed, unbonding, exited: with income, without.
    function test_no_standing_of_the_node_blocks_anything() public {
        _delegate(ALICE, 500e18);
        _slash();
        _earn(5e18);
        _advance();
        assertEq(_n().bonded, _p().assets, "a jailed node takes stake");
        _undelegate(ALICE, 100e18);
        _period();
        _earn(5e18);
        _claim(ALICE);
        _close();
        _earn(5e18);
        _advance();
        assertTrue(_n().standing == INodeRegistry.Standing.UNBONDING, "unbonding");
        _period();
        _earn(5e18);
        _advance();
        assertTrue(_n().standing == INodeRegistry.Standing.EXITED, "exited");
        _earn(5e18);
        assertTrue(_claim(ALICE) > 320e18, "with a part of it");
        _claim(MANAGER);
        _earn(5e18);
        _advance();
        assertEq(_has(owner), 1, "to the end");
    }

    function test_a_manager_that_does_nothing_keeps_nobody() public {
        _delegate(ALICE, 300e18);
        _delegate(BOB, 300e18);
        _slash();
        vm.warp(block.timestamp + 1000 days);
        _leave(ALICE);
        _leave(BOB);
        _period();
        assertTrue(_claim(ALICE) > 239e18, "out");
        _period();
        assertTrue(_claim(BOB) > 239e18, "out");
    }

    function test_a_manager_raises_no_commission_on_what_has_been_earned() public {
        _delegate(ALICE, 1000e18);
        vm.prank(MANAGER);
        pools.announceCommission(node, 2000);
        _earn(100e18 + 1);
        vm.warp(uint256(_p().nextCommissionEpoch) * 6 hours - 1);
        vm.prank(ALICE);
        pools.advance(node); // anybody may
        assertTrue(_worth(ALICE) >= 1045e18 - 1, "at the old one");
    }

    function test_tokens_sent_before_the_pool_exists_spoil_nothing() public {
        address its = pools.ownerOf(CAROL, 3);
        token.transfer(its, 50e18);
        token.transferAndCall(address(escrow), 50e18, abi.encode(its));
        _open(CAROL, 3, 0, 100e18);
        node = bytes32(uint256(uint160(its)) << 96);
        _advance();
        assertEq(_p().assets, 200e18 - 1, "the manager's");
        assertEq(_p().shares, 100e18, "a share per unit of stake");
    }

    function test_tokens_that_lie_in_the_contract_are_nobodys() public {
        token.transfer(address(pools), 5e18);
        _delegate(ALICE, 100e18);
        _leave(ALICE);
        _period();
        assertEq(_claim(ALICE), 100e18, "no more");
        assertEq(_has(address(pools)), 5e18, "they stay");
    }

    function test_one_pool_pays_nothing_of_another() public {
        _delegate(ALICE, 1000e18);
        bytes32 first = node;
        uint256 before = registry.nodeOf(first).bonded;
        _open(CAROL, 0, 2000, 1000e18);
        node = bytes32(uint256(uint160(pools.ownerOf(CAROL, 0))) << 96);
        owner = pools.ownerOf(CAROL, 0);
        _delegate(BOB, 1000e18);
        _slash();
        _leave(BOB);
        _period();
        _claim(BOB);
        vm.prank(CAROL);
        pools.close(node);
        _period();
        _claim(CAROL);
        assertEq(registry.nodeOf(first).bonded, before, "the other's is untouched");
        assertEq(pools.delegationOf(first, ALICE).shares, 1000e18, "nor are her shares");
    }

    // --- shares at the edge of their field --------------------------------------------------------------------

    function test_shares_that_would_overflow_are_refused_or_cut() public {
        bytes32 slot = bytes32(uint256(keccak256(abi.encode(node, uint256(0)))) + 2);
        assertEq(uint256(vm.load(address(pools), slot)), OWN, "the slot of shares");
        vm.store(address(pools), slot, bytes32(uint256(type(uint112).max) - 5));
        vm.store(
            address(pools),
            keccak256(abi.encode(MANAGER, keccak256(abi.encode(node, uint256(1))))),
            bytes32(uint256(type(uint112).max) - 5)
        );
        token.transfer(ALICE, 100e18);
        expect(IDelegations.BadData.selector);
        _delegateOwn(ALICE, 100e18);
        _earn(100e18);
        _advance();
        assertEq(_p().shares, type(uint112).max, "commission is cut");
        _earn(100e18);
        _advance();
        assertEq(_p().assets, 1200e18 - 1, "and income goes on");
        _close();
        _period();
        assertEq(_claim(MANAGER), 1200e18 - 1, "so does the way out");
    }

    // --- calls ------------------------------------------------------------------------------------------------

    /// @dev The token calls nobody on a plain transfer; were it one that did, nothing could be entered again.
    function test_reentrancy_through_the_token() public {
        WildToken wild = new WildToken();
        token = wild;
        (registry, escrow) = _deploy(wild);
        pools = new Delegations(wild, registry, OrderSettlement(address(0)), MIN_DELEGATION);
        owner = pools.ownerOf(MANAGER, 0);
        node = bytes32(uint256(uint160(owner)) << 96);
        _open(MANAGER, 0, 0, OWN);
        _delegate(ALICE, 1000e18);
        _undelegate(ALICE, 10e18);
        _period();
        wild.transfer(owner, 5e18);
        wild.transfer(ALICE, 5e18);
        bytes[8] memory calls = [
            abi.encodeCall(pools.advance, (node)),
            abi.encodeCall(pools.claim, (node, ALICE)),
            abi.encodeCall(pools.undelegate, (node, 1)),
            abi.encodeCall(pools.announceCommission, (node, 1)),
            abi.encodeCall(pools.close, (node)),
            abi.encodeCall(pools.unjail, (node)),
            abi.encodeCall(pools.rotateOperator, (node, ALICE, 1, "")),
            abi.encodeCall(pools.onTransferReceived, (ALICE, ALICE, OWN, abi.encode(uint8(2), node)))
        ];
        for (uint256 i; i < 8; ++i) {
            wild.arm(address(pools), calls[i]);
            bytes4 why = ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector;
            expect(why);
            pools.advance(node);
            expect(why);
            pools.claim(node, ALICE);
            expect(why);
            vm.prank(ALICE);
            pools.undelegate(node, 1);
            expect(why);
            vm.prank(MANAGER);
            pools.close(node);
        }
        wild.arm(address(0), "");
        assertEq(_claim(ALICE), 10e18, "otherwise it works");
    }

    function test_who_is_paid_is_not_called() public {
        address trap = address(new Trap());
        _delegate(trap, 100e18);
        _leave(trap);
        _period();
        assertEq(_claim(trap), 100e18, "a contract that refuses every call is paid");
    }

    function test_a_token_of_ones_own_buys_nothing() public {
        WildToken wild = new WildToken();
        _expectForbidden(address(wild));
        wild.transferAndCall(address(pools), 100e18, abi.encode(uint8(2), node));
    }

    // --- helpers ----------------------------------------------------------------------------------------------

    /// @dev The manager gives its pool a hundred million and takes out all but the least.
    function _inflate() private {
        token.transfer(owner, 1e26);
        _advance();
        IDelegations.Pool memory p = _p();
        uint256 keep = (uint256(MIN_STAKE) * p.shares + p.assets - 1) / p.assets;
        _undelegate(MANAGER, p.managerShares - keep);
        _period();
        _claim(MANAGER);
    }
}
