"""A host in trouble: 500 clients, a tenth of them slow, silent, garbage or leaving; jobs and cells that exhaust memory; kernels that are killed; a disk that
is filled and freed; and a host that is killed every two minutes.

usage: soak.py LOCKSTEP GUESTS MINUTES [SECONDS BETWEEN KILLS]

GUESTS is the module of tests/guests. Checks that each job that was answered with 202 ends, that nobody gets the answer of another, that no response is a 5xx
other than 503, that each cell changes its session once, and that memory does not grow. Prints JSON, and exits with 1 if a check fails.

As root, the store is a file system in memory, which is filled once a minute. Others have a directory, and the disk is not filled.
"""

import asyncio
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid

import websocket

LOCKSTEP, GUESTS, MINUTES = sys.argv[1], sys.argv[2], float(sys.argv[3])
KILLS = float(sys.argv[4]) if len(sys.argv) > 4 else 120
CLIENTS, USERS = 500, ("ann", "bob")
TOKEN = "token-of-the-soak-test"
QUOTAS = "[default]\nqueued = 200\nkernels = 2\n[users.bob]\nrunning = 1\nmemory = '512MiB'\n"
# seconds that a job may take after the end of the traffic
PATIENCE = 180

END = time.monotonic() + MINUTES * 60
NAMES = "answered accepted followed refused busy unreachable exhausted given_up cells kernels kills fills"
counts = {name: 0 for name in NAMES.split()}
wrong = []
accepted = {}  # work items without a known end: ID to user and word
resident = []  # samples: seconds since the start of the process, bytes
full = threading.Event()  # while the disk is full


def fail(what):
    if len(wrong) < 50:
        wrong.append(what)


class Host:
    """The host process, on a fixed port."""

    def __init__(self):
        self.directory = tempfile.mkdtemp()
        self.store = f"{self.directory}/store"
        os.mkdir(self.store)
        size = int(400 + 60 * MINUTES)
        self.is_mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "none", self.store], stderr=subprocess.DEVNULL).returncode == 0
        with open(f"{self.directory}/quotas.toml", "w") as quotas:
            quotas.write(QUOTAS)
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            self.port = held.getsockname()[1]
        self.start()

    def start(self):
        command = [LOCKSTEP, "serve", "--bind", f"127.0.0.1:{self.port}", "--trust-header", "x-user", "--jobs", "2", "--memory", "1GiB"]
        command += ["--run-memory", "256MiB", "--queue", "300", "--quotas", f"{self.directory}/quotas.toml", "--gc-every", "20s"]
        environment = {**os.environ, "LOCKSTEP_TOKEN": TOKEN, "LOCKSTEP_STORE": self.store}
        with open(f"{self.directory}/log", "a") as log:
            self.process = subprocess.Popen(command, env=environment, stderr=log, stdin=subprocess.DEVNULL)
        self.begun = time.monotonic()
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                if self.process.poll() is not None or time.monotonic() - self.begun > 60:
                    sys.exit("the host does not start:\n" + open(f"{self.directory}/log").read()[-4000:])
                time.sleep(0.05)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def resident(self):
        try:
            with open(f"/proc/{self.process.pid}/status") as status:
                return int(status.read().split("VmRSS:")[1].split()[0]) << 10
        except (OSError, IndexError):
            return None

    def remove(self):
        self.kill()
        if self.is_mounted:
            subprocess.run(["umount", self.store], check=True)
        shutil.rmtree(self.directory)


async def ask(method, path, user, body=b"", patience=90):
    """Sends a request. Returns status and JSON; status 0 if the host is down or ends before it answers."""
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-user: {user}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), patience)
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        if status >= 500 and status != 503:
            fail(f"{method} {path.split('?')[0]}: {status} {body[:300]!r}{' while the disk was full' if full.is_set() else ''}")
        return status, json.loads(body) if body else {}
    except (OSError, IndexError, ValueError, asyncio.IncompleteReadError):
        counts["unreachable"] += 1
        return 0, {}
    except asyncio.TimeoutError:
        fail(f"{method} {path.split('?')[0]}: no answer in {patience} s")
        return 0, {}
    finally:
        if writer:
            writer.close()


def give_up(why):
    """Counts a job that ended without a result. That must be because of the disk, or of two hosts that ended meanwhile."""
    counts["given_up"] += 1
    is_known = any(reason in why for reason in ("No space left", "disk is full", "the host ended twice", "interrupted by host", "shutting down"))
    if not is_known:
        fail(f"a job was given up: {why[:300]}")


def check(user, word, ran):
    """Checks the result of a run: it belongs to the request."""
    if ran.get("error"):
        give_up(ran["error"]["message"])
        return
    outcome = ran.get("outcome", {}).get("is")
    if word is None:
        counts["exhausted"] += 1
        if outcome != "failed":
            fail(f"a job without enough memory {outcome}: {json.dumps(ran)[:300]}")
        return
    digest = ran.get("outputs", {}).get("text", {}).get("digest", "").removeprefix("sha256:")
    if outcome != "succeeded":
        give_up(f"{outcome} by {ran.get('outcome', {}).get('by')}")
    elif digest != hashlib.sha256(word.encode()).hexdigest():
        fail(f"{user} got the answer of another: {digest} for {word}")
    else:
        counts["answered"] += 1


async def follow(work, user, word):
    """Waits for the end of a work item."""
    while True:
        status, item = await ask("GET", f"/api/v1/works/{work}", user)
        if status == 200 and item.get("result") is not None:
            break
        if status in (404, 403):
            fail(f"lost job {work} of {user}: {status} {json.dumps(item)[:200]}")
            break
        if time.monotonic() > END + PATIENCE:
            fail(f"job {work} of {user} has no end: {json.dumps(item)[:300]}")
            break
        await asyncio.sleep(random.uniform(1, 3))
    else:
        return
    accepted.pop(work, None)
    if item.get("result") is not None:
        counts["followed"] += 1
        check(user, word, item["result"])


async def good(number):
    user = USERS[number % 2]
    chance = random.Random(number)
    await asyncio.sleep(chance.uniform(0, 5))
    while time.monotonic() < END:
        is_hungry = chance.random() < 0.01
        # one in five is new
        word = None if is_hungry else f"{user}-{uuid.uuid4() if chance.random() < 0.2 else chance.randrange(20)}"
        body = {"module": MODULE, "step": "hunger", "seed": chance.randrange(1 << 30)} if is_hungry else {"module": MODULE, "step": "make", "parameters": {"word": word}}
        wait = chance.choice((0, 2))
        status, answer = await ask("POST", f"/api/v1/runs?wait={wait}", user, json.dumps(body).encode())
        if status == 202:
            counts["accepted"] += 1
            accepted[answer["id"]] = user, word
            if chance.random() < 0.05:
                other = USERS[(number + 1) % 2]
                found, _ = await ask("GET", f"/api/v1/works/{answer['id']}", other)
                if found not in (0, 404, 503):
                    fail(f"{other} sees a job of {user}: {found}")
            await follow(answer["id"], user, word)
        elif status == 200:
            check(user, word, answer)
        elif status == 503:
            counts["busy"] += 1
        elif status == 429:
            counts["refused"] += 1
        elif status == 404 and "missing" in answer.get("error", {}):
            await send_module(user)
        elif status not in (0, 500):
            fail(f"a run was answered with {status}: {json.dumps(answer)[:300]}")
        await asyncio.sleep(chance.uniform(2, 10))


async def bad(number):
    """Is slow, silent, leaves or does not speak HTTP."""
    head = b"POST /api/v1/runs HTTP/1.1\r\nhost: 127.0.0.1\r\nx-user: ann\r\ncontent-length: 100\r\n\r\n"
    chance = random.Random(number)
    while time.monotonic() < END:
        writer = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
            match chance.randrange(5):
                case 0:  # byte by byte
                    for at in range(40):
                        writer.write(head[at : at + 1])
                        await writer.drain()
                        await asyncio.sleep(0.1)
                case 1:  # leaves within the request
                    writer.write(head + b"{")
                    await writer.drain()
                case 2:  # silent
                    await asyncio.wait_for(reader.read(), 15)
                case 3:  # does not speak HTTP
                    writer.write(chance.randbytes(4096))
                    await writer.drain()
                    await asyncio.wait_for(reader.read(), 15)
                case 4:  # leaves before the response
                    writer.write(b"GET /runs HTTP/1.1\r\nhost: 127.0.0.1\r\nx-user: ann\r\n\r\n")
                    await writer.drain()
        except (OSError, asyncio.TimeoutError):
            pass
        finally:
            if writer:
                writer.close()
        await asyncio.sleep(chance.uniform(0.5, 3))


async def send_module(user):
    """Sends the module of the guests. Repeats until the host has it."""
    while time.monotonic() < END:
        status, _ = await ask("PUT", f"/api/v1/artifacts/{MODULE}", user, BYTES)
        if status in (200, 201):
            return
        await asyncio.sleep(1)


class Notebook(threading.Thread):
    """A client of a kernel. Each cell appends to a list, so a cell that runs twice or not at all is seen in its length."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.user, self.session, self.chance = USERS[number % 2], uuid.uuid4().hex, random.Random(number)

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{host.port}{path}", data, {"x-user": self.user}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                body = error.read()
                if error.code >= 500 and error.code != 503:
                    fail(f"{method} {path}: {error.code} {body[:300]!r}{' while the disk was full' if full.is_set() else ''}")
                return error.code, body
        except OSError:
            return 0, b""

    def run(self):
        while time.monotonic() < END:
            try:
                self.use_kernel()
            except Exception as error:
                fail(f"a client of a kernel failed: {error!r}")
                time.sleep(1)

    def use_kernel(self):
        """Uses a new kernel until a cell fails, or at random, it is killed."""
        status, body = self.ask("POST", "/api/kernels", {"name": "lockstep", "env": {"KERNEL_ID": str(uuid.uuid4())}})
        if status != 201:
            time.sleep(1)
            return
        kernel, length = json.loads(body)["id"], 0
        counts["kernels"] += 1
        first = self.execute(kernel, "let mut list = vec![0_u8; 0];")
        is_over = first is None or first["status"] != "ok"
        while time.monotonic() < END and not is_over:
            if self.chance.random() < 0.05:
                reply = self.execute(kernel, "let all = vec![1_u8; 1 << 30]; all.len()")
                if reply is not None and reply["status"] == "ok":
                    fail("a cell had more memory than it may use")
            reply = self.execute(kernel, f"list.push({length % 250}); if list.len() != {length + 1} {{ bail!(\"length {{}} for {length + 1}\", list.len()) }}")
            is_over = reply is None or reply["status"] != "ok" or self.chance.random() < 0.03
            if reply is not None and reply["status"] == "ok":
                length += 1
                counts["cells"] += 1
            elif reply is not None and "length " in reply["evalue"]:
                fail(f"a cell ran twice or not at all: {reply['evalue']}")
        while self.ask("DELETE", f"/api/kernels/{kernel}")[0] in (0, 503):
            time.sleep(0.5)

    def execute(self, kernel, code):
        """Executes a cell, across the ends of the host. Returns its reply; `None` if the kernel is gone or the disk was full meanwhile."""
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": self.session, "username": "", "version": "5.4", "date": ""}
        message = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": {"code": code}, "buffers": []}
        begun, was_full = time.monotonic(), full.is_set()
        while time.monotonic() < END + PATIENCE:
            try:
                url = f"ws://127.0.0.1:{host.port}/api/kernels/{kernel}/channels?session_id={self.session}"
                client = websocket.create_connection(url, timeout=20, header={"x-user": self.user})
                try:
                    # one that is known is not taken twice
                    client.send(json.dumps(message))
                    while True:
                        told = json.loads(client.recv())
                        if told["channel"] == "shell" and told["parent_header"].get("msg_id") == header["msg_id"]:
                            # a cell may not be kept if the disk was full, and then it is no wonder if it has to run again
                            return None if was_full or full.is_set() else told["content"]
                finally:
                    client.close()
            except websocket.WebSocketBadStatusException as refused:
                if refused.status_code == 404:
                    if not (was_full or full.is_set()):
                        fail(f"kernel {kernel} is lost")
                    return None
            except (OSError, ValueError, websocket.WebSocketException):
                pass
            was_full |= full.is_set()
            if time.monotonic() - begun > PATIENCE:
                fail(f"no reply of kernel {kernel} in {PATIENCE} s")
                return None
            time.sleep(0.5)
        return None


async def trouble():
    """Kills the host, and fills the disk."""
    killed, filled = time.monotonic(), time.monotonic()
    fill_every = min(60, KILLS / 2)
    while time.monotonic() < END:
        await asyncio.sleep(1)
        now = time.monotonic()
        if (size := host.resident()) is not None:
            resident.append((now - host.begun, size, counts["kills"]))
        if now - killed > KILLS and now + 10 < END:
            killed = now
            host.kill()
            counts["kills"] += 1
            await asyncio.to_thread(host.start)
        if host.is_mounted and now - filled > fill_every and now + 15 < END:
            filled = now
            counts["fills"] += 1
            full.set()
            filler = f"{host.store}/filler"
            with open(filler, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(1 << 20))
                except OSError:
                    pass
            await asyncio.sleep(5)
            os.remove(filler)
            # what had no place is noticed a little later
            await asyncio.sleep(3)
            full.clear()


async def main():
    for user in USERS:
        await send_module(user)
    notebooks = [Notebook(number) for number in range(2)]
    for notebook in notebooks:
        notebook.start()
    clients = [bad(number) if number % 10 == 0 else good(number) for number in range(CLIENTS)]
    await asyncio.gather(trouble(), *clients)
    for notebook in notebooks:
        await asyncio.to_thread(notebook.join, PATIENCE)
    for work, (user, _) in accepted.items():
        fail(f"job {work} of {user} has no known end")


def windows():
    """Returns the resident memory of each process in MiB, in windows of 20 s: a low percentile, without the guests that run for a moment."""
    found = []
    for process in sorted({process for _, _, process in resident}):
        own = [(age, size) for age, size, of in resident if of == process]
        parts = [[size for age, size in own if at <= age < at + 20] for at in range(0, int(max(age for age, _ in own)) + 1, 20)]
        found.append([round(statistics.quantiles(part, n=10)[0] / 2**20) for part in parts if len(part) > 5])
    return found


def check_memory(found):
    """Checks that a process does not grow after its first 40 s, and that later processes do not need more than the first. Processes of less than
    a minute are not compared: in so short a time, running guests are most of the memory."""
    for process in found:
        if len(process) > 3 and process[-1] > process[2] * 1.3 + 32:
            fail(f"the resident memory of a process grows: {process} MiB")
    highest = [max(process) for process in found if len(process) > 2]
    # the stores have more in them, and the first process has the least to do
    if len(highest) > 1 and statistics.median(highest[1:]) > highest[0] * 1.5 + 64:
        fail(f"later processes have more resident memory: {highest} MiB")


with open(GUESTS, "rb") as module:
    BYTES = module.read()
MODULE = hashlib.sha256(BYTES).hexdigest()
host = Host()
try:
    asyncio.run(main())
    sizes = windows()
    check_memory(sizes)
    print(json.dumps({**counts, "disk": "filled" if host.is_mounted else "not filled: mount needs root", "resident_mib": sizes, "wrong": wrong}))
    if os.environ.get("SOAK_LOG"):
        shutil.copy(f"{host.directory}/log", os.environ["SOAK_LOG"])
finally:
    host.remove()
sys.exit(bool(wrong))
