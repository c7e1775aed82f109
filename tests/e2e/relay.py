"""A relay of TLS records that does them harm: relay.py LISTEN TARGET MODE_FILE COUNT_FILE.

MODE_FILE holds pass, flip, replay, swap (with another connection's) or cut, and is read for every record; harm is
done to every 8th record of application data, in either direction. COUNT_FILE: how often, for each mode.
"""
import asyncio
import json
import os
import sys

counts = {}
kept = {}  # (direction, connection): its last record, to be swapped into another one


def mode():
    with open(sys.argv[3]) as f:
        return f.read().strip()


def harm(what, way, me, head, body):
    """The bytes to pass on instead, and whether harm was done."""
    record = head + body
    if what == "flip":
        return head + body[:-1] + bytes([body[-1] ^ 1])
    if what == "replay":
        return record + record
    if what == "cut":
        return head + body[:-7]
    if what == "swap":
        return next((r for (w, c), r in kept.items() if w == way and c is not me), None)
    return None


async def pump(way, me, reader, writer):
    seen = 0
    try:
        while True:
            head = await reader.readexactly(5)
            body = await reader.readexactly(int.from_bytes(head[3:5], "big"))
            out = None
            if head[0] == 23:
                seen += 1
                what = mode()
                if seen > 6 and seen % 8 == 0:
                    out = harm(what, way, me, head, body)
                kept[way, me] = head + body
                if out is not None:
                    counts[what] = counts.get(what, 0) + 1
                    with open(sys.argv[4] + ".tmp", "w") as f:
                        json.dump(counts, f)
                    os.rename(sys.argv[4] + ".tmp", sys.argv[4])
            writer.write(out if out is not None else head + body)
            await writer.drain()
            if out is not None and what == "cut":
                break
    except (OSError, asyncio.IncompleteReadError):
        pass
    writer.close()


async def serve(reader, writer):
    host, port = sys.argv[2].rsplit(":", 1)
    try:
        there, back = await asyncio.open_connection(host, int(port))
    except OSError:
        writer.close()
        return
    me = object()
    await asyncio.gather(pump("up", me, reader, back), pump("down", me, there, writer))


async def main():
    host, port = sys.argv[1].rsplit(":", 1)
    async with await asyncio.start_server(serve, host, int(port)) as server:
        await server.serve_forever()


asyncio.run(main())
