"""Checks the output of `lockstep export --to kfp` and `--to argo` with the SDK of Kubeflow Pipelines and the models of Argo.

    kfp_contract.py parses FILE             check both documents against the SDK's messages
    kfp_contract.py compiles OUT FILE...    compile a penguins pipeline from components with the SDK
    kfp_contract.py nests OUT FILE...       compile a pipeline of guests with loops, branches and a nested pipeline with the SDK
    kfp_contract.py texts OUT FILE TEXTS    compile a pipeline that calls a component with each of these texts (JSON) as its parameter `word`
    kfp_contract.py runs FILE ROOT [JSON]   run a pipeline in the SDK's local runner; print the outputs of each task as JSON
    kfp_contract.py argo FILE               check a WorkflowTemplate against Argo's models; print the commands of its pods as JSON

The local runner starts containers with Docker. Here their commands run directly, with LOCKSTEP instead of /lockstep, so that everything except
the container is the SDK's.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import List

import yaml


def parses(file):
    from google.protobuf import json_format
    from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes
    from kfp.pipeline_spec import pipeline_spec_pb2 as ir

    spec, platforms = yaml.safe_load_all(Path(file).read_text())
    parsed = json_format.ParseDict(spec, ir.PipelineSpec())
    assert parsed.schema_version == "2.1.0", parsed.schema_version
    deployment = json_format.ParseDict(spec["deploymentSpec"], ir.PipelineDeploymentConfig())
    for name, executor in deployment.executors.items():
        assert list(executor.container.command) == ["/lockstep"], name
    json_format.ParseDict(platforms, ir.PlatformSpec())
    executors = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert sorted(executors) == sorted(deployment.executors), executors
    for config in executors.values():
        parsed = json_format.ParseDict(config, kubernetes.KubernetesExecutorConfig())
        assert parsed.secret_as_env[0].secret_name_parameter.runtime_value.constant.string_value == "lockstep-store"
    for name, task in spec["root"]["dag"]["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        declared = component.get("inputDefinitions", {})
        given = task.get("inputs", {})
        for kind in ("parameters", "artifacts"):
            unknown = set(given.get(kind, {})) - set(declared.get(kind, {}))
            assert not unknown, (name, kind, unknown)


def compiles(out, *files):
    from kfp import compiler, components, dsl, kubernetes

    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")

    def component(file):
        made = components.load_component_from_file(file)

        def task(**inputs):
            return kubernetes.use_secret_as_env(made(**inputs), "lockstep-store", {key: key for key in keys})

        return task

    clean, split, train, score, plot = (component(file) for file in files)

    @dsl.pipeline(name="penguins")
    def penguins(raw: dsl.Input[dsl.Dataset], fraction: float = 0.25, trees: int = 100, seed: int = 0):
        rows = clean(raw=raw).outputs["rows"]
        parts = split(rows=rows, fraction=fraction, seed=seed)
        model = train(rows=parts.outputs["train"], trees=trees, seed=seed).outputs["model"]
        score(model=model, rows=parts.outputs["test"])
        plot(model=model, rows=parts.outputs["test"])

    compiler.Compiler().compile(penguins, out)


def nests(out, busy, gather):
    from kfp import compiler, components, dsl

    busy = components.load_component_from_file(busy)
    listed = next(yaml.safe_load_all(Path(gather).read_text()))
    for component in (listed["root"], listed["components"]["comp-gather"]):
        component["inputDefinitions"]["artifacts"]["parts"]["isArtifactList"] = True
    gather = components.load_component_from_text(yaml.safe_dump(listed))

    @dsl.pipeline(name="twice")
    def twice(text: dsl.Input[dsl.Artifact], rounds: int = 2) -> dsl.Artifact:
        return busy(text=busy(text=text, rounds=rounds).output, rounds=1).output

    @dsl.pipeline(name="nested")
    def nested(
        words: dsl.Input[dsl.Artifact],
        rounds: List[int] = [3, 4],
        items: List[dict] = [{"rounds": 7, "how": "few"}, {"rounds": 8, "how": "many"}],
        how: str = "few",
        most: int = 2,
    ) -> dsl.Artifact:
        begun = twice(text=words).output
        with dsl.ParallelFor([5, 6]) as one:
            each = busy(text=begun, rounds=one)
        gather(parts=dsl.Collected(each.output))
        with dsl.ParallelFor(items) as item:
            with dsl.If(item.how == how):
                chosen = busy(text=words, rounds=item.rounds)
        gather(parts=dsl.Collected(chosen.output))
        with dsl.ParallelFor(rounds) as outer:
            first = busy(text=words, rounds=outer)
            with dsl.ParallelFor([7, 8]) as inner:
                busy(text=first.output, rounds=inner)
        with dsl.If(how == "few"):
            few = busy(text=words, rounds=10)
        with dsl.Elif(most > 2):
            some = busy(text=words, rounds=11)
        with dsl.Else():
            many = busy(text=words, rounds=12)
        return busy(text=dsl.OneOf(few.output, some.output, many.output), rounds=13).output

    compiler.Compiler().compile(nested, out)


def texts(out, make, given):
    from kfp import compiler, components, dsl

    make = components.load_component_from_file(make)
    given = json.loads(given)

    @dsl.pipeline(name="texts")
    def texts(first: str = given[0], all: List[str] = given):
        make(word=first)
        for text in given:
            make(word=text)
        with dsl.ParallelFor(all) as one:
            make(word=one)
        with dsl.ParallelFor(given) as one:
            make(word=one)

    compiler.Compiler().compile(texts, out)


class Left:
    """Runs containers as local processes, and collects the metadata of each task's outputs."""

    def __init__(self):
        self.tasks = {}

    def run(self, client, image, command, volumes, **options):
        assert command[0] == "/lockstep", command
        surroundings = {**os.environ, **options.get("environment", {})}
        done = subprocess.run([os.environ["LOCKSTEP"], *command[1:]], env=surroundings)
        if done.returncode == 0:
            self.look(json.loads(command[command.index("--executor-input") + 1]))
        return done.returncode

    def look(self, given):
        said = json.loads(Path(given["outputs"]["outputFile"]).read_text())
        assert set(said) == {"parameterValues", "artifacts"}, said
        for name, artifacts in said["artifacts"].items():
            (artifact,) = artifacts["artifacts"]
            path, metadata = Path(artifact["uri"]), artifact["metadata"]
            task = self.tasks.setdefault(path.parent.name, {})
            if path.is_file():
                found = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
                assert metadata["lockstep_digest"] == found, (path, metadata)
            task[name] = metadata


def runs(file, root, arguments="{}"):
    from kfp import components, local
    from kfp.local import docker_task_handler

    left = Left()
    docker_task_handler.run_docker_container = left.run
    docker_task_handler.DockerTaskHandler.get_volumes_to_mount = lambda *_: {}
    sys.modules["docker"].from_env = lambda: type("Client", (), {"close": lambda self: None})()
    store = {name: os.environ[name] for name in ("LOCKSTEP_STORE", "LOCKSTEP_CACHE")}
    local.init(local.DockerRunner(environment=store), pipeline_root=root)
    components.load_component_from_file(file)(**json.loads(arguments))
    print("left: " + json.dumps(left.tasks))


def argo(file):
    from hera.workflows.models import WorkflowTemplate

    written = yaml.safe_load(Path(file).read_text())
    read = WorkflowTemplate.model_validate(written)
    again = json.loads(read.model_dump_json(exclude_none=True, by_alias=True))
    assert again == written, (again, written)
    templates = {template["name"]: template for template in written["spec"]["templates"]}
    pods, ended = [], set()
    for task in templates[written["spec"]["entrypoint"]]["dag"]["tasks"]:
        assert ended.issuperset(task.get("dependencies", [])), task
        ended.add(task["name"])
        args = json.dumps(templates[task["template"]]["container"]["args"])
        for parameter in task["arguments"]["parameters"]:
            args = args.replace("{{inputs.parameters.%s}}" % parameter["name"], parameter["value"])
        pods.append(json.loads(args))
    print("pods: " + json.dumps(pods))


if __name__ == "__main__":
    check, *arguments = sys.argv[1:]
    globals()[check](*arguments)
