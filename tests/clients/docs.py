"""Runs the commands of documentation pages.

    docs.py LOCKSTEP PAGE...

All ```sh blocks of a page run in order, in one shell, in an empty directory. The first failing command ends the page and is reported with
its line in the page. A block after the comment `<!-- not run: REASON -->` is skipped and listed with the reason.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
# seconds; a page may compile for minutes
PATIENCE = 1800
# bash reports the line of the script, which is the line of the page
TRAP = "trap 'code=$?; echo \"$PAGE:$LINENO: exit code $code: $BASH_COMMAND\" >&2' ERR; set -eEuo pipefail; "


def extract(text):
    """Returns the page as a script with the same line numbers, and the skipped blocks as (line, reason)."""
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
        sys.exit(f"line {started}: unclosed block")
    return script, skipped


def run(lockstep, page):
    """Runs a page. Returns whether all commands succeeded."""
    script, skipped = extract(page.read_text())
    for line, reason in skipped:
        print(f"skipped: {page}:{line}: {reason}")
    count = sum(1 for line in script if line.strip())
    if not count:
        return True
    if script[0].strip():
        sys.exit(f"{page}: the first line must be a title, not a command")
    script[0] = TRAP
    with tempfile.TemporaryDirectory() as outside:
        place = Path(outside, "empty")
        place.mkdir()
        # script and store are outside of the directory, so that it starts empty
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
            print(f"{page}: timed out after {PATIENCE} s", file=sys.stderr)
            code = 1
        finally:
            try:
                os.killpg(shell.pid, signal.SIGKILL)  # end background processes of the page
            except ProcessLookupError:
                pass
    print(f"{'ok' if code == 0 else 'failed'}: {page}: {count} lines of commands")
    return code == 0


def main():
    lockstep, *pages = map(Path, sys.argv[1:])
    # run every page, so that one run reports all failures
    results = [run(lockstep.resolve(), page) for page in pages]
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
