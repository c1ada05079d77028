// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Order} from "../interfaces/IOrderSettlement.sol";

/// @title What clients and committees sign
/// @notice EIP-712 struct hashes; the caller adds the domain.
library OrderHash {
    bytes32 internal constant ORDER = keccak256(
        "Order(address client,uint96 fee,uint8 policy,uint40 validUntil,uint64 nonce,bytes32 specHash,bytes32[] nodes)"
    );
    bytes32 internal constant RESULT =
        keccak256("OrderResult(bytes32 orderId,bytes32 node,bytes32 outputDigest)");

    /// @param committee hash of the nodes, as EIP-712 has it for an array
    function order(Order memory o, bytes32 committee) internal pure returns (bytes32 hash) {
        bytes32 typeHash = ORDER;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typeHash)
            mcopy(add(free, 32), o, 192)
            mstore(add(free, 224), committee)
            hash := keccak256(free, 256)
        }
    }

    /// @dev keccak256 of the first `n` words.
    function words(uint256[] memory list, uint256 n) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            hash := keccak256(add(list, 32), mul(n, 32))
        }
    }

    function result(bytes32 id, uint256 node, bytes32 outputDigest) internal pure returns (bytes32 hash) {
        bytes32 typeHash = RESULT;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typeHash)
            mstore(add(free, 32), id)
            mstore(add(free, 64), node)
            mstore(add(free, 96), outputDigest)
            hash := keccak256(free, 128)
        }
    }
}
