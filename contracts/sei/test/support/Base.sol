// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @dev The cheat codes these tests use. forge-std is not on npm from its authors, and this is all we need of it:
/// forge finds `test*`, `testFuzz*`, `invariant_*` and `setUp` by name.
interface Vm {
    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    function prank(address) external;
    function startPrank(address) external;
    function stopPrank() external;
    function warp(uint256) external;
    function chainId(uint256) external;
    function addr(uint256 privateKey) external pure returns (address);
    function sign(uint256 privateKey, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function expectRevert(bytes calldata) external;
    function expectRevert() external;
    function expectEmit(bool, bool, bool, bool, address) external;
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);
    function store(address, bytes32 slot, bytes32 value) external;
    function load(address, bytes32 slot) external view returns (bytes32);
    function etch(address, bytes calldata) external;
    function computeCreateAddress(address deployer, uint256 nonce) external pure returns (address);
    function getNonce(address) external view returns (uint64);
    function setNonce(address, uint64) external;
    function envOr(string calldata name, bool otherwise) external view returns (bool);
    function readFile(string calldata path) external pure returns (string memory);
    function parseJsonUint(string calldata json, string calldata key) external pure returns (uint256);
    function parseJsonIntArray(string calldata json, string calldata key)
        external
        pure
        returns (int256[] memory);
    function parseJsonStringArray(string calldata json, string calldata key)
        external
        pure
        returns (string[] memory);
    function parseJsonBytes32(string calldata json, string calldata key) external pure returns (bytes32);
    function parseJsonBytes32Array(string calldata json, string calldata key)
        external
        pure
        returns (bytes32[] memory);
    function parseJsonBytes(string calldata json, string calldata key) external pure returns (bytes memory);
    function parseJsonAddress(string calldata json, string calldata key) external pure returns (address);
    function parseJsonBool(string calldata json, string calldata key) external pure returns (bool);
    function keyExistsJson(string calldata json, string calldata key) external pure returns (bool);
    function toString(uint256) external pure returns (string memory);
}

abstract contract Base {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    bool public constant IS_TEST = true;
    address[] private _targets;

    error Unequal(uint256 found, uint256 wanted, string what);
    error Untrue(string what);

    function targetContracts() public view returns (address[] memory) {
        return _targets;
    }

    function targetContract(address a) internal {
        _targets.push(a);
    }

    function assertEq(uint256 found, uint256 wanted, string memory what) internal pure {
        if (found != wanted) revert Unequal(found, wanted, what);
    }

    function assertEq(address found, address wanted, string memory what) internal pure {
        if (found != wanted) revert Unequal(uint160(found), uint160(wanted), what);
    }

    function assertEq(bytes32 found, bytes32 wanted, string memory what) internal pure {
        if (found != wanted) revert Unequal(uint256(found), uint256(wanted), what);
    }

    function assertTrue(bool ok, string memory what) internal pure {
        if (!ok) revert Untrue(what);
    }

    function bound(uint256 x, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + x % (high - low + 1);
    }

    function expect(bytes4 selector) internal {
        vm.expectRevert(abi.encodeWithSelector(selector));
    }

    function expect(bytes4 selector, uint256 argument) internal {
        vm.expectRevert(abi.encodeWithSelector(selector, argument));
    }

    /// @dev EIP-2098.
    function compact(uint256 key, bytes32 digest) internal pure returns (bytes32 r, bytes32 vs) {
        uint8 v;
        (v, r, vs) = vm.sign(key, digest);
        vs |= bytes32(uint256(v - 27) << 255);
    }
}
