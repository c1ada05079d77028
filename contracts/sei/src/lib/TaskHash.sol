// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Seat, Task} from "../interfaces/ITaskEscrow.sol";

/// @title What parties sign and commit to
/// @notice EIP-712 struct hashes (the caller adds the domain), commitments, and the two words a lane keeps of them.
library TaskHash {
    bytes32 internal constant TASK = keccak256(
        "Task(address client,uint32 lane,uint32 nonce,uint96 fee,uint96 tip,uint8 seats,uint8 policy,uint32 lease,uint40 commitDeadline,uint32 window,bytes32 specHash)"
    );
    bytes32 internal constant ACCEPT =
        keccak256("Accept(bytes32 taskId,uint8 seat,uint8 attempt,bytes32 node,uint40 validUntil)");
    bytes32 internal constant COMMIT =
        keccak256("Commit(bytes32 taskId,uint8 seat,uint8 attempt,bytes32 value)");
    bytes32 internal constant RESULT = keccak256(
        "Result(bytes32 taskId,uint8 seat,uint8 attempt,bytes32 outputDigest,bytes32 evidenceDigest)"
    );
    bytes32 internal constant APPROVAL =
        keccak256("Approval(bytes32 taskId,uint8 seat,bytes32 commitments,uint16 mask)");
    bytes32 internal constant COMMITMENT = keccak256("deai commit/1");
    bytes32 internal constant FAULT = keccak256("fault/1");
    uint256 internal constant FAULT_CODES = 8; // 1..8

    /// @dev Over the raw words, which saves 1,300 gas in every call. Words with dirty high bits hash to an id that
    /// cannot be posted: `post` reads every field through the checked decoder.
    function task(Task calldata t) internal pure returns (bytes32 hash) {
        bytes32 typeHash = TASK;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typeHash)
            calldatacopy(add(free, 32), t, 352)
            hash := keccak256(free, 384)
        }
    }

    function accept(bytes32 id, uint256 seat, uint256 attempt, bytes32 node, uint40 validUntil)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(ACCEPT, id, seat, attempt, node, validUntil));
    }

    function commit(bytes32 id, uint256 seat, uint256 attempt, bytes32 value)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(COMMIT, id, seat, attempt, value));
    }

    function result(bytes32 id, uint256 seat, uint256 attempt, bytes32 output, bytes32 evidence)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(RESULT, id, seat, attempt, output, evidence));
    }

    function approval(bytes32 id, uint256 seat, uint256 commitments, uint16 mask)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(APPROVAL, id, seat, commitments, mask));
    }

    /// @dev Bound to the seat, attempt and node: a copied commitment opens for nobody else.
    function commitment(bytes32 id, uint256 seat, uint256 attempt, bytes32 node, bytes32 digest, bytes32 salt)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(COMMITMENT, id, seat, attempt, node, digest, salt));
    }

    function fault(bytes32 id, uint256 code) internal pure returns (bytes32) {
        return keccak256(abi.encode(FAULT, id, code));
    }

    /// @dev `fault` for each code, without building the same message eight times.
    function isFault(bytes32 id, bytes32 digest) internal pure returns (bool found) {
        bytes32 tag = FAULT;
        uint256 codes = FAULT_CODES;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, tag)
            mstore(add(free, 32), id)
            for { let code := 1 } iszero(gt(code, codes)) { code := add(code, 1) } {
                mstore(add(free, 64), code)
                found := or(found, eq(keccak256(free, 96), digest))
            }
        }
    }

    /// @dev One link of the chain of commitments: the upper 208 bits of the hash, the rest zero.
    function link(uint256 chain, uint256 seat, bytes32 value) internal pure returns (uint256) {
        return (uint256(keccak256(abi.encode(chain, seat, value))) >> 48) << 48;
    }

    /// @dev keccak256(id, words of the committee): for calldata, for memory, and for nobody yet.
    function committee(bytes32 id, Seat[] calldata seats) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            let size := mul(seats.length, 64)
            mstore(free, id)
            calldatacopy(add(free, 32), seats.offset, size)
            hash := keccak256(free, add(size, 32))
        }
    }

    function seated(bytes32 id, Seat[] memory seats) internal pure returns (bytes32 hash) {
        bytes memory words = abi.encode(seats); // offset, length, words
        assembly ("memory-safe") {
            mstore(add(words, 64), id)
            hash := keccak256(add(words, 64), sub(mload(words), 32))
        }
    }

    function pending(bytes32 id) internal pure returns (bytes32) {
        return keccak256(abi.encode(id));
    }
}
