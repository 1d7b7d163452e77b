"""A WebSocket peer made with websockets: "client" is one call as Exotel has it, "agent" serves as a tenant's agent until its input ends.

Options come as one line of JSON on standard input, reports go as lines of JSON to standard output; interop_test.go knows both.
"""

import asyncio
import base64
import json
import sys

import websockets


def tell(report):
    print(json.dumps(report), flush=True)


class Peer:
    """Sends as the options say, and counts what answers its pings."""

    def __init__(self, ws, o, report):
        self.ws, self.o, self.report = ws, o, report

    async def ping(self):
        pong = await self.ws.ping()
        pong.add_done_callback(self.ponged)

    def ponged(self, pong):
        if not pong.cancelled() and pong.exception() is None:
            self.report["pongs"] += 1

    async def parts_of(self, message):
        size = -(-len(message) // self.o["parts"])
        for at in range(0, len(message), size):
            if self.o.get("pings") and at > 0:
                await self.ping()
            yield message[at : at + size]

    async def send(self, message, binary=None):
        if self.o.get("binary") if binary is None else binary:
            message = message.encode() if isinstance(message, str) else message
        if self.o.get("parts"):
            await self.ws.send(self.parts_of(message))
            return
        if self.o.get("pings"):
            await self.ping()
        await self.ws.send(message)

    def closed(self):
        self.report["code"], self.report["reason"] = self.ws.close_code, self.ws.close_reason or ""
        tell(self.report)


def names(extensions):
    return ", ".join(e.name for e in extensions)


def compression(o):
    return "deflate" if o.get("deflate") else None


async def client(o):
    report = {"status": 0, "error": "", "extensions": "", "subprotocol": "", "messages": [], "binary": 0, "pongs": 0, "code": 0, "reason": ""}
    try:
        ws = await websockets.connect(o["url"], compression=compression(o), subprotocols=o.get("subprotocols"), ping_interval=None)
    except websockets.InvalidStatusCode as refused:
        report["status"], report["error"] = refused.status_code, str(refused)
        tell(report)
        return
    report["extensions"], report["subprotocol"] = names(ws.extensions), ws.subprotocol or ""
    peer, echoes = Peer(ws, o, report), 0
    talking = asyncio.ensure_future(talk(peer, o))
    async for message in closing(ws):
        if isinstance(message, bytes):
            report["binary"] += 1
            message = message.decode()
        report["messages"].append(message)
        echoes += json.loads(message)["event"] == "media"
        if echoes == o["echoes"]:
            await talking
            await hang_up(peer, o)
    peer.closed()


async def talk(peer, o):
    for message in o["messages"]:
        await peer.send(message)
    if o["echoes"] == 0:
        await hang_up(peer, o)


async def hang_up(peer, o):
    if o.get("vanish"):
        peer.ws.transport.abort()
    elif o.get("code"):
        await peer.ws.close(o["code"], o.get("reason", ""))
    else:
        await peer.send(o["stop"])


async def closing(ws):
    """The messages up to the close, whatever its code."""
    try:
        async for message in ws:
            yield message
    except websockets.ConnectionClosed:
        pass
    await ws.wait_closed()


async def agent(o):
    async def take(ws):
        report = {"path": ws.path, "key": ws.request_headers.get("X-Agent-Key", ""), "offered": ws.request_headers.get("Sec-WebSocket-Extensions", ""),
                  "extensions": names(ws.extensions), "subprotocol": ws.subprotocol or "", "start": None, "events": [], "heard": [], "pongs": 0,
                  "code": 0, "reason": ""}
        peer = Peer(ws, o, report)
        async for message in closing(ws):
            await answer(peer, o, message)
        peer.closed()

    server = await websockets.serve(take, "127.0.0.1", 0, compression=compression(o), subprotocols=o.get("subprotocols"), ping_interval=None)
    tell({"port": server.sockets[0].getsockname()[1]})
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


async def answer(peer, o, message):
    """Says what it hears."""
    if o["protocol"] == "pcm" and isinstance(message, bytes):
        if await hear(peer, o, base64.b64encode(message).decode()):
            await peer.send(message, binary=True)
        return
    message = json.loads(message)
    peer.report["events"].append(message["event"])
    if message["event"] == "start":
        peer.report["start"] = message
    elif message["event"] == "media" and await hear(peer, o, message["media"]["payload"]):
        key = "streamSid" if o["protocol"] == "twilio" else "stream_sid"
        reply = {"event": "media", key: peer.report["start"][key], "media": {"payload": message["media"]["payload"]}}
        await peer.send(json.dumps(reply))


async def hear(peer, o, payload):
    heard = peer.report["heard"]
    heard.append(payload)
    if len(heard) == o.get("closeAfter"):
        await peer.ws.close(o["code"], o.get("reason", ""))
    return not o.get("closeAfter") or len(heard) < o["closeAfter"]


def main():
    o = json.loads(sys.stdin.readline())
    asyncio.run(agent(o) if sys.argv[1] == "agent" else client(o))


main()
