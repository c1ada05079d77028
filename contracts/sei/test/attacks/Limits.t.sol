// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ComputeToken} from "../../src/ComputeToken.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {TaskEscrow} from "../../src/TaskEscrow.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {Accept, Approval, ITaskEscrow, Result, Seat, Task} from "../../src/interfaces/ITaskEscrow.sol";
import {Reputation} from "../../src/lib/Reputation.sol";
import {Fixture} from "../support/Fixture.sol";

/// @dev A token that calls back when it moves. Ours does not; the guard is there for whoever deploys another.
contract CallingToken is ERC20("", "") {
    address private _target;
    bytes private _call;

    constructor(uint256 supply) {
        _mint(msg.sender, supply);
    }

    function arm(address target, bytes calldata call) external {
        (_target, _call) = (target, call);
    }

    function deposit(TaskEscrow to, address account, uint256 amount) external {
        _transfer(msg.sender, address(to), amount);
        to.onTransferReceived(account, account, amount, "");
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (_target == address(0)) return;
        (bool ok, bytes memory why) = _target.call(_call);
        if (ok) return;
        assembly {
            revert(add(why, 32), mload(why))
        }
    }
}

/// @dev Edges of fields, of the block, and of the call stack.
contract LimitsAttacks is Fixture {
    function test_seats_fees_and_deadlines_out_of_range() public {
        uint40 now_ = uint40(block.timestamp);
        Task[14] memory bad;
        for (uint256 i; i < 14; ++i) {
            bad[i] = _task(3, EXACT);
        }
        bad[0].seats = 0;
        bad[1].seats = 1; // only `none/1` trusts one seat
        bad[2].seats = 2;
        bad[3].seats = 4;
        bad[4].seats = 16;
        bad[5].seats = 17;
        bad[6].policy = NONE; // and it has exactly one
        bad[7].fee = 0;
        bad[8].fee = 1e6 - 1;
        bad[9].commitDeadline = now_;
        bad[10].commitDeadline = now_ + 24 hours + 1;
        bad[11].commitDeadline = now_ + 5 * 365 days;
        bad[12].window = 0;
        bad[13].window = 24 hours + 1;
        vm.startPrank(CLIENT);
        for (uint256 i; i < 14; ++i) {
            expect(ITaskEscrow.BadTask.selector);
            escrow.post(bad[i]);
        }
        Task memory t = _task(15, EXACT);
        (t.commitDeadline, t.window, t.fee) = (now_ + 24 hours, 24 hours, 1e6);
        escrow.post(t);
        vm.stopPrank();
    }

    function test_nonces_in_order() public {
        Task memory t = _task(3, EXACT);
        vm.startPrank(CLIENT);
        t.nonce = 0;
        expect(ITaskEscrow.BadNonce.selector, 1);
        escrow.post(t);
        t.nonce = 2;
        expect(ITaskEscrow.BadNonce.selector, 1);
        escrow.post(t);
        t.nonce = 1;
        escrow.post(t);
        t.nonce = 2;
        expect(ITaskEscrow.LaneBusy.selector);
        escrow.post(t);
        vm.stopPrank();
    }

    function test_the_whole_supply_passes_through_one_task() public {
        token = new ComputeToken(address(this), type(uint96).max);
        (registry, escrow) = _deploy(token);
        for (uint256 i; i < 15; ++i) {
            nodes[i] = _register(owners[i], keys[i], 0);
        }
        uint96 rest = uint96(token.balanceOf(address(this)));
        token.transfer(CLIENT, rest);
        vm.prank(CLIENT);
        token.transferAndCall(address(escrow), rest);
        Task memory t = _task(15, EXACT);
        t.fee = rest / 15;
        t.tip = rest - 15 * t.fee;
        Job memory j = _start(t);
        assertEq(_bal(CLIENT), 0, "everything is escrowed");
        assertTrue(escrow.accountOf(CLIENT).open, "and the slot is not zero");
        for (uint8 i; i < 15; ++i) {
            _commit(j, i, A);
        }
        _finalise(j, OTHER);
        assertEq(_bal(owners[7]), Reputation.payment(t.fee, 100_000), "86 %");
        assertEq(_owed(), rest, "all of it is somewhere");
        assertEq(_rep(7), 109_000, "full weight: nine points");
    }

    function test_a_fee_above_any_balance() public {
        Task memory t = _task(15, EXACT);
        (t.fee, t.tip) = (type(uint96).max, type(uint96).max);
        uint256 needed = 16 * uint256(type(uint96).max);
        vm.expectRevert(
            abi.encodeWithSignature("Insufficient(address,uint256,uint256)", CLIENT, 1e5 * E18, needed)
        );
        vm.prank(CLIENT);
        escrow.post(t); // the sum does not wrap
    }

    function test_the_last_nonces_of_a_lane() public conserved {
        _setClosed(type(uint32).max - 2);
        Job memory j = _start(3, TOL32);
        assertEq(j.t.nonce, type(uint32).max - 1, "one before the last");
        _commitAll(j, A, B, C);
        for (uint8 i; i < 3; ++i) {
            _approve(j, i, 7); // its stamp keeps 31 bits of the nonce
        }
        _finalise(j, CLIENT);
        assertEq(_bal(owners[2]), uint256(FEE) * 86 / 100, "paid");
        Task memory t = _task(3, EXACT);
        t.nonce = type(uint32).max;
        j = _start(t);
        _commitAll(j, A, A, A);
        _finalise(j, CLIENT);
        t.nonce = 0;
        vm.expectRevert(); // used up: money never gets in
        vm.prank(CLIENT);
        escrow.post(t);
    }

    function test_the_stamp_of_the_key_wraps_without_harm() public conserved {
        _setClosed(254);
        for (uint256 n = 255; n < 259; ++n) {
            Job memory j = _start(3, EXACT);
            assertEq(j.t.nonce, n, "nonce");
            assertEq(_lane().nonce, n, "decoded");
            _commitAll(j, A, A, A);
            _finalise(j, CLIENT);
        }
    }

    function test_the_earliest_commit_leaves_the_longest_lead() public {
        Task memory t = _task(3, EXACT);
        t.commitDeadline = uint40(block.timestamp + 24 hours);
        Job memory j = _start(t);
        _commitAll(j, A, A, A);
        assertEq(_lane().windowLead, 24 hours, "fits its 24 bits");
        _reveal(j, 7);
    }

    function test_dirty_words_are_no_task() public {
        Task memory t = _task(3, EXACT);
        bytes memory call = abi.encodeCall(escrow.post, (t));
        for (uint256 field; field < 10; ++field) {
            bytes memory dirty = bytes.concat(call);
            assembly {
                let at := add(add(dirty, 36), mul(field, 32))
                mstore(at, or(mload(at), shl(255, 1)))
            }
            vm.prank(CLIENT);
            (bool ok,) = address(escrow).call(dirty);
            assertTrue(!ok, "high bits are refused");
        }
        vm.prank(CLIENT);
        (bool fine,) = address(escrow).call(call);
        assertTrue(fine, "the same without them");
    }

    function test_reentrancy_through_the_token() public {
        CallingToken evil = new CallingToken(1e27);
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        NodeRegistry r = new NodeRegistry(
            IERC20(address(evil)), predicted, ADMIN, 2 days, GUARDIAN, _registryParameters()
        );
        TaskEscrow e = new TaskEscrow(IERC20(address(evil)), r, _escrowParameters());
        evil.deposit(e, address(evil), 10);
        evil.arm(address(e), abi.encodeCall(e.withdraw, (OTHER, 4)));
        expect(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        vm.prank(address(evil));
        e.withdraw(OTHER, 6);
        uint32[] memory lanes = new uint32[](1);
        evil.arm(address(e), abi.encodeCall(e.sweep, (OTHER, lanes)));
        expect(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        vm.prank(address(evil));
        e.withdraw(OTHER, 6);
        Task memory t;
        Result memory none;
        evil.arm(address(e), abi.encodeCall(e.proveEquivocation, (t, new Seat[](0), 0, none, none)));
        expect(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        vm.prank(address(evil));
        e.withdraw(OTHER, 6);
        assertEq(e.accountOf(address(evil)).balance, 10, "untouched");
        evil.arm(address(0), "");
        vm.prank(address(evil));
        e.withdraw(OTHER, 6);
        assertEq(e.accountOf(address(evil)).balance, 4, "once");
    }

    function test_a_token_with_more_units_than_an_amount_holds() public {
        CallingToken fat = new CallingToken(1 << 96);
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        NodeRegistry r =
            new NodeRegistry(IERC20(address(fat)), predicted, ADMIN, 2 days, GUARDIAN, _registryParameters());
        ITaskEscrow.Parameters memory p = _escrowParameters();
        vm.expectRevert();
        new TaskEscrow(IERC20(address(fat)), r, p);
        expect(INodeRegistry.BadData.selector);
        vm.prank(address(fat));
        r.onTransferReceived(address(this), address(this), 1 << 96, abi.encode(nodes[0]));
    }

    function test_fifteen_seats_and_their_approvals_fit_a_block() public {
        Job memory j = _start(15, TOL32);
        for (uint8 i; i < 15; ++i) {
            _commit(j, i, bytes32(uint256(i) + 1));
        }
        Approval[] memory a = new Approval[](15);
        for (uint8 i; i < 15; ++i) {
            a[i] = _approval(j, i, 0x7fff);
        }
        uint256 before = gasleft();
        _finalise(j, OTHER, j.openings, a);
        assertTrue(before - gasleft() < 12_500_000 / 5, "a fifth of a block of Sei");
        assertEq(_bal(owners[14]), uint256(FEE) * 86 / 100, "all are paid");
    }

    function testFuzz_settle_never_reverts(uint96 fee, uint256 verdicts, uint32 skip, uint24 r) public {
        vm.warp(block.timestamp + skip);
        _setReputation(bound(r, 0, 1_000_000));
        vm.prank(address(escrow));
        uint256[] memory moved = registry.settle(nodes, verdicts, fee);
        for (uint256 i; i < N; ++i) {
            assertTrue(uint24(moved[i]) <= 1_000_000 && (moved[i] >> 24) <= 1_000_000, "0..1000");
        }
    }

    /// @dev Storage of lane 0 of the client: `closed` is the lowest field of the third word.
    function _setClosed(uint32 closed) private {
        bytes32 outer = keccak256(abi.encode(CLIENT, 4));
        bytes32 state = bytes32(uint256(keccak256(abi.encode(0, outer))) + 2);
        vm.store(address(escrow), state, bytes32(uint256(closed)));
        assertEq(_lane().closed, closed, "the right slot");
    }

    /// @dev Of node 0: bits 160 to 183 of its first word.
    function _setReputation(uint256 r) private {
        bytes32 slot = keccak256(abi.encode(nodes[0], 6));
        uint256 word = uint256(vm.load(address(registry), slot));
        word = (word & ~(uint256(type(uint24).max) << 160)) | (r << 160);
        vm.store(address(registry), slot, bytes32(word));
    }
}
