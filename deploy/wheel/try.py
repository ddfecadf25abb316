"""Tests the wheel installed in this Python: its kernel runs a cell with a parameter from papermill."""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpecManager

kernel = Path(KernelSpecManager().get_kernel_spec("lockstep").resource_dir)
if Path(sys.prefix) not in kernel.parents:
    sys.exit(f"{kernel} is not from the wheel")
notebook = nbformat.v4.new_notebook(
    cells=[nbformat.v4.new_code_cell("numbers.iter().sum::<f64>()")],
    metadata={"kernelspec": {"name": "lockstep", "language": "rust", "display_name": "Lockstep (Rust)"}},
)
with TemporaryDirectory() as place:
    os.environ["LOCKSTEP_STORE"] = os.path.join(place, "store")
    ran = papermill.execute_notebook(notebook, None, {"numbers": [40, 2.5]}, progress_bar=False)
shown = ran.cells[-1].outputs[0].data["text/plain"]
if shown != "42.5":
    sys.exit(f"the cell shows {shown}, not 42.5")
print(f"the kernel in {kernel} works")
