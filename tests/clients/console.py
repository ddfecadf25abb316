"""Types the first cells of the penguins' notebook, whose path is the argument, into `jupyter console` in a terminal."""

import json
import sys

import pexpect

# seconds; the first cell may wait for the prelude to be compiled
FIRST = 300
SOON = 30

notebook = json.load(open(sys.argv[1], encoding="utf-8"))
first, second = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"][:2]

console = pexpect.spawn(
    sys.executable,
    ["-m", "jupyter_console", "--kernel=lockstep"],
    dimensions=(50, 160),
    encoding="utf-8",
    timeout=SOON,
)
console.logfile_read = sys.stdout


def prompt(number):
    console.expect(rf"In \S*\[\S*{number}\S*\]")


def type_cell(number, code, shown, timeout=SOON):
    """Types at the prompt of cell `number` and waits for the output `shown`."""
    prompt(number)
    console.send(f"{code}\r")
    console.expect(shown, timeout=timeout)


type_cell(1, first, "raw", FIRST)
number = 2
for line in second.splitlines():
    type_cell(number, line, "344 penguins" if "println" in line else "Torgersen" if "head" in line else "")
    number += 1
# while a bracket is open, Enter starts another line
type_cell(number, "fn twice(x: f64) -> f64 {\r2.0 * x\r}", "")
type_cell(number + 1, "twice(21.25)", "42.5")
prompt(number + 2)
console.sendcontrol("d")
console.expect("Do you really want to exit")
console.send("y\r")
console.expect(pexpect.EOF)
console.close()
sys.exit(console.exitstatus)
