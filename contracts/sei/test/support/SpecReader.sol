// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";

/// @dev Reads contracts/spec/vectors. Each value is read in a call of its own: a document that stays in memory with
/// every copy that its parsing makes would exhaust the gas.
abstract contract SpecReader is Base {
    function number(string calldata file, string calldata key) external pure returns (uint256) {
        return vm.parseJsonUint(_read(file), key);
    }

    function numbers(string calldata file, string calldata key) external pure returns (int256[] memory) {
        return vm.parseJsonIntArray(_read(file), key);
    }

    function texts(string calldata file, string calldata key) external pure returns (string[] memory) {
        return vm.parseJsonStringArray(_read(file), key);
    }

    function word(string calldata file, string calldata key) external pure returns (bytes32) {
        return vm.parseJsonBytes32(_read(file), key);
    }

    function words(string calldata file, string calldata key) external pure returns (bytes32[] memory) {
        return vm.parseJsonBytes32Array(_read(file), key);
    }

    function account(string calldata file, string calldata key) external pure returns (address) {
        return vm.parseJsonAddress(_read(file), key);
    }

    function data(string calldata file, string calldata key) external pure returns (bytes memory) {
        return vm.parseJsonBytes(_read(file), key);
    }

    function flag(string calldata file, string calldata key) external pure returns (bool) {
        return vm.parseJsonBool(_read(file), key);
    }

    function exists(string calldata file, string calldata key) external pure returns (bool) {
        return vm.keyExistsJson(_read(file), key);
    }

    function _read(string calldata file) private pure returns (string memory) {
        return vm.readFile(string.concat("../spec/vectors/", file));
    }

    /// @dev How many elements a list has: at least `least`.
    function _count(string memory file, string memory list, uint256 least) internal view returns (uint256 n) {
        while (this.exists(file, string.concat(list, "[", vm.toString(n), "]"))) ++n;
        assertTrue(n >= least, string.concat(file, list, " is too short"));
    }

    function _at(string memory list, uint256 i) internal pure returns (string memory) {
        return string.concat(list, "[", vm.toString(i), "]");
    }

    function _n(string memory file, string memory at, string memory key) internal view returns (uint256) {
        return this.number(file, string.concat(at, key));
    }

    function _w(string memory file, string memory at, string memory key) internal view returns (bytes32) {
        return this.word(file, string.concat(at, key));
    }

    function _a(string memory file, string memory at, string memory key) internal view returns (address) {
        return this.account(file, string.concat(at, key));
    }
}
