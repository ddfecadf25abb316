"""Measure cells in each installed kernel through jupyter_client; print medians in seconds as JSON.

evcxr is measured if `make bench` could build it.
"""

import json
import statistics
import subprocess
import sys
import time

import zmq
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

RUST = {
    "new": lambda i: f"1 + {i}",
    "function": lambda i: f"fn add_{i}(x: i64) -> i64 {{ x + {i} }}",
    "before": [
        "let numbers: Vec<f64> = (0..1000).map(|i| i as f64).collect();",
        "let many: Vec<f64> = (0..10_000_000).map(|i| i as f64 * 0.1).collect();",
        "struct Row { x: f64, y: f64, name: String }\n"
        'let rows: Vec<Row> = (0..300_000).map(|i| Row { x: i as f64, y: 0.5, name: format!("{i}") }).collect();',
    ],
    "variable": lambda i: f"numbers.iter().sum::<f64>() + {i}.0",
    "many": lambda i: f"many[{i}] + 0.5",
    "rows": lambda i: f"rows[{i}].x + rows[{i}].y",
    "loop": lambda i: f"let mut n = {i}u64; for k in 0..5_000_000u64 {{ n = n.wrapping_mul(31) ^ k; }} n",
    "println": lambda i: f'println!("line {i}")',
    "error": lambda i: f'let wrong: i64 = "text {i}";',
    "lines": lambda i: f'for n in 0..20_000 {{ println!("{i} {{n}}"); }}',
    "more": lambda i: f"fn more_{i}(x: i64) -> i64 {{ x + {i} }}\nlet v{i}: i64 = more_{i}({i});",
}
PYTHON = {
    "new": lambda i: f"1 + {i}",
    "function": lambda i: f"def add_{i}(x): return x + {i}",
    "before": [
        "numbers = [float(i) for i in range(1000)]",
        "many = [i * 0.1 for i in range(10_000_000)]",
        'class Row:\n  def __init__(self, x, y, name): self.x, self.y, self.name = x, y, name\n'
        'rows = [Row(float(i), 0.5, str(i)) for i in range(300_000)]',
    ],
    "variable": lambda i: f"sum(numbers) + {i}.0",
    "many": lambda i: f"many[{i}] + 0.5",
    "rows": lambda i: f"rows[{i}].x + rows[{i}].y",
    "loop": lambda i: f"n = {i}\nfor k in range(5_000_000): n = (n * 31 & 0xffffffffffffffff) ^ k\nn",
    "println": lambda i: f'print("line {i}")',
    "error": lambda i: f"wrong_{i}",
    "lines": lambda i: f'for n in range(20_000): print("{i}", n)',
    "more": lambda i: f"def more_{i}(x): return x + {i}\nv{i} = more_{i}({i})",
}
KERNELS = {"lockstep": ("lockstep", RUST), "evcxr": ("rust", RUST), "ipykernel": ("python3", PYTHON)}
STARTS, CELLS = 5, 11


def execute(client, code, status="ok"):
    """Run a cell. Return the time until the kernel is idle again."""
    start = time.perf_counter()
    reply = client.execute_interactive(code, timeout=300, output_hook=lambda message: None)
    took = time.perf_counter() - start
    assert reply["content"]["status"] == status, reply["content"]
    return took


def start(name):
    """Start a kernel. Return it, a connected client, and the time to the first reply."""
    context = zmq.Context()
    context.setsockopt(zmq.RECONNECT_IVL, 1)  # otherwise a kernel that starts quickly waits for the client to reconnect
    manager = KernelManager(kernel_name=name, context=context)
    started = time.perf_counter()
    manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = manager.blocking_client()
    client.start_channels()
    client.kernel_info()
    client.get_shell_msg(timeout=120)
    took = time.perf_counter() - started
    client.wait_for_ready(timeout=120)
    return manager, client, took


def measure(name, cells):
    starts = []
    for _ in range(STARTS):
        manager, client, took = start(name)
        starts.append(took)
        if len(starts) < STARTS:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    times = {"start": statistics.median(starts)}
    execute(client, cells["new"](9999))
    for code in cells["before"]:
        execute(client, code)
    for what in ["new", "function", "variable", "many", "rows", "loop", "println", "error"]:
        status = "error" if what == "error" else "ok"
        times[what] = statistics.median(execute(client, cells[what](i), status) for i in range(CELLS))
    times["lines"] = statistics.median(execute(client, cells["lines"](i)) for i in range(3))
    times["repeated"] = statistics.median(execute(client, cells["new"](0)) for _ in range(CELLS))
    if name == "lockstep":
        more = [execute(client, cells["more"](i)) for i in range(110)]
        times["tenth"], times["hundredth"] = statistics.median(more[5:16]), statistics.median(more[95:106])
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    return times


def main():
    installed = KernelSpecManager().find_kernel_specs()
    result = {}
    for title, (name, cells) in KERNELS.items():
        if name in installed:
            print(f"  {title} ...", file=sys.stderr)
            result[title] = measure(name, cells)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
