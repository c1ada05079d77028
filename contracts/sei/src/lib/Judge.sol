// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TaskHash} from "./TaskHash.sol";

/// @dev What is known about a task when it ends.
/// @param committed, opened, paid masks of seats
/// @param refunded, protocolFee base units
/// @param digests by seat, zero where not opened
struct Tally {
    bytes32 id;
    uint256 committed;
    uint256 opened;
    uint256 paid;
    bytes32 result;
    bool fault;
    uint256 refunded;
    uint256 protocolFee;
    bytes32[] digests;
}

/// @title Who wins
/// @notice Thresholds count the seats that were assigned, not those that were revealed: 60 % of them.
library Judge {
    function enough(uint256 count, uint256 seats) internal pure returns (bool) {
        return count * 5 >= seats * 3;
    }

    /// @notice The digest revealed by enough seats wins. A fault needs every revealed seat besides.
    function digests(Tally memory y, uint256 seats) internal pure {
        (bytes32 best, uint256 mask, uint256 count) = _majority(y, seats);
        if (!enough(count, seats)) return;
        y.fault = TaskHash.isFault(y.id, best);
        if (y.fault && mask != y.opened) {
            y.fault = false;
            return;
        }
        (y.result, y.paid) = (best, mask);
    }

    /// @notice Paid is a seat that enough revealed seats mask, itself among them; the result is the paid seat with
    /// the most masks, the lowest index on ties. Only revealed seats have a voice: one that could vote without
    /// revealing would get its fee back for it.
    /// @param masks by seat, zero where no approval was given
    function approvals(Tally memory y, uint256 seats, uint256[] memory masks) internal pure {
        uint256 most;
        for (uint256 j; j < seats; ++j) {
            uint256 bit = 1 << j;
            if (y.opened & bit == 0 || masks[j] & bit == 0) continue;
            uint256 count;
            for (uint256 i; i < seats; ++i) {
                if (y.opened & (1 << i) != 0 && masks[i] & bit != 0) ++count;
            }
            // A fault wins unanimously or not at all (`digests` has tried).
            if (!enough(count, seats) || TaskHash.isFault(y.id, y.digests[j])) continue;
            y.paid |= bit;
            if (count > most) (most, y.result) = (count, y.digests[j]);
        }
    }

    /// @dev Boyer-Moore candidate, then an exact count: no sorting.
    function _majority(Tally memory y, uint256 seats)
        private
        pure
        returns (bytes32 best, uint256 mask, uint256 count)
    {
        uint256 lead;
        for (uint256 i; i < seats; ++i) {
            bytes32 d = y.digests[i];
            if (d == 0) continue;
            if (lead == 0) (best, lead) = (d, 1);
            else if (d == best) ++lead;
            else --lead;
        }
        if (best == 0) return (best, 0, 0);
        for (uint256 i; i < seats; ++i) {
            if (y.digests[i] == best) (mask, count) = (mask | (1 << i), count + 1);
        }
    }
}
