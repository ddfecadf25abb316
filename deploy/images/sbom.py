#!/usr/bin/env python3
"""Writes a CycloneDX SBOM of the command: the crates that cargo resolves for Linux, without dev-dependencies.
usage: sbom.py > lockstep.cdx.json"""

import json
import subprocess
import sys
import tomllib

ROOT = "lockstep-host"
PLATFORM = "x86_64-unknown-linux-gnu"


def needed(graph, root):
    """Returns the packages that `root` links, with the dependencies of each."""
    found, open_ = {}, [root]
    while open_:
        package = open_.pop()
        if package in found:
            continue
        linked = (dep["pkg"] for dep in graph[package]["deps"] if any(kind["kind"] != "dev" for kind in dep["dep_kinds"]))
        found[package] = sorted(linked)
        open_.extend(found[package])
    return found


def component(package, checksums):
    name, version = package["name"], package["version"]
    described = {
        "type": "library",
        "bom-ref": f"pkg:cargo/{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:cargo/{name}@{version}",
    }
    if package["license"]:
        # the old syntax for OR
        described["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum := checksums.get((name, version)):
        described["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return described


def main():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", PLATFORM]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    with open(f"{metadata['workspace_root']}/Cargo.lock", "rb") as lock:
        packages = tomllib.load(lock)["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in packages}
    packages = {package["id"]: package for package in metadata["packages"]}
    root = next(id for id in metadata["workspace_members"] if packages[id]["name"] == ROOT)
    found = needed({node["id"]: node for node in metadata["resolve"]["nodes"]}, root)
    components = {id: component(packages[id], checksums) for id in sorted(found)}
    of = lambda id: components[id]["bom-ref"]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": components[root] | {"type": "application", "name": "lockstep"}},
        "components": [component for id, component in components.items() if id != root],
        "dependencies": [{"ref": of(id), "dependsOn": [of(need) for need in needs]} for id, needs in found.items()],
    }
    bill["dependencies"].sort(key=lambda dependency: dependency["ref"])
    json.dump(bill, sys.stdout, indent=1)


main()
