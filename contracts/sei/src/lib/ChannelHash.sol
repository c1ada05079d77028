// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What a channel is named by, and what its session key signs
/// @notice EIP-712 struct hashes; the caller adds the domain.
library ChannelHash {
    bytes32 internal constant CHANNEL = keccak256("Channel(address client,bytes32 node,address sessionKey)");
    bytes32 internal constant VOUCHER =
        keccak256("Voucher(bytes32 channelId,uint24 epoch,uint96 cumulativeAmount,bytes32 receiptsRoot)");

    function channel(address client, bytes32 node, address sessionKey) internal pure returns (bytes32) {
        return keccak256(abi.encode(CHANNEL, client, node, sessionKey));
    }

    function voucher(bytes32 id, uint24 epoch, uint96 cumulativeAmount, bytes32 receiptsRoot)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(VOUCHER, id, epoch, cumulativeAmount, receiptsRoot));
    }
}
