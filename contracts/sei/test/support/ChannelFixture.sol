// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PaymentChannels} from "../../src/PaymentChannels.sol";
import {
    Channel,
    ChannelState,
    IPaymentChannels,
    Redemption,
    Voucher
} from "../../src/interfaces/IPaymentChannels.sol";
import {ChannelHash} from "../../src/lib/ChannelHash.sol";
import {Fixture} from "./Fixture.sol";

/// @dev The channel contract beside the others, and one channel of the client with node 0.
abstract contract ChannelFixture is Fixture {
    uint40 internal constant PERIOD = 6 hours;
    uint96 internal constant DEPOSIT = 100e18;
    uint256 internal constant SESSION = 0x5E551017;
    bytes32 internal constant ROOT = "receipts";

    PaymentChannels internal channels;
    Channel internal chan;
    address internal owner;

    function setUp() public virtual override {
        super.setUp();
        bytes memory arguments = abi.encode(token, registry, PERIOD);
        channels = PaymentChannels(_create("PaymentChannels", type(PaymentChannels).creationCode, arguments));
        owner = owners[0];
        chan = Channel(CLIENT, nodes[0], vm.addr(SESSION));
    }

    // --- signing ----------------------------------------------------------------------------------------------

    function _id(Channel memory c) internal view returns (bytes32) {
        return
            _digest(ChannelHash.channel(c.client, c.node, c.sessionKey), "deai channels", address(channels));
    }

    /// @dev Of the present epoch.
    function _voucher(Channel memory c, uint256 amount) internal view returns (Voucher memory) {
        return _voucher(c, SESSION, _record(c).epoch, amount);
    }

    function _voucher(Channel memory c, uint256 key, uint24 epoch, uint256 amount)
        internal
        view
        returns (Voucher memory)
    {
        bytes32 hash = ChannelHash.voucher(_id(c), epoch, uint96(amount), ROOT);
        (bytes32 r, bytes32 vs) = compact(key, _digest(hash, "deai channels", address(channels)));
        return Voucher(uint96(amount), ROOT, r, vs);
    }

    function _noVoucher() internal pure returns (Voucher memory v) {}

    // --- calls ------------------------------------------------------------------------------------------------

    function _open(Channel memory c, uint256 deposit) internal {
        vm.prank(c.client);
        token.transferAndCall(address(channels), deposit, abi.encode(c.node, c.sessionKey));
    }

    function _topUp(Channel memory c, uint256 amount) internal {
        vm.prank(c.client);
        token.transferAndCall(address(channels), amount, abi.encode(_id(c)));
    }

    /// @dev By somebody whose business it is not.
    function _redeem(Channel memory c, uint256 amount) internal {
        Voucher memory v = _voucher(c, amount);
        vm.prank(OTHER);
        channels.redeem(c, v);
    }

    function _close(Channel memory c, Voucher memory v) internal {
        vm.prank(address(uint160(uint256(c.node) >> 96)));
        channels.close(c, v);
    }

    function _requestClose(Channel memory c) internal {
        vm.prank(c.client);
        channels.requestClose(c);
    }

    function _afterPeriod() internal {
        vm.warp(_record(chan).closesAt + 1);
    }

    // --- what is where ----------------------------------------------------------------------------------------

    function _state(Channel memory c) internal view returns (ChannelState state) {
        (state,) = channels.channelOf(_id(c));
    }

    function _record(Channel memory c) internal view returns (IPaymentChannels.Record memory s) {
        (, s) = channels.channelOf(_id(c));
    }

    function _has(address a) internal view returns (uint256) {
        return token.balanceOf(a);
    }

    /// @dev The word of a channel: fields from the low end.
    function _setRecord(bytes32 id, uint96 deposit, uint96 claimed, uint40 closesAt, uint24 epoch) internal {
        uint256 word =
            deposit | (uint256(claimed) << 96) | (uint256(closesAt) << 192) | (uint256(epoch) << 232);
        vm.store(address(channels), keccak256(abi.encode(id, 2)), bytes32(word));
    }

    // --- what refuses -----------------------------------------------------------------------------------------

    function _expectState(Channel memory c, ChannelState state) internal {
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.BadState.selector, _id(c), state));
    }

    function _expectForbidden(address caller) internal {
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.Forbidden.selector, caller));
    }
}
