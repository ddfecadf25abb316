"""Tests that `lockstep serve` works as a gateway for Jupyter's servers and clients.

Arguments: the program `lockstep`, and names of classes. Each test has its own host with a store below the working directory, except for tests
of a host in a cluster, which is at $GATEWAY.
"""

import concurrent.futures
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
import uuid

import websocket
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1

TOKEN = "token-of-the-gateway-tests"
AUTH = {"Authorization": f"token {TOKEN}"}
V1 = "v1.kernel.websocket.jupyter.org"
# seconds; the first cell on a machine waits for the prelude to be compiled
PATIENCE = 300
# a cell that prints `begun` and does not end
ENDLESS = "println!(\"begun\"); loop { std::hint::black_box(0); }"
LONG = "let mut n = 0_u64; for i in 0..LENGTH { n = std::hint::black_box(n ^ i); }".replace("LENGTH", "150_000_000_u64")


class There:
    """A host at an address, with headers for authentication."""

    def __init__(self, address, headers):
        self.address = address
        self.headers = headers
        self.url = f"http://{address}"

    def ask(self, method, path, body=None):
        """Sends a request. Returns status, headers and the parsed JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, self.headers, method=method)
        try:
            answer = urllib.request.urlopen(request, timeout=PATIENCE)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read()
            is_json = answer.headers.get("Content-Type") == "application/json"
            return answer.status, answer.headers, json.loads(text) if is_json else text

    def kernel(self, **env):
        status, _, model = self.ask("POST", "/api/kernels", {"name": "lockstep", "env": env})
        assert status == 201, model
        return model["id"]

    def connect(self, kernel, session=None, v1=False):
        return Client(self, kernel, session, v1)


class Host(There):
    """A host process on a fixed port, which it keeps when restarted."""

    def __init__(self, *arguments):
        self.directory = tempfile.mkdtemp(dir=".")
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{held.getsockname()[1]}"
        super().__init__(address, AUTH)
        self.arguments = arguments
        self.start()

    def start(self):
        environment = {**os.environ, "LOCKSTEP_TOKEN": TOKEN, "LOCKSTEP_STORE": f"{self.directory}/store"}
        with open(f"{self.directory}/log", "a") as log:
            command = [LOCKSTEP, "serve", "--bind", self.address, *self.arguments]
            self.process = subprocess.Popen(command, env=environment, stderr=log)
        begun = time.monotonic()
        while True:
            try:
                return self.ask("GET", "/api")
            except urllib.error.URLError:
                assert self.process.poll() is None and time.monotonic() - begun < PATIENCE, open(f"{self.directory}/log").read()
                time.sleep(0.02)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        self.process.terminate()
        self.process.wait()


class Client:
    """A WebSocket to a kernel, independent of Jupyter's code except for the frames of v1."""

    def __init__(self, host, kernel, session, v1):
        query = f"?session_id={session}" if session else ""
        url = f"ws://{host.address}/api/kernels/{kernel}/channels{query}"
        self.socket = websocket.create_connection(
            url, timeout=PATIENCE, header=host.headers, subprotocols=[V1] if v1 else None, skip_utf8_validation=True
        )
        self.session = session or uuid.uuid4().hex
        self.v1 = v1

    def send(self, msg_type, content, channel="shell", **metadata):
        header = {"msg_id": uuid.uuid4().hex, "msg_type": msg_type, "session": self.session, "username": "", "version": "5.4"}
        # Jupyter's gateway client writes a number
        header["date"] = time.time()
        if self.v1:
            parts = [json.dumps(part).encode() for part in (header, {}, metadata, content)]
            self.socket.send_binary(serialize_msg_to_ws_v1(parts, channel))
        else:
            message = {"header": header, "parent_header": {}, "metadata": metadata, "content": content, "buffers": []}
            self.socket.send(json.dumps({"channel": channel, **message}))
        return header["msg_id"]

    def execute(self, code, **more):
        return self.send("execute_request", {"code": code, **more})

    def receive(self):
        """Receives a message. Returns channel, header, parent header and content."""
        opcode, data = self.socket.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise Closed(struct.unpack("!H", data[:2])[0], data[2:].decode())
        if self.v1:
            assert opcode == websocket.ABNF.OPCODE_BINARY
            channel, parts = deserialize_msg_from_ws_v1(data)
            header, parent, _, content = (json.loads(part) for part in parts[:4])
            return channel, header, parent, content
        message = json.loads(data)
        assert message["msg_type"] == message["header"]["msg_type"] and message["buffers"] == []
        return message["channel"], message["header"], message["parent_header"], message["content"]

    def until(self, wanted):
        """Returns the messages up to the first one for which `wanted(msg_type, content)` holds."""
        came = []
        while True:
            _, header, _, content = self.receive()
            came.append((header["msg_type"], content))
            if wanted(header["msg_type"], content):
                return came

    def until_begun(self):
        """Waits until a cell prints `begun`."""
        self.until(lambda kind, content: kind == "stream" and "begun" in content["text"])

    def outcome(self, request):
        """Waits for the reply to a request and its idle status. Returns the reply and the publications."""
        reply, idle, published = None, False, []
        while reply is None or not idle:
            channel, header, parent, content = self.receive()
            if parent.get("msg_id") != request:
                continue
            if channel == "shell":
                reply = content
            elif header["msg_type"] == "status":
                idle = content["execution_state"] == "idle"
            else:
                published.append((header["msg_type"], content))
        return reply, published

    def run(self, code):
        reply, published = self.outcome(self.execute(code))
        assert reply["status"] == "ok", reply
        return text(published)

    def close(self):
        self.socket.close()


class Closed(Exception):
    """The connection was closed, with code and reason."""


def text(published):
    """Returns the visible text after the last time that output was cleared."""
    seen = []
    for msg_type, content in published:
        if msg_type == "clear_output":
            seen.clear()
        elif msg_type == "stream":
            seen.append(content["text"])
        elif msg_type == "execute_result":
            seen.append(content["data"].get("text/plain", ""))
    return "".join(part for part in seen if "session restored with" not in part)


class OneHost(unittest.TestCase):
    arguments = ()

    def setUp(self):
        self.host = Host(*self.arguments)
        self.addCleanup(lambda: self.host.kill())


class Rest(OneHost):
    def test_all_requests_of_a_server(self):
        _, _, specs = self.host.ask("GET", "/api/kernelspecs")
        spec = specs["kernelspecs"][specs["default"]]
        self.assertEqual(spec["spec"]["display_name"], "Lockstep (Rust)")
        for name, resource in spec["resources"].items():
            status, headers, data = self.host.ask("GET", resource)
            self.assertEqual((status, headers["Content-Type"].split("/")[0], len(data) > 100), (200, "image", True), name)
        self.assertEqual(self.host.ask("GET", "/api/kernelspecs/lockstep")[2], spec)
        self.assertEqual(self.host.ask("GET", "/api/kernelspecs/python3")[0], 404)

        status, headers, model = self.host.ask("POST", "/api/kernels", {"name": "lockstep", "path": "a.ipynb", "env": {}})
        kernel = f"/api/kernels/{model['id']}"
        self.assertEqual((status, headers["Location"], model["connections"]), (201, kernel, 0))
        self.assertRegex(model["last_activity"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual(sorted(model), ["connections", "execution_state", "id", "last_activity", "name"])
        self.assertEqual([one["id"] for one in self.host.ask("GET", "/api/kernels")[2]], [model["id"]])
        client = self.host.connect(model["id"])
        client.run("let kept = 1;")
        self.assertEqual(self.host.ask("GET", kernel)[2]["connections"], 1)
        self.assertEqual(self.host.ask("POST", f"{kernel}/interrupt")[0], 204)
        status, _, restarted = self.host.ask("POST", f"{kernel}/restart")
        self.assertEqual((status, restarted["id"]), (200, model["id"]))
        states = [content["execution_state"] for kind, content in client.until(is_state("starting")) if kind == "status"]
        self.assertNotIn("restarting", states, "JupyterLab would say that the kernel has died")
        reply, _ = client.outcome(client.execute("kept"))
        self.assertEqual(reply["status"], "error")
        self.assertEqual(self.host.ask("DELETE", kernel)[0], 204)
        client.until(is_state("dead"))
        self.assertRaisesRegex(Closed, "the kernel has shut down", client.receive)
        self.assertEqual(self.host.ask("GET", "/api/kernels")[2], [])
        self.assertEqual(os.listdir(f"{self.host.directory}/store/sessions"), [])
        for method, path in [("GET", kernel), ("DELETE", kernel), ("POST", f"{kernel}/interrupt"), ("POST", f"{kernel}/restart")]:
            status, _, refusal = self.host.ask(method, path)
            self.assertEqual((status, sorted(refusal)), (404, ["message", "reason"]))
        self.assertEqual(self.host.ask("POST", "/api/kernels", {"name": "python3"})[0], 404)
        self.assertEqual(self.host.ask("POST", "/api/kernels", {"env": {"KERNEL_ID": "../x"}})[0], 400)


class Culled(OneHost):
    arguments = ("--cull-idle", "1s")

    def test_idle_kernels_are_culled_and_sessions_of_chosen_ids_kept(self):
        chosen, passing = str(uuid.uuid4()), self.host.kernel()
        self.assertEqual(self.host.kernel(KERNEL_ID=chosen), chosen)
        client = self.host.connect(chosen)
        client.run("let kept = 7;")
        while self.host.ask("GET", f"/api/kernels/{passing}")[0] == 200:
            time.sleep(0.05)
        self.assertEqual(self.host.ask("GET", f"/api/kernels/{chosen}")[0], 200, "a client is connected")
        client.close()
        while self.host.ask("GET", f"/api/kernels/{chosen}")[0] == 200:
            time.sleep(0.05)
        self.assertEqual(self.host.kernel(KERNEL_ID=chosen), chosen)
        self.assertEqual(self.host.connect(chosen).run("kept"), "7")


class Channels(OneHost):
    def test_every_client_sees_all_publications_and_only_its_own_replies(self):
        kernel = self.host.kernel()
        plain, binary = self.host.connect(kernel, "a"), self.host.connect(kernel, "b", v1=True)
        asked = binary.execute("println!(\"é\"); 40 + 2")
        reply, published = binary.outcome(asked)
        self.assertEqual((reply["status"], text(published)), ("ok", "é\n42"))
        other = plain.execute("1")
        seen = []
        while True:
            channel, header, parent, content = plain.receive()
            if parent.get("msg_id") == asked:
                seen.append((channel, header["msg_type"]))
            if parent.get("msg_id") == other and channel == "shell":
                break
        expected = ["status", "execute_input", "stream", "execute_result", "status"]
        self.assertEqual(seen, [("iopub", kind) for kind in expected])

    def test_messages_are_kept_for_the_session_of_a_disconnected_client(self):
        kernel = self.host.kernel()
        client = self.host.connect(kernel, "reader")
        client.run("0")
        first = client.execute(LONG + "for i in 0..3 { println!(\"{i}\"); } 7")
        client.until(is_state("busy"))
        client.close()
        stranger = self.host.connect(kernel, "stranger")
        stranger.outcome(stranger.execute("1"))
        back = self.host.connect(kernel, "reader")
        self.assertEqual(text(back.outcome(first)[1]), "0\n1\n2\n7")

    def test_clients_without_a_session_receive_messages_kept_for_the_kernel(self):
        kernel = self.host.kernel()
        client = self.host.connect(kernel)
        request = client.execute(LONG + "5")
        client.until(is_state("busy"))
        client.close()
        self.assertEqual(text(self.host.connect(kernel).outcome(request)[1]), "5")

    def test_a_malformed_message_only_closes_its_connection(self):
        kernel = self.host.kernel()
        good = self.host.connect(kernel, "good")
        frames = ["garbage", "{}", json.dumps({"channel": "iopub", "header": {"msg_id": "1", "msg_type": "x"}})]
        for frame in frames:
            client = self.host.connect(kernel, "bad")
            client.socket.send(frame)
            self.assertEqual(closing(client), 1007, frame)
        for frame in [b"", b"\xff" * 8, struct.pack("<3Q", 2, 16, 1 << 63), struct.pack("<7Q", 6, 56, 56, 56, 56, 56, 56)]:
            client = self.host.connect(kernel, "bad", v1=True)
            client.socket.send_binary(frame)
            self.assertEqual(closing(client), 1007, frame)
        client = self.host.connect(kernel, "bad")
        try:
            client.execute("x" * (65 << 20))
            self.assertEqual(closing(client), 1009)
        except (BrokenPipeError, ConnectionResetError, websocket.WebSocketConnectionClosedException):
            pass  # the host closed the connection before everything was written
        self.assertEqual(good.run("6 * 7"), "42")

    def test_a_flood_of_text_is_truncated_with_a_note_and_takes_no_memory(self):
        client = self.host.connect(self.host.kernel(), "reader")
        seen = client.run("let line = \"x\".repeat(9_999); for _ in 0..1_500 { println!(\"{line}\"); }")
        self.assertEqual(seen.count("some output is not shown"), 1)
        self.assertLess(len(seen), 8_000_000)
        self.assertEqual(client.run("1"), "1")
        with open(f"/proc/{self.host.process.pid}/status") as status:
            peak = int(status.read().split("VmHWM:")[1].split()[0])
        self.assertLess(peak, 300_000, "kB at most")

    def test_a_client_that_does_not_read_is_disconnected_and_blocks_no_other(self):
        kernel = self.host.kernel()
        slow, quick = self.host.connect(kernel, "slow"), self.host.connect(kernel, "quick")
        picture = 'lockstep::show::display(&Figure::svg(format!("<svg><!-- {} --></svg>", "x".repeat(1_000_000))));'
        # a client may be 8 MiB behind; the quick one has read everything after each cell
        for cell in range(5):
            reply, published = quick.outcome(quick.execute(f"for _ in 0..7 {{ {picture} }} {cell}"))
            self.assertEqual((reply["status"], [kind for kind, _ in published].count("display_data")), ("ok", 7))
        self.assertEqual(quick.run("2"), "2")
        with self.assertRaises((Closed, websocket.WebSocketConnectionClosedException, ConnectionResetError)) as ended:
            while True:
                slow.receive()
        if isinstance(ended.exception, Closed):
            self.assertEqual(ended.exception.args[0], 1008)
        self.assertEqual(self.host.connect(kernel, "slow").run("3"), "3")


class Turns(OneHost):
    """A host on which one cell or job runs at a time."""

    arguments = ("--jobs", "1", "--memory", "512MiB")

    def running(self):
        """Returns the numbers of running cells and jobs, and the memory that they may use."""
        text = self.host.ask("GET", "/metrics")[2].decode()
        values = dict(line.split(" ") for line in text.splitlines() if not line.startswith("#"))
        return values["lockstep_sandboxes"], values["lockstep_guest_memory_bytes"]

    def test_a_cell_waits_for_its_turn_and_can_be_interrupted_meanwhile(self):
        first, second = (self.host.kernel() for _ in range(2))
        holder, waiter = self.host.connect(first), self.host.connect(second)
        running = holder.execute(ENDLESS)
        holder.until_begun()
        self.assertEqual(self.running(), ("1", str(512 << 20)))
        given_up = waiter.execute("1")
        waiter.until(lambda kind, content: kind == "stream" and "waiting for other cells" in content["text"])
        self.host.ask("POST", f"/api/kernels/{second}/interrupt")
        self.assertEqual(waiter.outcome(given_up)[0]["ename"], "Interrupted")
        waiting = waiter.execute("2")
        waiter.until(lambda kind, content: kind == "stream" and "waiting for other cells" in content["text"])
        self.host.ask("POST", f"/api/kernels/{first}/interrupt")
        self.assertEqual(holder.outcome(running)[0]["ename"], "Interrupted")
        self.assertEqual(text(waiter.outcome(waiting)[1]), "2")
        self.assertEqual(self.running(), ("0", "0"))

    def test_a_cell_that_needs_too_much_memory_ends_with_what_to_do(self):
        client = self.host.connect(self.host.kernel())
        client.run("let kept = 7;")
        reply, _ = client.outcome(client.execute("let all = vec![1_u8; 1 << 30]; all.len()"))
        self.assertEqual((reply["ename"], reply["evalue"].split("\n")[0]), ("Limit", "out of memory: more than 536870912 bytes"))
        self.assertIn("a cell may use 512.0 MiB on this host", reply["evalue"])
        self.assertEqual(client.run("kept"), "7")

    def test_a_cell_that_waits_for_input_holds_no_turn(self):
        asking, other = (self.host.connect(self.host.kernel()) for _ in range(2))
        code = "let mut line = String::new(); std::io::stdin().read_line(&mut line)?; line.trim().len()"
        request = asking.execute(code, allow_stdin=True)
        asking.until(lambda kind, content: kind == "input_request")
        self.assertEqual(other.run("1"), "1")
        asking.send("input_reply", {"value": "four"}, "stdin")
        self.assertEqual(text(asking.outcome(request)[1]).splitlines()[-1], "4")


class Limited(OneHost):
    def setUp(self):
        with tempfile.NamedTemporaryFile("w", suffix=".toml", dir=".", delete=False) as quotas:
            quotas.write("[default]\nkernels = 3\n")
        self.arguments = ("--quotas", quotas.name)
        super().setUp()

    def test_kernels_that_are_requested_at_once_do_not_exceed_the_quota(self):
        ask = lambda _: self.host.ask("POST", "/api/kernels", {"name": "lockstep"})[0]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            statuses = sorted(pool.map(ask, range(12)))
        self.assertEqual(statuses, [201] * 3 + [429] * 9)
        kernel = self.host.ask("GET", "/api/kernels")[2][0]["id"]
        self.assertEqual(self.host.kernel(KERNEL_ID=kernel), kernel, "one that exists")

    def test_unknown_variables_of_a_kernel_are_not_kept(self):
        kernel = self.host.kernel(KERNEL_ID=str(uuid.uuid4()), KERNEL_USERNAME="ann", MY_PASSWORD="pass")
        with open(f"{self.host.directory}/store/host/kernels/{kernel}/kernel.jsonl") as journal:
            self.assertEqual(list(json.loads(journal.readline())["env"]), ["KERNEL_ID"])


class Stopped(OneHost):
    arguments = ("--grace", "0s")

    def test_a_cell_continues_however_often_the_host_shuts_down(self):
        kernel = self.host.kernel()
        client = self.host.connect(kernel, "reader")
        running = client.execute(ENDLESS)
        for _ in range(3):
            client.until_begun()
            self.host.terminate()
            self.host.start()
            client = self.host.connect(kernel, "reader")
        client.until_begun()
        self.host.ask("POST", f"/api/kernels/{kernel}/interrupt")
        self.assertEqual(client.outcome(running)[0]["ename"], "Interrupted")


class Killed(OneHost):
    def test_a_cell_during_which_the_host_was_killed_twice_is_not_executed_again(self):
        kernel = self.host.kernel()
        client = self.host.connect(kernel, "reader")
        client.run("let kept = 7;")
        running = client.execute(ENDLESS)
        for _ in range(2):
            client.until_begun()
            self.host.kill()
            self.host.start()
            client = self.host.connect(kernel, "reader")
        reply, _ = client.outcome(running)
        self.assertEqual(reply["ename"], "HostEnded")
        self.assertIn("the host ended twice while this cell ran", reply["evalue"])
        self.assertEqual(client.run("kept"), "7")

    def test_cells_continue_after_the_host_was_killed(self):
        kernel = self.host.kernel()
        client = self.host.connect(kernel, "reader")
        client.run("let mut list = vec![1, 2, 3];")
        running = client.execute("println!(\"begun\"); list.push(4);" + LONG + "n")
        queued = client.execute("list.len()")
        client.until_begun()
        self.host.kill()
        self.host.start()
        self.assertEqual([model["id"] for model in self.host.ask("GET", "/api/kernels")[2]], [kernel])
        client = self.host.connect(kernel, "reader")
        reply, published = client.outcome(running)
        self.assertEqual((reply["status"], reply["execution_count"]), ("ok", 2))
        self.assertEqual(published[0], ("clear_output", {"wait": False}))
        self.assertRegex(text(published), "^begun\n\\d+$")
        reply, published = client.outcome(queued)
        self.assertEqual((reply["execution_count"], text(published)), (3, "4"), "the cell was not executed twice")

    def test_finished_cells_are_not_executed_again(self):
        kernel = self.host.kernel()
        client = self.host.connect(kernel, "reader")
        client.run("let mut list = vec![1];")
        self.assertEqual(client.run("list.push(2); list.len()"), "2")
        for expected in ["3", "4"]:
            # the host notices a moment later that the reply was received
            while os.listdir(f"{self.host.directory}/store/host/kernels/{kernel}") != ["kernel.jsonl"]:
                client.socket.ping()
                time.sleep(0.01)
            self.host.kill()
            self.host.start()
            client = self.host.connect(kernel, "reader")
            self.assertEqual(client.run("list.push(2); list.len()"), expected)

    def test_a_reply_that_was_not_received_is_sent_again(self):
        kernel = self.host.kernel()
        client = self.host.connect(kernel, "reader")
        client.run("let mut list = vec![1];")
        request = client.execute(LONG + "list.push(2); list.len()")
        client.until(is_state("busy"))
        client.close()
        while self.host.ask("GET", f"/api/kernels/{kernel}")[2]["execution_state"] == "busy":
            time.sleep(0.02)
        self.host.kill()
        self.host.start()
        client = self.host.connect(kernel, "reader")
        self.assertEqual(text(client.outcome(request)[1]), "2")
        self.assertEqual(client.run("list.len()"), "2")


class Moved(unittest.TestCase):
    """Two hosts, one after the other, with a shared store whose objects are files below $OBJECTS."""

    def test_a_kernel_continues_on_another_host(self):
        host, kernel = Host(), str(uuid.uuid4())
        self.addCleanup(lambda: host.kill())
        host.kernel(KERNEL_ID=kernel)
        client = host.connect(kernel, "reader")
        client.run("let mut list = vec![1, 2, 3];")
        running = client.execute("println!(\"begun\"); list.push(4);" + LONG + "n")
        client.until_begun()
        self.eventually(kernel, lambda copy: copy and [request["header"]["msg_id"] for request in copy["kernel"]["requests"]] == [running])
        host.kill()
        shutil.rmtree(host.directory)
        host = Host()
        host.kernel(KERNEL_ID=kernel)
        client = host.connect(kernel, "reader")
        reply, published = client.outcome(running)
        self.assertEqual((reply["status"], reply["execution_count"]), ("ok", 2))
        self.assertRegex(text(published), "^(note: .*\n)?begun\n\\d+$")
        self.assertEqual(client.run("list.len()"), "4", "the cell was not executed twice")
        self.assertEqual(host.ask("DELETE", f"/api/kernels/{kernel}")[0], 204)
        self.eventually(kernel, lambda copy: copy is None)

    def eventually(self, kernel, is_so):
        """Waits until `is_so` holds for the kernel's copy."""
        begun = time.monotonic()
        while True:
            try:
                with open(f"{os.environ['OBJECTS']}/notes/kernels/{kernel}.json") as file:
                    copy = json.load(file)
            except (FileNotFoundError, ValueError):
                copy = None
            if is_so(copy):
                return
            self.assertLess(time.monotonic() - begun, 60, copy)
            time.sleep(0.02)


class Many(OneHost):
    def test_two_hundred_idle_kernels_take_little_memory(self):
        for number in range(200):
            client = self.host.connect(self.host.kernel(), "reader")
            self.assertEqual(client.run(f"let kept = {number}; kept"), str(number))
        with open(f"/proc/{self.host.process.pid}/status") as status:
            resident = int(status.read().split("VmRSS:")[1].split()[0])
        self.assertLess(resident, 1_000_000, "kB")


class Clients(OneHost):
    """Jupyter's own gateway client."""

    def setUp(self):
        if "GATEWAY" in os.environ:
            self.host = There(os.environ["GATEWAY"], AUTH)
        else:
            super().setUp()

    def test_nbclient_through_a_gateway(self):
        import nbformat
        from jupyter_server.gateway import managers
        from jupyter_server.gateway.gateway_client import GatewayClient
        from nbclient import NotebookClient

        # the client sends its token with HTTP requests, but not with the WebSocket
        connect = websocket.create_connection
        websocket.create_connection = lambda *args, **more: connect(*args, header=AUTH, **more)
        self.addCleanup(setattr, websocket, "create_connection", connect)
        GatewayClient.clear_instance()
        GatewayClient.instance(url=self.host.url, auth_token=TOKEN)
        codes = ["let x = 20;", "println!(\"{x}\"); x + 1", "x + 2"]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in codes])
        gateway = {"kernel_manager_class": managers.GatewayKernelManager, "kernel_name": "lockstep"}
        NotebookClient(notebook, timeout=PATIENCE, **gateway).execute(kernel_name="lockstep")
        printed, value = notebook.cells[1].outputs
        self.assertEqual((printed.text, value.data["text/plain"]), ("20\n", "21"))
        self.assertEqual(notebook.cells[2].outputs[0].data["text/plain"], "22")
        self.assertEqual(self.host.ask("GET", "/api/kernels")[2], [], "nbclient has shut it down")


class Remote(unittest.TestCase):
    """A local kernel process that connects to a kernel on a host."""

    def setUp(self):
        self.host = Host()
        self.addCleanup(lambda: self.host.kill())
        self.place = os.path.abspath(self.host.directory)
        with open(f"{self.place}/token", "w") as file:
            file.write(TOKEN + "\n")
        install = ["kernel", "install", "--host", self.host.url, "--token-file", f"{self.place}/token", "--name", "team"]
        subprocess.run([LOCKSTEP, *install, "--prefix", self.place], check=True, stdout=subprocess.DEVNULL)
        os.environ["JUPYTER_PATH"] = f"{self.place}/share/jupyter"
        self.start()

    def start(self):
        from jupyter_client.manager import KernelManager

        self.manager = KernelManager(kernel_name="team")
        self.manager.start_kernel(env={**os.environ, "JPY_SESSION_NAME": f"{self.place}/a.ipynb"})
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)
        self.addCleanup(self.manager.shutdown_kernel, now=True)

    def run_cell(self, code):
        published = []
        hook = lambda message: published.append((message["msg_type"], message["content"]))
        reply = self.client.execute_interactive(code, timeout=PATIENCE, output_hook=hook)
        return reply["content"], published

    def shown(self, code):
        reply, published = self.run_cell(code)
        self.assertEqual(reply["status"], "ok", reply)
        return text(published)

    def test_a_cell_survives_its_host_and_a_kernel_its_process(self):
        with open(f"{self.place}/share/jupyter/kernels/team/kernel.json") as spec:
            self.assertNotIn(TOKEN, spec.read())
        self.assertEqual(self.shown("let mut list = vec![1, 2]; list.len()"), "2")
        request = self.client.execute("println!(\"begun\"); list.push(3);" + LONG + "list.len()")
        said = ""
        while "begun" not in said:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            said = message["content"].get("text", "")
        self.host.kill()
        self.host.start()
        reply = self.client.get_shell_msg(timeout=PATIENCE)
        self.assertEqual((reply["parent_header"]["msg_id"], reply["content"]["status"]), (request, "ok"))
        self.assertEqual(self.shown("list.len()"), "3")

        os.kill(self.manager.provisioner.pid, signal.SIGKILL)
        self.client.stop_channels()
        self.start()
        self.assertEqual(self.shown("list.len()"), "3")
        self.manager.restart_kernel()
        self.client.wait_for_ready(timeout=PATIENCE)
        self.assertEqual(self.run_cell("list.len()")[0]["status"], "error")
        self.manager.shutdown_kernel()
        self.assertEqual(self.host.ask("GET", "/api/kernels")[2], [])

    def test_an_unreachable_host_is_reported_in_the_cell(self):
        self.manager.shutdown_kernel()
        self.host.kill()
        self.start()
        reply, published = self.run_cell("1")
        self.assertEqual(([kind for kind, _ in published if kind == "error"], reply["ename"]), (["error"], "HostAway"))
        self.assertIn("start it with `lockstep serve`", reply["evalue"])
        self.host.start()
        self.assertEqual(self.shown("1"), "1")


class Pods(unittest.TestCase):
    """Kernels in pods of a host in a cluster, which are culled soon when idle."""

    def test_an_idle_kernel_loses_its_pod_and_continues_in_another_one_if_its_id_was_chosen(self):
        host, chosen = There(os.environ["GATEWAY"], AUTH), str(uuid.uuid4())
        passing = host.kernel()
        self.assertEqual(host.kernel(KERNEL_ID=chosen), chosen)
        client = host.connect(chosen)
        self.assertEqual(client.run("let kept = 20; kept + 1"), "21")
        self.assertEqual(namespaces(chosen), [os.environ["NAMESPACE"]])
        wait_until(lambda: host.ask("GET", f"/api/kernels/{passing}")[0] == 404)
        wait_until(lambda: namespaces(passing) == [] and not has_copy(passing))
        self.assertEqual(host.ask("GET", f"/api/kernels/{chosen}")[0], 200, "a client is connected")
        client.close()
        wait_until(lambda: namespaces(chosen) == [])
        self.assertEqual(host.ask("GET", f"/api/kernels/{chosen}")[0], 404)
        self.assertTrue(has_copy(chosen))
        self.assertEqual(host.kernel(KERNEL_ID=chosen), chosen)
        self.assertRegex(host.connect(chosen).run("kept"), r"(^|\n)20$")
        # shutdown by a client also deletes the pod
        host.connect(chosen).send("shutdown_request", {"restart": False}, "control")
        wait_until(lambda: namespaces(chosen) == [] and not has_copy(chosen))

    def test_a_kernel_survives_the_loss_of_its_pod_and_host(self):
        host = There(os.environ["GATEWAY"], AUTH)
        kernel = host.kernel()
        client = host.connect(kernel)
        client.run("let kept = 20;")
        wait_until(lambda: "kept" in copy_of(kernel))
        kubectl("scale", "deployment/lockstep", "--replicas=0")
        kubectl("wait", "pod", "--for=delete", "-l", "app.kubernetes.io/component=host")
        kubectl("delete", "pod", "--now", "-l", f"lockstep.dev/kernel={kernel}")
        kubectl("scale", "deployment/lockstep", "--replicas=1")
        kubectl("rollout", "status", "deployment/lockstep")
        wait_until(lambda: is_reached(host))
        self.assertEqual(host.ask("GET", f"/api/kernels/{kernel}")[0], 200)
        self.assertRegex(host.connect(kernel).run("kept"), r"(^|\n)20$")
        self.assertEqual(host.ask("DELETE", f"/api/kernels/{kernel}")[0], 204)
        wait_until(lambda: namespaces(kernel) == [] and not has_copy(kernel))
        self.assertEqual(host.ask("GET", f"/api/kernels/{kernel}")[0], 404)


class Users(unittest.TestCase):
    """Kernels of the users $USERS. The last user has no namespace."""

    def test_a_kernel_is_only_in_the_namespace_of_its_user(self):
        users = os.environ["USERS"].split()
        ann, bob, carl = (There(os.environ["GATEWAY"], {"kubeflow-userid": user}) for user in users)
        anns, bobs, carls = ("kubeflow-" + user.replace("@", "-").replace(".", "-") for user in users)
        kernel = ann.kernel(KERNEL_ID=str(uuid.uuid4()))
        self.assertEqual(ann.connect(kernel).run("let kept = 20; kept + 1"), "21")
        self.assertEqual(namespaces(kernel), [anns])
        wait_until(lambda: has_copy(kernel, f"users/{users[0]}/"))

        self.assertEqual(bob.ask("GET", "/api/kernels")[::2], (200, []))
        for method, what in [("GET", ""), ("DELETE", ""), ("POST", "/interrupt"), ("POST", "/restart")]:
            self.assertEqual(bob.ask(method, f"/api/kernels/{kernel}{what}")[0], 404, what)
        with self.assertRaises(websocket.WebSocketBadStatusException) as refused:
            bob.connect(kernel)
        self.assertEqual(refused.exception.status_code, 404)
        # another user's kernel with the same id is a different kernel
        self.assertEqual(bob.kernel(KERNEL_ID=kernel), kernel)
        client = bob.connect(kernel)
        self.assertEqual(client.outcome(client.execute("kept"))[0]["status"], "error")
        self.assertEqual(namespaces(kernel), [anns, bobs])
        self.assertEqual(bob.ask("DELETE", f"/api/kernels/{kernel}")[0], 204)
        wait_until(lambda: namespaces(kernel) == [anns])
        self.assertEqual(ann.connect(kernel).run("kept"), "20")

        status, _, refusal = carl.ask("POST", "/api/kernels", {"name": "lockstep"})
        self.assertEqual(status, 403, refusal)
        self.assertIn(carls, refusal["message"])


def namespaces(kernel):
    """Returns the namespaces of the kernel's pods, sorted."""
    return sorted(kubectl(
        "get", "pods", "--all-namespaces", "-l", f"lockstep.dev/kernel={kernel}", "-o", "jsonpath={.items[*].metadata.namespace}"
    ).split())


def kubectl(*arguments):
    """Runs kubectl, which must succeed. Returns its output."""
    command = [*json.loads(os.environ["KUBECTL"]), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def copy_of(kernel, of=""):
    """Returns the kernel's copy in the shared store, with an optional user prefix; empty if there is none."""
    try:
        with open(f"{os.environ['OBJECTS']}/{of}notes/kernels/{kernel}.json") as copy:
            return copy.read()
    except FileNotFoundError:
        return ""


def has_copy(kernel, of=""):
    return copy_of(kernel, of) != ""


def is_reached(host):
    try:
        return host.ask("GET", "/api")[0] == 200
    except urllib.error.URLError:
        return False


def wait_until(is_so):
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < PATIENCE, "waited too long"
        time.sleep(0.05)


def closing(client):
    """Returns the code with which the host closes a connection."""
    try:
        while True:
            client.receive()
    except Closed as closed:
        return closed.args[0]


def is_state(state):
    return lambda kind, content: kind == "status" and content["execution_state"] == state


LOCKSTEP = sys.argv[1]

if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
