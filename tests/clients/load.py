"""Runs 500 concurrent clients of a host. A tenth of them are slow, disconnect early or send invalid requests.

usage: load.py PORT TOKEN

Every good client submits runs, some cached and some new, and polls those in progress. At the end, every accepted run must have a record.
Prints JSON.
"""

import asyncio
import hashlib
import json
import random
import sys

PORT, TOKEN = int(sys.argv[1]), sys.argv[2]
# (module (func (export "_start")) (memory (export "memory") 1))
NOTHING = bytes.fromhex("0061736d0100000001040160000003020100050301000107130206" "6d656d6f72790200065f73746172740000" "0a040102000b")
MODULE = hashlib.sha256(NOTHING).hexdigest()
CLIENTS, ASKED = 500, 6
counts = {"answered": 0, "followed": 0, "busy": 0, "other": []}
records = set()


async def ask(method, path, body=b""):
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)


async def good(number):
    for at in range(ASKED):
        seed = at if at % 2 else number * ASKED + at
        wait = 0 if at % 3 == 0 else 60
        body = json.dumps({"module": MODULE, "seed": seed}).encode()
        while True:
            status, answer = await ask("POST", f"/api/v1/runs?wait={wait}", body)
            if status != 503:
                break
            counts["busy"] += 1
            await asyncio.sleep(random.uniform(0.2, 1))
        if status == 202:
            counts["followed"] += 1
            work = answer["id"]
            while status in (200, 202) and answer.get("result") is None:
                await asyncio.sleep(0.05)
                status, answer = await ask("GET", f"/api/v1/works/{work}")
            answer = answer.get("result", answer)
        if status == 200 and answer.get("outcome", {}).get("is") == "succeeded":
            counts["answered"] += 1
            records.add(answer["record"].removeprefix("sha256:"))
        else:
            counts["other"].append([status, answer])


async def bad(number):
    body = json.dumps({"module": MODULE, "seed": 10**9 + number}).encode()
    head = f"POST /api/v1/runs HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        try:
            match number % 4:
                case 0:  # byte by byte
                    for at in range(0, 40):
                        writer.write(head[at : at + 1])
                        await writer.drain()
                        await asyncio.sleep(0.05)
                case 1:  # disconnects within the request
                    writer.write(head + body[: len(body) // 2])
                    await writer.drain()
                case 2:  # disconnects before the response
                    writer.write(head + body)
                    await writer.drain()
                case 3:  # does not speak HTTP
                    writer.write(random.Random(number).randbytes(4096))
                    await writer.drain()
                    await asyncio.wait_for(reader.read(), 20)
        except (ConnectionError, asyncio.TimeoutError):
            pass
        finally:
            writer.close()


async def main():
    status, answer = await ask("PUT", f"/api/v1/artifacts/{MODULE}", NOTHING)
    assert status in (200, 201), answer
    clients = [bad(n) if n % 10 == 0 else good(n) for n in range(CLIENTS)]
    await asyncio.gather(*clients)
    lost = 0
    for record in records:
        status, _ = await ask("GET", f"/api/v1/records/{record}")
        lost += status != 200
    print(json.dumps({**counts, "records": len(records), "lost": lost}))


asyncio.run(main())
