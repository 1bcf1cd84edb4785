"""The line between supervisor and worker: whole messages, in order, and no more than fits."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from proxy.serve import channel
from proxy.serve.channel import Channel, Message


class End:
    """One end with what it heard."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.something, self.gone = asyncio.Event(), asyncio.Event()
        self.channel: Channel

    def take(self, message: Message) -> None:
        self.heard.append(message)
        self.something.set()

    async def wait_for(self, count: int) -> list[Message]:
        async with asyncio.timeout(5):
            while len(self.heard) < count:
                self.something.clear()
                await self.something.wait()
        return self.heard


async def opened(sock: socket.socket) -> End:
    end = End()
    end.channel = await Channel.open(sock, end.take, end.gone.set)
    return end


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    one, other = [await opened(sock) for sock in socket.socketpair()]
    yield one, other
    one.channel.close()
    other.channel.close()
    async with asyncio.timeout(5):
        await asyncio.gather(one.gone.wait(), other.gone.wait())


@pytest.fixture
async def raw() -> AsyncIterator[tuple[socket.socket, End]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    end = await opened(far)
    yield near, end
    near.close()
    end.channel.close()
    async with asyncio.timeout(5):
        await end.gone.wait()


async def test_messages_arrive_whole_and_in_order(ends: tuple[End, End]) -> None:
    one, other = ends
    sent: list[Message] = [{"n": n, "text": "words\n" * n} for n in range(200)]
    for message in sent:
        one.channel.send(message)
    assert await other.wait_for(200) == sent
    other.channel.send({"back": True})
    assert await one.wait_for(1) == [{"back": True}]


async def test_a_message_in_pieces_and_two_in_one(raw: tuple[socket.socket, End]) -> None:
    near, end = raw
    for byte in b'{"a": 1}\n':
        near.send(bytes([byte]))
        await asyncio.sleep(0)
    near.send(b'{"b": 2}\n{"c": 3}\n{"d"')
    assert await end.wait_for(3) == [{"a": 1}, {"b": 2}, {"c": 3}]


async def test_the_other_end_is_missed_at_once(ends: tuple[End, End]) -> None:
    one, other = ends
    one.channel.close()
    async with asyncio.timeout(5):
        await other.gone.wait()
    other.channel.send({"into": "nothing"})
    one.channel.send({"after": "the end"})


async def test_a_line_without_end_closes(raw: tuple[socket.socket, End], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_MAX_LINE", 1000)
    near, end = raw
    near.send(b"x" * 1001)
    async with asyncio.timeout(5):
        await end.gone.wait()
    assert end.heard == []


async def test_what_is_sent_before_it_is_open_goes_nowhere() -> None:
    alone = Channel(lambda _message: None, lambda: None)
    alone.send({"a": 1})
    alone.close()
