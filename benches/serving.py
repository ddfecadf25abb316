"""Measure kernels of a host and of jupyter-kernel-gateway over REST and WebSocket, and cells of a local kernel; print JSON.

usage: serving.py URL TOKEN PROCESS

Both are driven by the same client. `PROCESS` is the process id of the host. Its memory is read while it has 200 kernels that each ran
a cell.
"""

import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid

import websocket
from jupyter_client.manager import KernelManager

URL, TOKEN, PROCESS = sys.argv[1:]
STARTS, CELLS, KERNELS = 5, 300, 200
PEERS = pathlib.Path(__file__).parent.parent / "target/peers/bin"


class Kernel:
    """A kernel behind a gateway, started over REST and used over WebSocket."""

    def __init__(self, url, token, name):
        self.url, self.headers = url, {"Authorization": f"token {token}"}
        self.id = json.loads(self.rest("POST", "/api/kernels", {"name": name}))["id"]
        address = url.replace("http://", "ws://") + f"/api/kernels/{self.id}/channels?session_id={uuid.uuid4().hex}"
        self.socket = websocket.create_connection(address, timeout=300, header=self.headers)
        self.ask("kernel_info_request", {})

    def rest(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {**self.headers, "Content-Type": "application/json"}, method=method)
        return urllib.request.urlopen(request).read()

    def ask(self, kind, content):
        """Send a request, and wait for the reply and for idle."""
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": "bench", "username": "", "version": "5.3", "date": ""}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell", "buffers": []}
        self.socket.send(json.dumps(message))
        wanted = {"reply", "idle"}
        while wanted:
            got = json.loads(self.socket.recv())
            if got["parent_header"].get("msg_id") != header["msg_id"]:
                continue
            if got["msg_type"].endswith("_reply"):
                wanted.discard("reply")
            elif got["msg_type"] == "status" and got["content"]["execution_state"] == "idle":
                wanted.discard("idle")

    def execute(self, code):
        start = time.perf_counter()
        self.ask("execute_request", {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True})
        return time.perf_counter() - start

    def end(self):
        self.socket.close()
        self.rest("DELETE", f"/api/kernels/{self.id}")


def summary(times):
    return {"repeated": statistics.median(times), "p99": statistics.quantiles(times, n=100)[98]}


def gateway(url, token, name):
    starts = []
    for _ in range(STARTS):
        start = time.perf_counter()
        kernel = Kernel(url, token, name)
        starts.append(time.perf_counter() - start)
        kernel.end()
    kernel = Kernel(url, token, name)
    kernel.execute("1 + 1")
    times = summary([kernel.execute("1 + 1") for _ in range(CELLS)])
    kernel.end()
    return {"start": statistics.median(starts), **times}


def local():
    manager = KernelManager(kernel_name="lockstep")
    manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=120)

    def execute():
        start = time.perf_counter()
        client.execute_interactive("1 + 1", timeout=300, output_hook=lambda message: None)
        return time.perf_counter() - start

    execute()
    times = summary([execute() for _ in range(CELLS)])
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    return times


def theirs():
    """Measure jupyter-kernel-gateway with ipykernel, if it is installed."""
    program = PEERS / "jupyter-kernelgateway"
    if not program.exists():
        return {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PATH": f"{PEERS}:{os.environ['PATH']}", "JUPYTER_PATH": ""}
    arguments = [program, "--KernelGatewayApp.ip=127.0.0.1", f"--KernelGatewayApp.port={port}", "--KernelGatewayApp.auth_token=bench"]
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as there:
                if there.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        return gateway(f"http://127.0.0.1:{port}", "bench", "python3")
    finally:
        process.terminate()
        process.wait()


def memory():
    """Return the memory of the host in bytes, while it has kernels that each ran a cell."""
    kernels = [Kernel(URL, TOKEN, "lockstep") for _ in range(KERNELS)]
    for kernel in kernels:
        kernel.execute("1 + 1")
    status = pathlib.Path(f"/proc/{PROCESS}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    for kernel in kernels:
        kernel.end()
    return int(resident.split()[1]) * 1024


host = gateway(URL, TOKEN, "lockstep")
print(json.dumps({"host": {**host, "memory": memory()}, "gateway": theirs(), "local": local()}))
