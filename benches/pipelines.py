"""Measure a task that does nothing in each installed orchestrator; print seconds per task as JSON.

Each orchestrator is used in its fastest way: with as many tasks as take some seconds, and two at a time if it supports that. A run
with a tenth of the tasks is subtracted, to exclude the startup time.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DOIT = """
def nothing(): pass
def task_many():
    for i in range({n}):
        yield {{"name": str(i), "actions": [(nothing, [])], "targets": [f"t{{i}}"], "uptodate": [False]}}
"""

LUIGI = """
import luigi
class Nothing(luigi.Task):
    i = luigi.IntParameter()
    def output(self): return luigi.LocalTarget(f"t{{self.i}}")
    def run(self): open(f"t{{self.i}}", "w").close()
luigi.build([Nothing(i=i) for i in range({n})], local_scheduler=True, workers=1, log_level="ERROR")
"""

SNAKEMAKE = """
rule all:
    input: expand("t{{i}}", i=range({n}))
rule nothing:
    output: "t{{i}}"
    shell: ": > {{output}}"
"""

DAGSTER = """
from dagster import job, op
@op
def nothing(): pass
@job
def many():
    for i in range({n}): nothing.alias(f"t{{i}}")()
assert many.execute_in_process().success
"""

PREFECT = """
from prefect import flow, task
@task
def nothing(i): return i
@flow
def many():
    for i in range({n}): nothing(i)
many()
"""

KFP = """
from kfp import dsl, local
local.init(runner=local.SubprocessRunner(use_venv=False))
@dsl.component
def nothing(i: int) -> int: return i
@dsl.pipeline
def many():
    for i in range({n}): nothing(i=i)
many()
"""

# module: its file, its arguments, its source, the number of tasks
PEERS = {
    "doit": ("dodo.py", ["-m", "doit", "-n2", "-v0"], DOIT, 500),
    "luigi": ("many.py", ["many.py"], LUIGI, 300),
    "snakemake": ("Snakefile", ["-m", "snakemake", "-j2", "-q"], SNAKEMAKE, 100),
    "dagster": ("many.py", ["many.py"], DAGSTER, 300),
    "prefect": ("many.py", ["many.py"], PREFECT, 1000),
    "kfp": ("many.py", ["many.py"], KFP, 20),
}


def timed(peer, count):
    file, arguments, text, _ = PEERS[peer]
    with tempfile.TemporaryDirectory(dir=".") as directory:
        (Path(directory) / file).write_text(text.format(n=count))
        environment = {**os.environ, "DAGSTER_DISABLE_TELEMETRY": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                       "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
                       "HOME": str(Path(directory).resolve())}
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=directory, env=environment, check=True, timeout=300,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - start


def main():
    found = {}
    for peer, (*_, count) in PEERS.items():
        if importlib.util.find_spec(peer) is None:
            continue
        try:
            few = count // 10
            found[peer] = (timed(peer, count) - timed(peer, few)) / (count - few)
        except (subprocess.SubprocessError, OSError) as error:
            print(f"{peer} could not be measured: {error}", file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
