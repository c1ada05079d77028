// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Delegations} from "../../src/Delegations.sol";
import {IDelegations} from "../../src/interfaces/IDelegations.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {OrderFixture} from "./OrderFixture.sol";

/// @dev A pool beside the other contracts, its manager and three that lend.
abstract contract PoolFixture is OrderFixture {
    uint96 internal constant MIN_STAKE = 100e18;
    uint96 internal constant MIN_DELEGATION = 1e18;
    uint96 internal constant OWN = 1000e18;
    uint16 internal constant COMMISSION = 1000;
    uint40 internal constant PERIOD = 7 days;
    uint256 internal constant POOL_KEY = 0x9001;
    address internal constant MANAGER = address(0x3A4A6E4);
    address internal constant ALICE = address(0xA11CE);
    address internal constant BOB = address(0xB0B0);
    address internal constant CAROL = address(0xCA401);

    Delegations internal pools;
    bytes32 internal node; // of the pool that most tests are about
    address internal owner;

    function setUp() public virtual override {
        super.setUp();
        bytes memory arguments = abi.encode(token, registry, orders, MIN_DELEGATION);
        pools = Delegations(_create("Delegations", type(Delegations).creationCode, arguments));
        owner = pools.ownerOf(MANAGER, 0);
        node = bytes32(uint256(uint160(owner)) << 96);
        _open(MANAGER, 0, COMMISSION, OWN);
    }

    // --- calls ------------------------------------------------------------------------------------------------

    function _opening(address manager, uint96 index, uint16 commission) internal view returns (bytes memory) {
        bytes32 its = bytes32(uint256(uint160(pools.ownerOf(manager, index))) << 96);
        return abi.encode(
            uint8(1),
            index,
            commission,
            vm.addr(POOL_KEY),
            type(uint40).max,
            _operate(its, POOL_KEY, type(uint40).max),
            hex"1220",
            "/ip4/127.0.0.1/tcp/1"
        );
    }

    function _open(address manager, uint96 index, uint16 commission, uint96 stake) internal {
        token.transfer(manager, stake);
        bytes memory data = _opening(manager, index, commission);
        vm.prank(manager);
        token.transferAndCall(address(pools), stake, data);
    }

    function _delegate(address who, uint256 amount) internal {
        token.transfer(who, amount);
        _delegateOwn(who, amount);
    }

    /// @dev What it has.
    function _delegateOwn(address who, uint256 amount) internal {
        vm.prank(who);
        token.transferAndCall(address(pools), amount, abi.encode(uint8(2), node));
    }

    function _undelegate(address who, uint256 shares) internal {
        vm.prank(who);
        pools.undelegate(node, uint128(shares));
    }

    function _leave(address who) internal {
        _undelegate(who, _of(who).shares);
    }

    /// @dev By somebody whose business it is not.
    function _advance() internal {
        vm.prank(OTHER);
        pools.advance(node);
    }

    function _claim(address who) internal returns (uint256 paid) {
        paid = _has(who);
        vm.prank(OTHER);
        pools.claim(node, who);
        return _has(who) - paid;
    }

    function _close() internal {
        vm.prank(MANAGER);
        pools.close(node);
    }

    function _period() internal {
        vm.warp(block.timestamp + PERIOD + 1);
    }

    /// @dev What the node earned in the escrow: somebody credits its owner's account there.
    function _earn(uint256 amount) internal {
        token.transferAndCall(address(escrow), amount, abi.encode(owner));
    }

    /// @dev Through the escrow's door; a test of its own goes the whole way from a task to here.
    function _slash() internal {
        vm.prank(address(escrow));
        registry.equivocated(node, OTHER);
    }

    function _unjail() internal {
        vm.prank(MANAGER);
        pools.unjail(node);
    }

    // --- what is where ----------------------------------------------------------------------------------------

    function _p() internal view returns (IDelegations.Pool memory) {
        return pools.poolOf(node);
    }

    function _of(address who) internal view returns (IDelegations.Delegation memory) {
        return pools.delegationOf(node, who);
    }

    function _n() internal view returns (INodeRegistry.Node memory) {
        return registry.nodeOf(node);
    }

    function _worth(address who) internal view returns (uint256) {
        return uint256(_of(who).shares) * _p().assets / _p().shares;
    }

    function _assertState(IDelegations.State wanted) internal view {
        assertEq(uint256(_p().state), uint256(wanted), "state");
    }

    /// @dev What the contract says is there lies where it should.
    function _assertBacked() internal view {
        IDelegations.Pool memory p = _p();
        uint256 there = uint256(_n().bonded) + _n().unbonding + _has(owner);
        assertTrue(there >= uint256(p.assets) + p.leaving, "shares are backed");
        assertEq(_has(address(pools)), 0, "the contract itself holds nothing");
    }

    // --- refusals ---------------------------------------------------------------------------------------------

    function _expectState(IDelegations.State found) internal {
        vm.expectRevert(abi.encodeWithSelector(IDelegations.BadState.selector, node, found));
    }

    function _expectPair(bytes4 selector, uint256 first, uint256 second) internal {
        vm.expectRevert(abi.encodeWithSelector(selector, first, second));
    }

    function _expectForbidden(address who) internal {
        vm.expectRevert(abi.encodeWithSelector(IDelegations.Forbidden.selector, who));
    }
}
