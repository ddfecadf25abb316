"""Executes the cells given on stdin in the kernel `lockstep-test`. Prints the executed cells as JSON."""

import json
import sys

import nbformat
from nbclient import NotebookClient

asked = json.load(sys.stdin)
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in asked["cells"]])
NotebookClient(notebook, kernel_name="lockstep-test", timeout=300, allow_errors=asked["allow_errors"]).execute()
json.dump(notebook.cells, sys.stdout)
