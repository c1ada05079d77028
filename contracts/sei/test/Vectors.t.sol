// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {TaskEscrow} from "../src/TaskEscrow.sol";
import {Task} from "../src/interfaces/ITaskEscrow.sol";
import {Judge, Tally} from "../src/lib/Judge.sol";
import {Reputation} from "../src/lib/Reputation.sol";
import {TaskHash} from "../src/lib/TaskHash.sol";
import {Fixture} from "./support/Fixture.sol";
import {SpecReader} from "./support/SpecReader.sol";

/// @dev Replays contracts/spec/vectors, which Python generates and replays too.
contract VectorsTest is Fixture, SpecReader {
    struct Case {
        bytes32 id;
        uint256 seat;
        uint256 attempt;
        bytes32 node;
        uint40 validUntil;
        bytes32 output;
        bytes32 evidence;
        bytes32 salt;
        uint256 acc;
        uint16 mask;
    }

    string private constant IDS = "ids.json";
    string private constant DIGESTS = "digests.json";
    string private constant COMMITMENTS = "commitments.json";
    string private constant ARITHMETIC = "arithmetic.json";
    string private constant VERDICTS = "verdicts.json";

    // --- the vectors ------------------------------------------------------------------------------------------

    /// @dev By the real contract, on the chain and at the address that the vector names.
    function test_task_ids() public {
        uint256 n = _count(IDS, ".tasks", 16);
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".tasks", i);
            address place = _a(IDS, at, ".domain.verifyingContract");
            vm.etch(place, address(escrow).code);
            vm.chainId(_n(IDS, at, ".domain.chainId"));
            assertEq(TaskEscrow(place).taskIdOf(_taskAt(at)), _w(IDS, at, ".taskId"), at);
        }
    }

    function test_node_ids() public view {
        uint256 n = _count(IDS, ".nodes", 9);
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".nodes", i);
            address owner = _a(IDS, at, ".owner");
            bytes32 node = _w(IDS, at, ".node");
            assertEq(bytes32((uint256(uint160(owner)) << 96) | _n(IDS, at, ".index")), node, at);
            assertEq(registry.nodeOf(node).owner, owner, "read from the id");
        }
    }

    function test_digests_and_signatures() public view {
        uint256 n = _count(DIGESTS, ".cases", 16);
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".cases", i);
            Case memory c = _case(at);
            bytes32 value = TaskHash.commitment(c.id, c.seat, c.attempt, c.node, c.output, c.salt);
            assertEq(value, _w(DIGESTS, at, ".commitment"), "commitment");
            _check(at, "accept", TaskHash.accept(c.id, c.seat, c.attempt, c.node, c.validUntil));
            _check(at, "commit", TaskHash.commit(c.id, c.seat, c.attempt, value));
            _check(at, "result", TaskHash.result(c.id, c.seat, c.attempt, c.output, c.evidence));
            _check(at, "approval", TaskHash.approval(c.id, c.seat, c.acc, c.mask));
        }
    }

    /// @dev The registry takes exactly these signatures, at the place and on the chain they were made for.
    function test_operate_signatures_register_a_node() public {
        uint256 n = _count(DIGESTS, ".operate", 3);
        bytes memory code = address(registry).code;
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".operate", i);
            address place = _a(DIGESTS, at, ".domain.verifyingContract");
            bytes32 node = _w(DIGESTS, at, ".node");
            bytes memory message = abi.encode(
                uint96(uint256(node)),
                _a(DIGESTS, at, ".operator"),
                uint40(_n(DIGESTS, at, ".validUntil")),
                this.data(DIGESTS, string.concat(at, ".signature")),
                hex"00",
                ""
            );
            address owner = address(uint160(uint256(node) >> 96));
            token.transfer(owner, STAKE);
            vm.etch(place, code);
            vm.chainId(_n(DIGESTS, at, ".domain.chainId"));
            // The copy is not the registry that the escrow knows, so it gets as far as opening the account.
            vm.expectRevert(abi.encodeWithSignature("Forbidden(address)", place));
            vm.prank(owner);
            token.transferAndCall(place, STAKE, message);
        }
    }

    function test_chains_of_commitments() public view {
        uint256 n = _count(COMMITMENTS, ".folds", 3);
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".folds", i);
            int256[] memory seats = this.numbers(COMMITMENTS, string.concat(at, ".seats"));
            bytes32[] memory values = this.words(COMMITMENTS, string.concat(at, ".values"));
            (uint256 chain, uint256 mask) = (0, 0);
            for (uint256 k; k < seats.length; ++k) {
                chain = TaskHash.link(chain, uint256(seats[k]), values[k]);
                mask |= 1 << uint256(seats[k]);
            }
            uint256 acc = chain | (_n(COMMITMENTS, at, ".nonce") << 16) | mask;
            assertEq(bytes32(acc), _w(COMMITMENTS, at, ".acc"), at);
        }
    }

    function test_fault_digests() public view {
        bytes32 id = this.word(COMMITMENTS, ".faultTaskId");
        assertEq(_count(COMMITMENTS, ".faults", 8), TaskHash.FAULT_CODES, "a closed list");
        for (uint256 code = 1; code <= TaskHash.FAULT_CODES; ++code) {
            bytes32 digest = _w(COMMITMENTS, _at(".faults", code - 1), ".digest");
            assertEq(TaskHash.fault(id, code), digest, "fault");
            assertTrue(TaskHash.isFault(id, digest), "recognised");
        }
        assertTrue(!TaskHash.isFault(id, TaskHash.fault(id, 9)), "and no other");
    }

    function test_money_and_reputation_of_a_seat() public view {
        uint256 n = _count(ARITHMETIC, ".seats", 300);
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".seats", i);
            uint256 fee = _n(ARITHMETIC, at, ".fee");
            uint256 r = _n(ARITHMETIC, at, ".reputation");
            uint256 w0 = _n(ARITHMETIC, at, ".w0");
            uint256 w = Reputation.weight(fee, r, w0);
            uint256 payment = Reputation.payment(fee, r);
            assertEq(payment, _n(ARITHMETIC, at, ".paid"), at);
            assertEq(fee - payment, _n(ARITHMETIC, at, ".protocolCut"), at);
            assertEq(fee / 10, _n(ARITHMETIC, at, ".faultPaid"), at);
            assertEq(Reputation.paid(r, w, w0), _n(ARITHMETIC, at, ".success"), at);
            assertEq(Reputation.lost(r, w, w0), _n(ARITHMETIC, at, ".lostVote"), at);
            assertEq(Reputation.silent(r), _n(ARITHMETIC, at, ".silent"), at);
        }
    }

    function test_idle_weeks() public view {
        uint256 n = _count(ARITHMETIC, ".idle", 60);
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".idle", i);
            // That many whole weeks lie between the last one with a seat and this one.
            uint256 week = 101 + _n(ARITHMETIC, at, ".weeks");
            uint256 left = Reputation.idle(_n(ARITHMETIC, at, ".reputation"), 100, week);
            assertEq(left, _n(ARITHMETIC, at, ".after"), at);
        }
    }

    function test_slashes() public view {
        uint256 n = _count(ARITHMETIC, ".slashes", 80);
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".slashes", i);
            (uint256 amount, uint256 fromBonded, uint256 bounty) = Reputation.slash(
                _n(ARITHMETIC, at, ".bonded"),
                _n(ARITHMETIC, at, ".unbonding"),
                _n(ARITHMETIC, at, ".fixedBounty")
            );
            assertEq(amount, _n(ARITHMETIC, at, ".amount"), at);
            assertEq(fromBonded, _n(ARITHMETIC, at, ".fromBonded"), at);
            assertEq(bounty, _n(ARITHMETIC, at, ".bounty"), at);
            assertEq(amount - bounty, _n(ARITHMETIC, at, ".burned"), at);
        }
    }

    function test_who_wins_a_vote_of_digests() public view {
        uint256 n = _count(VERDICTS, ".digest", 40);
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".digest", i);
            int256[] memory digests = this.numbers(VERDICTS, string.concat(at, ".digests"));
            Tally memory y;
            y.digests = new bytes32[](digests.length);
            for (uint256 k; k < digests.length; ++k) {
                y.digests[k] = bytes32(uint256(digests[k]));
                if (digests[k] != 0) y.opened |= 1 << k;
            }
            Judge.digests(y, digests.length);
            assertEq(uint256(y.result), _n(VERDICTS, at, ".winner"), at);
            assertEq(y.paid, _n(VERDICTS, at, ".paid"), at);
        }
    }

    function test_who_is_paid_by_approvals() public view {
        uint256 n = _count(VERDICTS, ".tolerance", 40);
        for (uint256 i; i < n; ++i) {
            string memory at = _at(".tolerance", i);
            int256[] memory given = this.numbers(VERDICTS, string.concat(at, ".masks"));
            uint256[] memory masks = new uint256[](given.length);
            Tally memory y;
            (y.digests, y.opened) = (new bytes32[](given.length), _n(VERDICTS, at, ".revealed"));
            for (uint256 k; k < given.length; ++k) {
                y.digests[k] = bytes32(k + 1);
                if (given[k] > 0) masks[k] = uint256(given[k]);
            }
            Judge.approvals(y, given.length, masks);
            assertEq(y.paid, _n(VERDICTS, at, ".paid"), at);
            if (y.paid != 0) assertEq(uint256(y.result), _n(VERDICTS, at, ".best") + 1, at);
        }
    }

    function _check(string memory at, string memory kind, bytes32 hash) private view {
        bytes32 separator = _w(DIGESTS, at, ".domain.separator");
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", separator, hash));
        assertEq(digest, _w(DIGESTS, at, string.concat(".digests.", kind)), kind);
        bytes memory signature = this.data(DIGESTS, string.concat(at, ".signatures.", kind));
        (bytes32 r, bytes32 vs) = abi.decode(signature, (bytes32, bytes32));
        assertEq(ECDSA.recover(digest, r, vs), _a(DIGESTS, at, ".signer"), kind);
    }

    function _case(string memory at) private view returns (Case memory c) {
        c.id = _w(DIGESTS, at, ".taskId");
        c.seat = _n(DIGESTS, at, ".seat");
        c.attempt = _n(DIGESTS, at, ".attempt");
        c.node = _w(DIGESTS, at, ".node");
        c.validUntil = uint40(_n(DIGESTS, at, ".validUntil"));
        c.output = _w(DIGESTS, at, ".outputDigest");
        c.evidence = _w(DIGESTS, at, ".evidenceDigest");
        c.salt = _w(DIGESTS, at, ".salt");
        c.acc = uint256(_w(DIGESTS, at, ".commitments"));
        c.mask = uint16(_n(DIGESTS, at, ".mask"));
    }

    function _taskAt(string memory at) private view returns (Task memory t) {
        t.client = _a(IDS, at, ".task.client");
        t.lane = uint32(_n(IDS, at, ".task.lane"));
        t.nonce = uint32(_n(IDS, at, ".task.nonce"));
        t.fee = uint96(_n(IDS, at, ".task.fee"));
        t.tip = uint96(_n(IDS, at, ".task.tip"));
        t.seats = uint8(_n(IDS, at, ".task.seats"));
        t.policy = uint8(_n(IDS, at, ".task.policy"));
        t.lease = uint32(_n(IDS, at, ".task.lease"));
        t.commitDeadline = uint40(_n(IDS, at, ".task.commitDeadline"));
        t.window = uint32(_n(IDS, at, ".task.window"));
        t.specHash = _w(IDS, at, ".task.specHash");
    }
}
