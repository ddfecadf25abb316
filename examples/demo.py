"""Runs the penguins in four ways: in a notebook, on the command line, as a pipeline, and as a replayed bundle.

Each way starts with its own empty store, so that nothing is cached. Prints a table with each output's digest from all
four. Then verifies the pipeline's records on the Pulley interpreter, which stands in for another processor. Any
difference is an error.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
LOCKSTEP = ROOT / "target/debug/lockstep"
WORK = ROOT / "target/demo"
EXAMPLE = ROOT / "examples/penguins"
RUN_TYPE = "application/vnd.lockstep.run+json"

# step: (inputs, parameters); an input is a file or an output of an earlier step
STEPS = {
    "clean": ({"raw": "penguins.csv"}, {}),
    "split": ({"rows": "clean.rows"}, {"fraction": 0.25}),
    "train": ({"rows": "split.train"}, {"trees": 100}),
    "score": ({"model": "train.model", "rows": "split.test"}, {}),
    "plot": ({"model": "train.model", "rows": "split.test"}, {}),
}


def say(text):
    print(f"\033[2m{text}\033[0m" if sys.stdout.isatty() else text, flush=True)


def lockstep(store, *arguments, capture=True):
    """Runs the command with the given store. Returns its JSON output."""
    command = [LOCKSTEP, *arguments, "--store", WORK / store]
    done = subprocess.run(command, cwd=EXAMPLE, stdout=subprocess.PIPE if capture else None)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\nfailed with exit code {done.returncode}")
    return json.loads(done.stdout) if capture else None


def by_notebook():
    """Runs penguins.ipynb in the installed kernel with nbclient. Returns the digests of its `:run` cells."""
    prefix = WORK / "prefix"
    lockstep("notebook", "kernel", "install", "--quiet", "--prefix", prefix, "--name", "lockstep-demo", capture=False)
    os.environ["JUPYTER_PATH"] = str(prefix / "share/jupyter")
    os.environ["LOCKSTEP_STORE"] = str(WORK / "notebook")
    assert "lockstep-demo" in KernelSpecManager().find_kernel_specs()
    notebook = nbformat.read(EXAMPLE / "penguins.ipynb", as_version=4)
    client = NotebookClient(
        notebook, kernel_name="lockstep-demo", timeout=600, resources={"metadata": {"path": str(EXAMPLE)}}
    )
    client.execute()
    nbformat.write(notebook, WORK / "penguins.executed.ipynb")
    digests = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            run = output.get("data", {}).get(RUN_TYPE)
            if run:
                step = run["run"]["entry"]["name"]
                for name, artifact in run["outputs"].items():
                    digests[f"{step}.{name}"] = artifact["digest"]
    return digests


def by_steps():
    """Runs the steps one by one with `lockstep run`, passing outputs to the next step by digest."""
    digests = {}
    for step, (inputs, parameters) in STEPS.items():
        arguments = [f"--input={name}={digests.get(source, source)}" for name, source in inputs.items()]
        arguments += [f"--param={name}={value}" for name, value in parameters.items()]
        run = lockstep("steps", "run", f"penguins.wasm#{step}", *arguments, "--json")
        for name, artifact in run["outputs"].items():
            digests[f"{step}.{name}"] = artifact["digest"]
    return digests


def by_pipeline():
    """Runs penguins.yaml."""
    run = lockstep("pipeline", "run", "penguins.yaml", "--json")
    return {
        f"{task['task']}.{name}": artifact["digest"]
        for task in run["tasks"]
        for name, artifact in task["outputs"].items()
    }


def on_pulley():
    """Verifies the records of penguins.yaml on the interpreter. Returns whether each task has the same results."""
    verified = lockstep("pipeline", "verify", "penguins.yaml", "--on", "pulley", "--json")
    return {one["what"]: one["verdict"] == "good" for one in verified["verified"]}


def by_bundle():
    """Replays the pipeline's bundle without network and compiler. Returns the digests of the replay."""
    bundle = WORK / "penguins.tar"
    lockstep("pipeline", "bundle", "create", "penguins.yaml", "-o", bundle, capture=False)
    home = WORK / "nobody"
    home.mkdir()
    unplugged = ["unshare", "--map-root-user", "--net", "--"]
    if shutil.which("unshare") is None or subprocess.run([*unplugged, "true"], stderr=subprocess.DEVNULL).returncode:
        say("can't create a network namespace: replaying the bundle with network access")
        unplugged = []
    # without a PATH there is no rustc
    command = [*unplugged, "env", "-i", f"HOME={home}", LOCKSTEP, "bundle", "replay", bundle, "--json"]
    done = subprocess.run(command, cwd=home, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"bundle replay failed with exit code {done.returncode}")
    compared = json.loads(done.stdout)["compared"]
    return {f"{row['task']}.{row['what']}": row["got"] for row in compared if row["what"] != "(log)"}


def timed(title, way, what="outputs"):
    start = time.monotonic()
    say(f"{title} ...")
    found = way()
    say(f"{title}: {len(found)} {what} in {time.monotonic() - start:.1f} s")
    return found


def main():
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    lockstep("notebook", "toolchain", "install", "--json")  # so that no cell waits for it
    lockstep("steps", "build", ".", "-o", "penguins.wasm", capture=False)
    ways = [
        timed("notebook", by_notebook),
        timed("command line", by_steps),
        timed("pipeline", by_pipeline),
        timed("bundle, replayed", by_bundle),
    ]
    verified = timed("verified on Pulley", on_pulley, "tasks")
    names = sorted(set().union(*ways))
    width = max(map(len, names))
    print(f"\n{'output':{width}}  {'notebook':14}{'command line':14}{'pipeline':14}{'replay':14}{'on Pulley':11}")
    same = bool(names)
    for name in names:
        digests = [way.get(name) for way in ways]
        good = verified.get(name.split(".")[0], False)
        equal = digests[0] is not None and len(set(digests)) == 1 and good
        same &= equal
        shown = "".join(f"{(digest or 'missing').removeprefix('sha256:')[:12]:14}" for digest in digests)
        print(f"{name:{width}}  {shown}{'same' if good else 'different':11}{'✓' if equal else '✗ DIFFERENT'}")

    metrics = lockstep("pipeline", "show", ways[2]["score.metrics"], "--json")
    figure = WORK / "penguins.svg"
    lockstep("pipeline", "show", ways[2]["plot.figure"], "--raw", "-o", str(figure), capture=False)
    print(f"\naccuracy on held-out penguins: {metrics['accuracy']:.4f}")
    print(f"figure: {figure.relative_to(ROOT)}")
    if not same:
        sys.exit("results differ")


if __name__ == "__main__":
    main()
