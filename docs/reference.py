"""Writes docs/src/reference/command-line.md from the help of the command.

    docs/reference.py LOCKSTEP            writes the page
    docs/reference.py LOCKSTEP --check    fails if the page is not what would be written
"""

import os
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent / "src/reference/command-line.md"
HEAD = """# Command line

<!-- docs/reference.py writes this page from `lockstep --help`: `make docs`. Do not edit it. -->

`lockstep COMMAND --help` prints the same text. Global options work with every command and are listed once, under `lockstep`.
"""
GLOBAL = "Global options:"


def help_of(lockstep, command):
    """The help at a width of 100 columns, without colours."""
    # clap takes the width of the terminal; a pipe has none, so it takes the default of 100
    environment = {"HOME": "/", "NO_COLOR": "1", "PATH": os.environ["PATH"]}
    said = subprocess.run([lockstep, *command, "--help"], env=environment, capture_output=True, text=True, check=True)
    return [line.rstrip() for line in said.stdout.splitlines()]


def commands(text):
    """The subcommands that a help lists."""
    if "Commands:" not in text:
        return []
    names = []
    for line in text[text.index("Commands:") + 1 :]:
        if not line:
            break
        if line.startswith("  ") and line[2] != " ":
            names.append(line.split()[0])
    return [name for name in names if name != "help"]


def without_globals(text):
    """The help without the section of the options that every command has."""
    if GLOBAL not in text:
        return text
    start = text.index(GLOBAL)
    end = start + 1
    while end < len(text) and (not text[end] or text[end].startswith(" ")):
        end += 1
    return text[:start] + text[end:]


def sections(lockstep, command):
    """A command and those below it, as lines of Markdown."""
    text = help_of(lockstep, command)
    name = " ".join(["lockstep", *command])
    shown = without_globals(text) if command else text
    body = "\n".join(shown).strip()
    yield f"\n{'#' * min(2 + max(len(command) - 1, 0), 4)} {name}\n\n```text\n{body}\n```\n"
    for below in commands(text):
        yield from sections(lockstep, [*command, below])


def main():
    lockstep = sys.argv[1]
    page = HEAD + "".join(sections(lockstep, []))
    if "--check" not in sys.argv:
        PAGE.write_text(page)
    elif PAGE.read_text() != page:
        sys.exit(f"{PAGE} is not what the command says of itself: run docs/reference.py {lockstep}")


if __name__ == "__main__":
    main()
