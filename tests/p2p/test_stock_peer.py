"""The frames spoken by hand from a stock libp2p host, as `p2p.framing` describes them."""

from __future__ import annotations

import pytest
import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.peerinfo import info_from_p2p_addr

from tests.attacks.p2p.victim import stock_host, victim
from tests.p2p.worlds import TALK, Blob, Text

pytestmark = pytest.mark.network


async def test_another_implementation_can_speak_to_us() -> None:
    async with victim() as target, stock_host() as host:
        await host.connect(info_from_p2p_addr(target.full_address))
        stream = await host.new_stream(target.peer_id, [TProtocol(TALK.protocol_id)])
        received = b""

        async def read(count: int) -> bytes:
            nonlocal received
            while len(received) < count:
                received += await stream.read(65536)
            taken, received = received[:count], received[count:]
            return taken

        with trio.fail_after(60):
            # MESSAGE: the same comes back.
            text = TALK.encode(Text(7, b"seven"))
            await stream.write(b"\x00" + len(text).to_bytes(3, "big") + text)
            assert await read(4 + len(text)) == b"\x00" + len(text).to_bytes(3, "big") + text
            # BULK: its cost is handed back at once, and the same comes back.
            blob = TALK.encode(Blob(8, bytes(50_000)))
            cost = (256 + len(blob)).to_bytes(4, "big")
            await stream.write(b"\x01" + len(blob).to_bytes(3, "big") + blob)
            assert await read(12) == b"\x02\x00\x00\x08" + bytes(4) + cost
            assert await read(4 + len(blob)) == b"\x01" + len(blob).to_bytes(3, "big") + blob
            # PING: answered with its own 8 bytes.
            await stream.write(b"\x03\x00\x00\x08" + b"12345678")
            assert await read(12) == b"\x04\x00\x00\x08" + b"12345678"
            # FIN: answered with a FIN, after everything that was asked for.
            await stream.write(b"\x00" + len(text).to_bytes(3, "big") + text)
            await stream.close_write()
            assert await read(4 + len(text)) == b"\x00" + len(text).to_bytes(3, "big") + text
            with pytest.raises(EOFError):
                await read(1)
        assert target.net.stats()["malformed"] == 0
