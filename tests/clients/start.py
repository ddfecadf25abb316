"""Starts the kernel with the given name. Prints the seconds until the reply to its first cell, and to a second one."""

import sys
import time

from jupyter_client.manager import start_new_kernel

PATIENCE = 300

begun = time.monotonic()
manager, client = start_new_kernel(kernel_name=sys.argv[1], startup_timeout=PATIENCE)
for code in ["let x = 20;", "x + 1"]:
    reply = client.execute_interactive(code, timeout=PATIENCE, output_hook=lambda message: None)
    assert reply["content"]["status"] == "ok", reply
    print(f"{time.monotonic() - begun:.3f}")
    begun = time.monotonic()
client.stop_channels()
manager.shutdown_kernel()
