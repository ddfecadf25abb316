"""Runs the commands of the documentation as a reader would type them.

    docs.py LOCKSTEP PAGE...

All ```sh blocks of a page run in order, in one shell, in an empty directory. The first command that fails ends the page, and is named
by the page's own line. A block after the comment `<!-- not run: REASON -->` is skipped, and listed with the reason.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
# a page takes compilers, so minutes, but never this long
PATIENCE = 1800
# bash names the line of the script, which is the line of the page
TRAP = "trap 'code=$?; echo \"$PAGE:$LINENO: exit code $code: $BASH_COMMAND\" >&2' ERR; set -eEuo pipefail; "


def extract(text):
    """The page as a script with every line at its place, and its skipped blocks as (line, reason)."""
    script, skipped = [], []
    inside, reason, started = None, None, 0
    for number, line in enumerate(text.splitlines(), 1):
        kept = ""
        stripped = line.strip()
        if inside is not None:
            if stripped == "```":
                inside = None
            elif inside == "run":
                kept = line
        elif stripped.startswith("```"):
            is_shell = stripped == "```sh"
            if is_shell and reason:
                skipped.append((number, reason))
            inside = "run" if is_shell and not reason else "other"
            reason, started = None, number
        elif stripped:
            mark = NOT_RUN.fullmatch(stripped)
            reason = mark and mark[1]
        script.append(kept)
    if inside is not None:
        sys.exit(f"line {started}: the block is not closed")
    return script, skipped


def run(lockstep, page):
    """Whether all commands of the page succeed."""
    script, skipped = extract(page.read_text())
    for line, reason in skipped:
        print(f"skipped: {page}:{line}: {reason}")
    count = sum(1 for line in script if line.strip())
    if not count:
        return True
    if script[0].strip():
        sys.exit(f"{page}: the first line is a command; a title belongs there")
    script[0] = TRAP
    with tempfile.TemporaryDirectory() as outside:
        place = Path(outside, "empty")
        place.mkdir()
        # the script is outside of the directory, and so is the store: a reader starts with nothing
        file = Path(outside, "script.sh")
        file.write_text("\n".join(script) + "\n")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LOCKSTEP_")}
        environment |= {
            "PATH": f"{lockstep.parent}:{environment['PATH']}",
            "LOCKSTEP_STORE": f"{outside}/store",
            "JUPYTER_DATA_DIR": f"{outside}/jupyter",
            "PAGE": str(page),
        }
        shell = subprocess.Popen(["bash", file], cwd=place, env=environment, start_new_session=True)
        try:
            code = shell.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            print(f"{page}: still not done after {PATIENCE} s", file=sys.stderr)
            code = 1
        finally:
            try:
                os.killpg(shell.pid, signal.SIGKILL)  # what the page left in the background
            except ProcessLookupError:
                pass
    print(f"{'ok' if code == 0 else 'failed'}: {page}: {count} lines of commands")
    return code == 0


def main():
    lockstep, *pages = map(Path, sys.argv[1:])
    # every page is tried, so that one run tells all that is wrong
    results = [run(lockstep.resolve(), page) for page in pages]
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
