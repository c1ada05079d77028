// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ComputeToken} from "../../src/ComputeToken.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {TaskEscrow} from "../../src/TaskEscrow.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {
    Accept,
    Approval,
    Commitment,
    ITaskEscrow,
    Opening,
    Result,
    Seat,
    Task
} from "../../src/interfaces/ITaskEscrow.sol";
import {TaskHash} from "../../src/lib/TaskHash.sol";
import {Base, Vm} from "./Base.sol";

/// @dev Sixteen nodes of sixteen owners, one client, and a task as its parties see it.
abstract contract Fixture is Base {
    /// @dev A task in flight: what everybody has read from events.
    struct Job {
        Task t;
        bytes32 id;
        Seat[] committee;
        uint256[] holders; // by seat: number of the node that sits there
        Opening[] openings; // every commitment so far, opened, in commit order
    }

    uint256 internal constant E18 = 1e18;
    uint96 internal constant FEE = 3e18;
    uint96 internal constant TIP = 0.1e18;
    uint96 internal constant STAKE = 1000e18;
    uint256 internal constant N = 16;
    uint8 internal constant NONE = 0;
    uint8 internal constant EXACT = 1;
    uint8 internal constant TOL32 = 128;
    address internal constant CLIENT = address(0xC11E47);
    address internal constant OTHER = address(0x07E4);
    address internal constant TREASURY = address(0x72EA);
    address internal constant GUARDIAN = address(0x64A4D);
    address internal constant ADMIN = address(0xAD317);
    bytes32 internal constant A = bytes32(uint256(0xA));
    bytes32 internal constant B = bytes32(uint256(0xB));
    bytes32 internal constant C = bytes32(uint256(0xC));

    ComputeToken internal token;
    NodeRegistry internal registry;
    TaskEscrow internal escrow;
    address[] internal owners;
    uint256[] internal keys; // operators'
    bytes32[] internal nodes;
    Approval[] internal noApprovals;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        token = ComputeToken(
            _create("ComputeToken", type(ComputeToken).creationCode, abi.encode(address(this), 1e9 * 1e18))
        );
        (registry, escrow) = _deploy(token);
        for (uint256 i; i < N; ++i) {
            owners.push(address(uint160(0x1000 + i)));
            keys.push(uint256(keccak256(abi.encode("operator", i))));
            nodes.push(_register(owners[i], keys[i], 0));
        }
        token.transfer(CLIENT, 1e6 * E18);
        vm.prank(CLIENT);
        token.transferAndCall(address(escrow), 1e5 * E18);
    }

    function _deploy(ComputeToken t) internal returns (NodeRegistry r, TaskEscrow e) {
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        bytes memory arguments = abi.encode(t, predicted, ADMIN, 2 days, GUARDIAN, _registryParameters());
        r = NodeRegistry(_create("NodeRegistry", type(NodeRegistry).creationCode, arguments));
        arguments = abi.encode(t, r, _escrowParameters());
        e = TaskEscrow(_create("TaskEscrow", type(TaskEscrow).creationCode, arguments));
    }

    /// @dev The bytecode that is shipped, or (for coverage, and while writing) what was compiled just now.
    function _create(string memory name, bytes memory compiled, bytes memory arguments)
        internal
        returns (address made)
    {
        if (vm.envOr("SHIPPED", false)) {
            string memory file = string.concat("../../deai/chain/artifacts/sei/", name, ".json");
            compiled = vm.parseJsonBytes(vm.readFile(file), ".bytecode");
        }
        bytes memory code = bytes.concat(compiled, arguments);
        assembly ("memory-safe") {
            made := create(0, add(code, 32), mload(code))
        }
        assertTrue(made != address(0), name);
    }

    function _registryParameters() internal pure returns (INodeRegistry.Parameters memory) {
        return INodeRegistry.Parameters(100e18, 1e18, 6 hours, 7 days, 1e18);
    }

    function _escrowParameters() internal pure returns (ITaskEscrow.Parameters memory) {
        return ITaskEscrow.Parameters(TREASURY, 1e6, 10, 600, 24 hours);
    }

    // --- nodes ------------------------------------------------------------------------------------------------

    function _register(address owner, uint256 key, uint96 index) internal returns (bytes32 node) {
        node = bytes32((uint256(uint160(owner)) << 96) | index);
        token.transfer(owner, STAKE);
        vm.prank(owner);
        token.transferAndCall(address(registry), STAKE, _registration(node, key, index, type(uint40).max));
    }

    function _registration(bytes32 node, uint256 key, uint96 index, uint40 until)
        internal
        view
        returns (bytes memory)
    {
        return abi.encode(
            index, vm.addr(key), until, _operate(node, key, until), hex"1220", "/ip4/127.0.0.1/tcp/1"
        );
    }

    function _operate(bytes32 node, uint256 key, uint40 until) internal view returns (bytes memory) {
        bytes32 operate = keccak256("Operate(bytes32 node,address operator,uint40 validUntil)");
        bytes32 hash = keccak256(abi.encode(operate, node, vm.addr(key), until));
        (bytes32 r, bytes32 vs) = compact(key, _digest(hash, "deai registry", address(registry)));
        return abi.encode(r, vs);
    }

    function _node(uint256 i) internal view returns (INodeRegistry.Node memory) {
        return registry.nodeOf(nodes[i]);
    }

    function _rep(uint256 i) internal view returns (uint256) {
        return _node(i).reputation;
    }

    function _beat() internal {
        for (uint256 i; i < N; ++i) {
            if (_node(i).epoch == block.timestamp / 6 hours) continue;
            vm.prank(vm.addr(keys[i]));
            registry.heartbeat(nodes[i]);
        }
    }

    // --- signing ----------------------------------------------------------------------------------------------

    /// @dev Written again here, from EIP-712, so that a slip in the contract does not hide in the tests.
    function _digest(bytes32 hash, string memory name, address target) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
                ),
                keccak256(bytes(name)),
                keccak256("1"),
                block.chainid,
                target
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, hash));
    }

    function _signed(uint256 key, bytes32 hash) internal view returns (bytes32 r, bytes32 vs) {
        return compact(key, _digest(hash, "deai escrow", address(escrow)));
    }

    function _accept(bytes32 id, uint8 seat, uint8 attempt, uint256 i) internal view returns (Accept memory) {
        return _accept(id, seat, attempt, nodes[i], keys[i], uint40(block.timestamp + 60));
    }

    function _accept(bytes32 id, uint8 seat, uint8 attempt, bytes32 node, uint256 key, uint40 until)
        internal
        view
        returns (Accept memory)
    {
        (bytes32 r, bytes32 vs) = _signed(key, TaskHash.accept(id, seat, attempt, node, until));
        return Accept(node, until, r, vs);
    }

    function _accepts(bytes32 id, uint256 n) internal view returns (Accept[] memory a) {
        a = new Accept[](n);
        for (uint8 i; i < n; ++i) {
            a[i] = _accept(id, i, 0, i);
        }
    }

    function _commitment(Job memory j, uint8 seat, bytes32 digest) internal pure returns (bytes32) {
        Seat memory s = j.committee[seat];
        return TaskHash.commitment(j.id, seat, uint8(s.info >> 200), s.node, digest, _salt(seat));
    }

    function _result(Job memory j, uint8 seat, bytes32 output, bytes32 evidence, uint256 key)
        internal
        view
        returns (Result memory)
    {
        uint8 attempt = uint8(j.committee[seat].info >> 200);
        (bytes32 r, bytes32 vs) = _signed(key, TaskHash.result(j.id, seat, attempt, output, evidence));
        return Result(output, evidence, r, vs);
    }

    function _approval(Job memory j, uint8 seat, uint16 mask) internal view returns (Approval memory) {
        uint256 acc = _lane().acc;
        (bytes32 r, bytes32 vs) = _signed(keys[j.holders[seat]], TaskHash.approval(j.id, seat, acc, mask));
        return Approval(seat, mask, r, vs);
    }

    /// @dev Approvals by seat; a zero mask is no approval.
    function _approvals(Job memory j, uint16[3] memory masks) internal view returns (Approval[] memory a) {
        uint256 n;
        a = new Approval[](3);
        for (uint8 i; i < 3; ++i) {
            if (masks[i] != 0) a[n++] = _approval(j, i, masks[i]);
        }
        assembly {
            mstore(a, n)
        }
    }

    function _salt(uint256 seat) internal pure returns (bytes32) {
        return keccak256(abi.encode("salt", seat));
    }

    // --- the path of a task -----------------------------------------------------------------------------------

    function _task(uint8 seats, uint8 policy) internal view returns (Task memory) {
        uint40 deadline = uint40(block.timestamp + 1000);
        return Task(CLIENT, 0, _lane().closed + 1, FEE, TIP, seats, policy, 300, deadline, 1000, "spec");
    }

    function _start(uint8 seats, uint8 policy) internal returns (Job memory) {
        return _start(_task(seats, policy));
    }

    function _start(Task memory t) internal returns (Job memory j) {
        j.t = t;
        j.id = escrow.taskIdOf(t);
        Accept[] memory accepts = _accepts(j.id, t.seats);
        vm.prank(CLIENT);
        escrow.postAndAssign(t, accepts);
        j.committee = new Seat[](t.seats);
        j.holders = new uint256[](t.seats);
        for (uint256 i; i < t.seats; ++i) {
            j.committee[i] = _seat(i, t.lease, 0);
            j.holders[i] = i;
        }
    }

    function _seat(uint256 i, uint256 lease, uint256 attempt) internal view returns (Seat memory) {
        uint256 leaseEnd = block.timestamp + lease;
        return Seat(nodes[i], uint160(vm.addr(keys[i])) | (leaseEnd << 160) | (attempt << 200));
    }

    function _reassign(Job memory j, uint8 seat, uint256 i) internal {
        uint8 attempt = uint8(j.committee[seat].info >> 200) + 1;
        Accept memory a = _accept(j.id, seat, attempt, i);
        vm.prank(CLIENT);
        escrow.reassign(j.t, j.committee, seat, a);
        j.committee[seat] = _seat(i, j.t.lease, attempt);
        j.holders[seat] = i;
    }

    function _release(Job memory j, uint8 seat) internal {
        vm.prank(vm.addr(keys[j.holders[seat]]));
        escrow.release(j.t, j.committee, seat);
    }

    /// @dev The seat's own key sends; the opening is remembered.
    function _commit(Job memory j, uint8 seat, bytes32 digest) internal {
        Commitment[] memory c = new Commitment[](1);
        c[0] = Commitment(seat, _commitment(j, seat, digest), 0, 0);
        vm.prank(vm.addr(keys[j.holders[seat]]));
        escrow.commit(j.t, j.committee, c);
        _remember(j, Opening(seat, digest, _salt(seat)));
    }

    function _opening(uint8 seat, bytes32 digest) internal pure returns (Opening memory) {
        return Opening(seat, digest, _salt(seat));
    }

    /// @dev Result and seats of the `TaskFinalised` recorded last.
    function _outcome() internal returns (bytes32 result, uint256[] memory seats) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        (result,,,,,, seats) = abi.decode(
            logs[logs.length - 1].data, (bytes32, bool, uint256, uint256, address, uint256, uint256[])
        );
    }

    function _remember(Job memory j, Opening memory opening) internal pure {
        Opening[] memory o = new Opening[](j.openings.length + 1);
        for (uint256 k; k < j.openings.length; ++k) {
            o[k] = j.openings[k];
        }
        o[j.openings.length] = opening;
        j.openings = o;
    }

    function _commitAll(Job memory j, bytes32 a, bytes32 b, bytes32 c) internal {
        _commit(j, 0, a);
        _commit(j, 1, b);
        _commit(j, 2, c);
    }

    /// @dev Signed commitments, as the client relays them.
    function _signedCommitment(Job memory j, uint8 seat, bytes32 digest)
        internal
        view
        returns (Commitment memory)
    {
        bytes32 value = _commitment(j, seat, digest);
        uint8 attempt = uint8(j.committee[seat].info >> 200);
        (bytes32 r, bytes32 vs) = _signed(keys[j.holders[seat]], TaskHash.commit(j.id, seat, attempt, value));
        return Commitment(seat, value, r, vs);
    }

    function _deliver(Job memory j, bytes32 output) internal {
        escrow.deliver(j.t, j.committee, _result(j, 0, output, "evidence", keys[j.holders[0]]));
        _remember(j, Opening(0, output, 0));
    }

    /// @dev All openings, those outside `mask` closed again.
    function _only(Job memory j, uint256 mask) internal pure returns (Opening[] memory o) {
        o = new Opening[](j.openings.length);
        for (uint256 k; k < o.length; ++k) {
            Opening memory x = j.openings[k];
            o[k] = mask & (1 << x.seat) != 0 ? x : Opening(x.seat, 0, _commitment(j, x.seat, x.digest));
        }
    }

    function _reveal(Job memory j, uint256 mask) internal {
        escrow.reveal(j.t, j.committee, _only(j, mask));
    }

    function _approve(Job memory j, uint8 seat, uint16 mask) internal {
        escrow.approve(j.t, j.committee, _approval(j, seat, mask));
    }

    function _finalise(Job memory j, address by) internal {
        _finalise(j, by, j.openings, noApprovals);
    }

    function _finalise(Job memory j, address by, Opening[] memory o, Approval[] memory a) internal {
        vm.prank(by);
        escrow.finalise(j.t, j.committee, o, a);
    }

    /// @dev Past the window of a task whose seats did not all commit, or committed just now.
    function _afterWindow(Job memory j) internal {
        vm.warp(uint256(j.t.commitDeadline) + j.t.window + 1);
    }

    // --- what is where ----------------------------------------------------------------------------------------

    function _lane() internal view returns (ITaskEscrow.LaneInfo memory) {
        return escrow.laneOf(CLIENT, 0);
    }

    function _bal(address a) internal view returns (uint256) {
        return escrow.accountOf(a).balance;
    }

    function _accrued() internal view returns (uint256) {
        return _lane().accrued;
    }

    /// @dev Everything the escrow owes when no task is open.
    function _owed() internal view returns (uint256 sum) {
        sum = _bal(CLIENT) + _bal(OTHER) + _accrued();
        for (uint256 i; i < N; ++i) {
            sum += _bal(owners[i]);
        }
    }

    /// @dev Money of a task leaves exactly once, and the tokens are there for all of it.
    modifier conserved() {
        uint256 before = _owed();
        _;
        assertEq(_owed(), before, "escrowed = paid + refunded + protocol fee");
        assertEq(token.balanceOf(address(escrow)), _owed(), "tokens = owed");
    }
}
