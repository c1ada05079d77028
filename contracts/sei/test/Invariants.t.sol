// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {Approval, Commitment, Opening, Result, Seat, Task} from "../src/interfaces/ITaskEscrow.sol";
import {TaskHash} from "../src/lib/TaskHash.sol";
import {Fixture} from "./support/Fixture.sol";

/// @dev One lane, driven at random: every call in any order, with any time in between. It keeps its own book of what
/// the open task holds, so that the sums below are not the contract's own.
contract Handler is Fixture {
    Job private _job;
    bool public live;
    uint256 public held; // escrowed by the open task
    uint256 public ended;
    uint256 public broken; // tasks whose money did not leave exactly once
    uint256 public swept;
    uint256 private _before; // owed when the open task was posted
    uint256 private _closed; // the lane's last nonce, as seen
    bool public reopened;

    function owed() public view returns (uint256) {
        return _owed();
    }

    function inEscrow() external view returns (uint256) {
        return token.balanceOf(address(escrow));
    }

    function staked() external view returns (uint256 sum) {
        for (uint256 i; i < N; ++i) {
            sum += uint256(_node(i).bonded) + _node(i).unbonding;
        }
    }

    function inRegistry() external view returns (uint256) {
        return token.balanceOf(address(registry));
    }

    /// @dev Reputation in bounds; who may take a seat has the minimum stake.
    function nodesAreSound() external view returns (bool) {
        for (uint256 i; i < N; ++i) {
            INodeRegistry.Node memory n = _node(i);
            if (n.reputation > 1_000_000) return false;
            bool free =
                n.standing == INodeRegistry.Standing.PROBATION || n.standing == INodeRegistry.Standing.ACTIVE;
            if (free && n.bonded < 100e18) return false;
        }
        return true;
    }

    function laneIsUsed() external view returns (bool) {
        return _lane().closed == 0 || (_lane().key != 0 && _lane().acc != 0 && _lane().state != 0);
    }

    // --- the client -------------------------------------------------------------------------------------------

    function post(uint256 seed) external {
        if (live) return;
        _beat();
        Task memory t = _task(seed % 5 == 0 ? 1 : uint8(3 + 2 * (seed % 3)), NONE);
        if (t.seats > 1) t.policy = seed % 2 == 0 ? TOL32 : EXACT;
        (t.fee, t.tip) = (uint96(1e6 + seed % 1e19), uint96(seed % 1e18));
        t.lease = uint32(10 + seed % 400);
        t.window = uint32(600 + seed % 600);
        _before = owed();
        _store(_start(t));
        live = true;
        held = _before - owed();
        if (held != uint256(t.fee) * t.seats + t.tip) ++broken;
    }

    function reassign(uint8 seat, uint256 i) external {
        if (!live) return;
        Job memory j = _job;
        _reassign(j, seat % j.t.seats, i % N);
        _store(j);
    }

    function object() external {
        if (!live) return;
        vm.prank(CLIENT);
        escrow.object(_job.t, _job.committee);
        _end();
    }

    function replace(uint256 seed) external {
        if (live) return;
        Task memory t = _task(3, EXACT);
        t.tip = uint96(seed % 1e18);
        _before = owed();
        vm.prank(CLIENT);
        escrow.post(t);
        if (seed % 2 == 0) {
            vm.prank(CLIENT);
            escrow.cancel(t);
        } else {
            vm.warp(t.commitDeadline + 1);
            escrow.expire(t, new Seat[](0));
        }
        _end();
    }

    // --- nodes ------------------------------------------------------------------------------------------------

    function commit(uint8 seat, uint256 digest) external {
        if (!live) return;
        Job memory j = _job;
        bytes32 d = digest % 5 == 0 ? TaskHash.fault(j.id, 1 + digest % 2) : bytes32(1 + digest % 3);
        if (j.t.policy == NONE) _deliver(j, d);
        else _commit(j, seat % j.t.seats, d);
        _store(j);
    }

    function commitAlike(bytes32 digest) external {
        if (!live || digest == 0) return;
        Job memory j = _job;
        if (j.t.policy == NONE) return;
        for (uint8 i; i < j.t.seats; ++i) {
            if (_lane().committed & (1 << i) == 0) _commit(j, i, digest);
        }
        _store(j);
    }

    function release(uint8 seat) external {
        if (live) _release(_job, seat % _job.t.seats);
    }

    function reveal(uint256 mask) external {
        if (live) _reveal(_job, mask);
    }

    function approve(uint8 seat, uint16 mask) external {
        if (live) _approve(_job, seat % _job.t.seats, mask);
    }

    function equivocate(uint8 seat) external {
        if (_job.committee.length == 0) return;
        Job memory j = _job;
        seat %= j.t.seats;
        uint256 key = keys[j.holders[seat]];
        Result memory a = _result(j, seat, A, 0, key);
        vm.prank(OTHER);
        escrow.proveEquivocation(j.t, j.committee, seat, a, _result(j, seat, B, 0, key));
    }

    function unstake(uint256 i, uint96 amount) external {
        i %= N;
        vm.prank(owners[i]);
        registry.requestUnstake(nodes[i], amount % STAKE);
    }

    function withdrawStake(uint256 i) external {
        i %= N;
        if (_node(i).unbonding != 0) vm.warp(uint256(_node(i).unbondAt) + 1);
        vm.prank(owners[i]);
        registry.withdrawStake(nodes[i], owners[i]);
    }

    function unjail(uint256 i) external {
        i %= N;
        for (uint256 k; k < N && _node(i).standing != INodeRegistry.Standing.JAILED; ++k) {
            i = (i + 1) % N;
        }
        vm.prank(owners[i]);
        registry.unjail(nodes[i]);
    }

    // --- anybody ----------------------------------------------------------------------------------------------

    function finalise(bool client, uint256 maskSeed) external {
        if (!live) return;
        Job memory j = _job;
        bool over = block.timestamp > uint256(j.t.commitDeadline) - _lane().windowLead + j.t.window;
        uint256 open = over && j.t.policy != NONE ? _lane().revealed : type(uint256).max;
        Approval[] memory a = new Approval[](over || j.t.policy != TOL32 ? 0 : j.openings.length);
        for (uint256 k; k < a.length; ++k) {
            uint8 seat = j.openings[k].seat;
            a[k] = _approval(j, seat, uint16(maskSeed >> (16 * seat)));
        }
        _finalise(j, client ? CLIENT : OTHER, j.t.policy == NONE ? j.openings : _only(j, open), a);
        _end();
    }

    function expire() external {
        if (!live) return;
        escrow.expire(_job.t, _job.committee);
        _end();
    }

    function sweep() external {
        uint256 accrued = _accrued();
        escrow.sweep(CLIENT, new uint32[](1));
        swept += accrued;
        _before -= accrued;
    }

    function wait(uint256 s) external {
        vm.warp(block.timestamp + s % 900);
        if (s % 50 == 0) vm.warp(block.timestamp + s % 3 weeks);
    }

    function _end() private {
        live = false;
        held = 0;
        ++ended;
        if (owed() != _before) ++broken;
        if (_lane().closed <= _closed) reopened = true;
        _closed = _lane().closed;
    }

    function _store(Job memory j) private {
        (_job.t, _job.id) = (j.t, j.id);
        delete _job.committee;
        delete _job.openings;
        delete _job.holders;
        for (uint256 i; i < j.committee.length; ++i) {
            _job.committee.push(j.committee[i]);
            _job.holders.push(j.holders[i]);
        }
        for (uint256 i; i < j.openings.length; ++i) {
            _job.openings.push(j.openings[i]);
        }
    }
}

contract InvariantsTest is Fixture {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    Handler private _handler;

    function setUp() public override {
        _handler = new Handler();
        _handler.setUp();
        targetContract(address(_handler));
    }

    function targetSelectors() public view returns (FuzzSelector[] memory f) {
        f = new FuzzSelector[](1);
        f[0].addr = address(_handler);
        f[0].selectors = new bytes4[](18);
        bytes4[17] memory once = [
            Handler.post.selector,
            Handler.reassign.selector,
            Handler.object.selector,
            Handler.replace.selector,
            Handler.commit.selector,
            Handler.commitAlike.selector,
            Handler.release.selector,
            Handler.reveal.selector,
            Handler.approve.selector,
            Handler.equivocate.selector,
            Handler.unstake.selector,
            Handler.withdrawStake.selector,
            Handler.unjail.selector,
            Handler.finalise.selector,
            Handler.expire.selector,
            Handler.sweep.selector,
            Handler.wait.selector
        ];
        for (uint256 i; i < 17; ++i) {
            f[0].selectors[i] = once[i];
        }
        f[0].selectors[17] = Handler.post.selector; // most of the rest needs a task
    }

    function invariant_tokens_in_escrow_are_accounts_and_accrued_and_held() public view {
        assertEq(_handler.inEscrow(), _handler.owed() + _handler.held(), "tokens = what is owed");
    }

    function invariant_every_posted_unit_leaves_once() public view {
        assertEq(_handler.broken(), 0, "escrowed = paid + refunded + protocol fee");
        assertTrue(!_handler.reopened(), "every end raises the nonce");
    }

    function invariant_tokens_in_the_registry_are_stake() public view {
        assertEq(_handler.inRegistry(), _handler.staked(), "tokens = bonded + unbonding");
    }

    function invariant_nodes_stay_sound() public view {
        assertTrue(_handler.nodesAreSound(), "R in 0..1000, and who may be seated is staked");
    }

    function invariant_a_used_lane_never_returns_to_zero() public view {
        assertTrue(_handler.laneIsUsed(), "no slot is bought twice");
    }

    /// @dev The handler does reach the ends; otherwise the invariants would hold for want of events.
    function test_the_handler_reaches_every_kind_of_end() public {
        _handler.post(6); // tolerance, 3 seats
        _handler.commitAlike(A);
        _handler.finalise(true, type(uint256).max);
        assertEq(_handler.ended(), 1, "finalised");
        _handler.post(5);
        _handler.commit(0, 1);
        _handler.object();
        assertEq(_handler.ended(), 2, "objected");
        _handler.replace(2);
        _handler.replace(3);
        assertEq(_handler.ended(), 4, "cancelled and expired");
        _handler.post(7);
        _handler.wait(899);
        _handler.wait(899);
        _handler.expire();
        assertEq(_handler.ended(), 5, "expired");
        _handler.sweep();
        assertTrue(_handler.swept() != 0, "swept");
        _handler.post(9); // exact, 3 seats
        _handler.commit(0, 1);
        _handler.commit(1, 1);
        _handler.equivocate(2);
        _handler.wait(899);
        _handler.wait(201);
        _handler.reveal(1);
        _handler.wait(899);
        _handler.finalise(false, 0);
        assertEq(_handler.ended(), 6, "after the window");
        assertEq(_handler.broken(), 0, "and the money adds up");
    }
}
