"""Tests that the kernel `lockstep` conforms to the messaging protocol: jupyter_kernel_test's suite, and tests that it lacks.

The arguments are names of classes. Skipped tests, except for the pager, count as failures.
"""

import queue
import sys
import unittest

import jupyter_kernel_test
from jupyter_client.manager import start_new_kernel
from jupyter_kernel_test.msgspec_v5 import validate_message

KERNEL = "lockstep"
# seconds; the first cell may wait for the prelude to be compiled
FIRST = 300
REPLY = 15
SOON = 0.5
ENDLESS = "let mut turns = 0_u64; loop { turns = std::hint::black_box(turns + 1); }"


class Suite(jupyter_kernel_test.KernelTests):
    """All possible samples. The kernel has no pager."""

    kernel_name = KERNEL
    language_name = "rust"
    file_extension = ".rs"

    code_hello_world = 'println!("hello, world");'
    code_stderr = 'eprintln!("oh no");'
    code_generate_error = "Vec::<i64>::new()[1]"
    code_execute_result = [
        {"code": "1 + 1", "result": "2"},
        {"code": "1 + 2 + 1", "result": "4"},
        {"code": '"text"', "result": '"text"'},
        {"code": "Table::new([(\"x\", vec![1.5])])?", "mime": "text/html"},
        {"code": 'Figure::svg("<svg xmlns=\'http://www.w3.org/2000/svg\'/>")', "mime": "image/svg+xml"},
    ]
    code_display_data = [
        {"code": 'lockstep::show::display(&Table::new([("x", vec![1.5])])?);', "mime": "text/html"},
        {"code": 'lockstep::show::display(&Table::new([("x", vec![1.5])])?);', "mime": "text/plain"},
        {"code": 'lockstep::show::display(&Figure::svg("<svg/>"));', "mime": "image/svg+xml"},
        {
            "code": "struct Dot;\nimpl lockstep::show::Show for Dot {\n    fn show(&self) -> lockstep::show::Bundle {\n"
            '        lockstep::show::Bundle::text("a dot").with("image/png", "aWNvbg==")\n    }\n}\n'
            "lockstep::show::display(&Dot);",
            "mime": "image/png",
        },
        {"code": ":vars", "mime": "text/plain"},
    ]
    code_clear_output = 'println!("1"); lockstep::show::clear_output(true); println!("2");'
    code_inspect_sample = "measured"
    completion_samples = [
        {"text": "let twice = measu", "matches": ["measure", "measured"]},
        {"text": ":he", "matches": ["help"]},
        {"text": "measured.chec"},
    ]
    complete_code_samples = ["1 + 1", "let x = '{';", "fn f() {}\nf()", ":help", "// nothing", ""]
    incomplete_code_samples = ["fn f() {", "let x =", 'let s = "abc', "foo(bar, [", "/* not yet"]
    invalid_code_samples = ["fn f( }", "let = 5;", ")", "struct struct X;"]
    code_history_pattern = "1*2 + 1"
    supported_history_operations = ("tail", "range", "search")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        run(cls.kc, "let measured: i64 = 5;\nfn measure() -> i64 { 7 }")


class Welcome(jupyter_kernel_test.IopubWelcomeTests):
    kernel_name = KERNEL
    support_iopub_welcome = True


class Kernel(unittest.TestCase):
    """A new kernel for each test."""

    def setUp(self):
        self.km, self.kc = start_new_kernel(kernel_name=KERNEL)
        self.addCleanup(self.km.shutdown_kernel)
        self.addCleanup(self.kc.stop_channels)
        self.assertEqual(run(self.kc, "let kept: i64 = 7;")[0]["status"], "ok")


class Stdin(Kernel):
    ASKS = (
        "use std::io::Write;\nlet mut name = String::new();\n"
        'print!("name? ");\nstd::io::stdout().flush()?;\n'
        'std::io::stdin().read_line(&mut name)?;\nprintln!("hello, {}", name.trim());'
    )

    WITH_PROMPT = 'let name = lockstep::show::input("name? ")?;\nprintln!("hello, {name}");'

    def test_input_is_read(self):
        # a cell that reads stdin directly has printed its own prompt
        for code, prompt, name in ((self.ASKS, "", "Ada"), (self.WITH_PROMPT, "name? ", "Ödön")):
            request = self.kc.execute(code, allow_stdin=True)
            asked = self.kc.get_stdin_msg(timeout=REPLY)
            # jupyter_kernel_test expects `password` to be a number, but the protocol defines a boolean
            self.assertEqual((asked["msg_type"], asked["parent_header"]["msg_id"]), ("input_request", request))
            self.assertEqual(asked["content"], {"prompt": prompt, "password": False})
            self.kc.input(name)
            reply, outputs = finish(self.kc, request)
            self.assertEqual(reply["status"], "ok", reply)
            self.assertIn(f"hello, {name}", text(outputs))

    def test_a_client_without_stdin_gets_no_input_request(self):
        request = self.kc.execute(self.ASKS, allow_stdin=False)
        finish(self.kc, request)
        with self.assertRaises(queue.Empty):
            self.kc.get_stdin_msg(timeout=SOON)
        self.assertEqual(result(run(self.kc, "kept")), "7")

    def test_waiting_for_input_can_be_interrupted(self):
        request = self.kc.execute(self.ASKS, allow_stdin=True)
        self.kc.get_stdin_msg(timeout=REPLY)
        self.km.interrupt_kernel()
        reply, _ = finish(self.kc, request)
        self.assertEqual(reply["ename"], "Interrupted", reply)
        self.assertEqual(result(run(self.kc, "kept")), "7")


class Interrupt(Kernel):
    def test_it_stops_the_cell_and_keeps_every_variable(self):
        request = self.kc.execute(ENDLESS)
        wait_for_busy(self.kc, request)
        self.km.interrupt_kernel()
        reply, outputs = finish(self.kc, request)
        self.assertEqual((reply["status"], reply["ename"]), ("error", "Interrupted"))
        self.assertEqual([output["msg_type"] for output in outputs], ["error"])
        self.assertEqual(result(run(self.kc, "kept + 1")), "8")

    def test_an_error_aborts_the_cells_behind_it(self):
        requests = [self.kc.execute(code) for code in ("panic!()", "1 + 1", "2 + 2")]
        replies = [self.kc.get_shell_msg(timeout=REPLY) for _ in requests]
        self.assertEqual([reply["parent_header"]["msg_id"] for reply in replies], requests)
        self.assertEqual([reply["content"]["status"] for reply in replies], ["error", "aborted", "aborted"])


class History(unittest.TestCase):
    def test_the_next_session_finds_what_the_last_one_ran(self):
        mark = f"let mark = {id(self)}_u64;"
        self.assertEqual(self.session(mark), [])
        found = self.session("0")
        self.assertEqual([entry[2] for entry in found], [mark])
        self.assertEqual(found[0][1], 1)

    def session(self, code):
        """Searches the history for marks in a new session, then runs `code`. Returns the entries found."""
        km, kc = start_new_kernel(kernel_name=KERNEL)
        try:
            request = kc.history(hist_access_type="search", pattern="let mark = *", raw=True, output=False)
            reply = wait_for_reply(kc, request)
            validate_message(reply, "history_reply", request)
            run(kc, code)
            return reply["content"]["history"]
        finally:
            kc.stop_channels()
            km.shutdown_kernel()


class Subshells(Kernel):
    """JEP 91: subshells are created and deleted, and answer requests while the main shell runs a cell."""

    def test_a_subshell_answers_while_a_cell_runs(self):
        self.assertIn("kernel subshells", self.features())
        subshell = self.control("create_subshell_request")["subshell_id"]
        self.assertEqual(self.control("list_subshell_request")["subshell_id"], [subshell])
        endless = self.kc.execute(ENDLESS)
        wait_for_busy(self.kc, endless)

        for shell in [subshell, None]:
            message = self.kc.session.msg("complete_request", {"code": "kep", "cursor_pos": 3})
            if shell:
                message["header"]["subshell_id"] = shell
            self.kc.shell_channel.send(message)
            reply = wait_for_reply(self.kc, message["header"]["msg_id"])
            self.assertEqual(reply["content"]["matches"], ["kept"])

        self.km.interrupt_kernel()
        self.assertEqual(finish(self.kc, endless)[0]["ename"], "Interrupted")
        self.assertEqual(self.control("delete_subshell_request", {"subshell_id": subshell})["status"], "ok")
        self.assertEqual(self.control("list_subshell_request")["subshell_id"], [])

    def features(self):
        return wait_for_reply(self.kc, self.kc.kernel_info())["content"]["supported_features"]

    def control(self, kind, content=None):
        message = self.kc.session.msg(kind, content or {})
        self.kc.control_channel.send(message)
        reply = self.kc.get_control_msg(timeout=REPLY)
        self.assertEqual(reply["parent_header"]["msg_id"], message["header"]["msg_id"])
        self.assertEqual(reply["content"]["status"], "ok", reply["content"])
        return reply["content"]


def run(kc, code):
    """Runs a cell. Returns the reply's content, and the messages on IOPub except statuses and the input."""
    return finish(kc, kc.execute(code), FIRST)


def finish(kc, request, timeout=REPLY):
    """Waits for the end of a requested cell. Returns the same as `run`."""
    reply = wait_for_reply(kc, request, timeout)
    validate_message(reply, "execute_reply", request)
    outputs = []
    while True:
        message = kc.get_iopub_msg(timeout=REPLY)
        if message["parent_header"].get("msg_id") != request:
            continue
        kind = message["msg_type"]
        if kind == "status" and message["content"]["execution_state"] == "idle":
            return reply["content"], outputs
        if kind not in ("status", "execute_input"):
            outputs.append(message)


def wait_for_reply(kc, request, timeout=REPLY):
    while True:
        reply = kc.get_shell_msg(timeout=timeout)
        if reply["parent_header"]["msg_id"] == request:
            return reply


def wait_for_busy(kc, request):
    while True:
        message = kc.get_iopub_msg(timeout=REPLY)
        if message["parent_header"].get("msg_id") == request and message["msg_type"] == "execute_input":
            return


def text(outputs):
    return "".join(output["content"]["text"] for output in outputs if output["msg_type"] == "stream")


def result(ran):
    return next(output["content"]["data"]["text/plain"] for output in ran[1] if output["msg_type"] == "execute_result")


if __name__ == "__main__":
    suite = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[1:], sys.modules[__name__])
    done = unittest.TextTestRunner(verbosity=2).run(suite)
    skipped = [str(test) for test, _ in done.skipped if "test_pager" not in str(test)]
    sys.exit(f"skipped: {', '.join(skipped)}" if skipped else not done.wasSuccessful())
