"""Kills the kernel `lockstep` with SIGKILL at random moments, and checks that no variable of a finished cell is lost.

Arguments: the number of kills, and the random seed.
"""

import os
import random
import signal
import sys
import threading

from jupyter_client.manager import KernelManager

REPLY = 60


def start():
    """Starts a kernel for the notebook `chaos.ipynb`, as Jupyter's server does."""
    manager = KernelManager(kernel_name="lockstep")
    manager.start_kernel(env={**os.environ, "JPY_SESSION_NAME": os.path.abspath("chaos.ipynb")})
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=REPLY)
    return manager, client


def variables(client):
    """Returns the names that `:vars` lists."""
    texts = []

    def collect(message):
        if message["msg_type"] == "display_data":
            texts.append(message["content"]["data"].get("text/plain", ""))

    reply = client.execute_interactive(":vars", timeout=REPLY, store_history=False, output_hook=collect)
    assert reply["content"]["status"] == "ok", reply["content"]
    return {line.split()[0] for text in texts for line in text.splitlines()}


def main():
    times, seed = int(sys.argv[1]), int(sys.argv[2])
    moments = random.Random(seed)
    finished, begun = set(), 0
    for _ in range(times):
        manager, client = start()
        found = variables(client)
        lost = finished - found
        assert not lost, f"lost after {len(finished)} cells: {sorted(lost)}"
        # the kernel may have been killed after finishing a cell but before replying
        finished |= found
        pid = manager.provisioner.pid
        timer = threading.Timer(moments.uniform(0.0, 0.4), os.kill, (pid, signal.SIGKILL))
        timer.start()
        while timer.is_alive():
            name = f"v{begun}"
            begun += 1
            request = client.execute(f"let {name}: i64 = {begun};")
            while timer.is_alive():
                try:
                    reply = client.get_shell_msg(timeout=0.02)
                except Exception:
                    continue
                if reply["parent_header"].get("msg_id") == request and reply["content"]["status"] == "ok":
                    finished.add(name)
                    break
        timer.join()
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    print(f"killed {times} times; {len(finished)} of {begun} cells finished, none lost")
    assert len(finished) > times / 4, "the kernel was killed before it finished any cells"


if __name__ == "__main__":
    main()
