#!/usr/bin/env python3
"""Writes an image of files as an OCI archive, which docker, podman, ctr, kind and minikube load. No engine and no registry is needed, and the
same files give the same digest: layers hold no time but SOURCE_DATE_EPOCH (default 0)."""

import argparse
import gzip
import hashlib
import io
import json
import os
import tarfile
import time

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
DIRECTORIES = {"tmp": 0o1777}


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def entry(name, data=None, mode=0o755):
    info = tarfile.TarInfo(name)
    info.mtime = EPOCH
    info.mode = mode
    if data is None:
        info.type = tarfile.DIRTYPE
    else:
        info.size = len(data)
    return info, data


def tar(entries):
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for info, data in entries:
            archive.addfile(info, None if data is None else io.BytesIO(data))
    return written.getvalue()


def layer(files):
    """Each of `files` is SOURCE=DESTINATION. Directories come before what is in them."""
    entries = {name: entry(name, mode=mode) for name, mode in DIRECTORIES.items()}
    for file in files:
        source, destination = file.split("=", 1)
        destination = destination.lstrip("/")
        parents = destination.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            directory = "/".join(parents[:depth])
            entries.setdefault(directory, entry(directory))
        with open(source, "rb") as opened:
            mode = 0o755 if os.access(source, os.X_OK) else 0o644
            entries[destination] = entry(destination, opened.read(), mode)
    return tar(entries[name] for name in sorted(entries))


def archive(options):
    files = layer(options.file)
    labels = dict(label.split("=", 1) for label in options.label)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH))
    config = canonical(
        {
            "architecture": options.architecture,
            "os": "linux",
            "created": created,
            "config": {
                "Entrypoint": [options.entrypoint],
                "Cmd": options.command.split(),
                "Env": options.env,
                "Labels": labels,
                "User": "65532:65532",
                "WorkingDir": "/tmp",
            },
            "rootfs": {"type": "layers", "diff_ids": [digest(files)]},
            "history": [{"created": created, "created_by": "deploy/images/archive.py"}],
        }
    )
    packed = gzip.compress(files, mtime=0)
    blobs = [packed, config]

    def descriptor(kind, data):
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(data), "size": len(data)}

    manifest = canonical(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", config),
            "layers": [descriptor("layer.v1.tar+gzip", packed)],
            "annotations": labels,
        }
    )
    blobs.append(manifest)
    index = canonical(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [
                descriptor("manifest.v1+json", manifest)
                | {
                    "platform": {"architecture": options.architecture, "os": "linux"},
                    "annotations": {
                        "io.containerd.image.name": options.name,
                        "org.opencontainers.image.ref.name": options.name.rpartition(":")[2],
                    },
                }
            ],
        }
    )
    named = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index}
    named |= {f"blobs/sha256/{digest(blob)[7:]}": blob for blob in blobs}
    directories = [entry("blobs"), entry("blobs/sha256")]
    with open(options.archive, "wb") as written:
        written.write(tar(directories + [entry(name, data, 0o644) for name, data in sorted(named.items())]))
    print(f"{options.name}@{digest(manifest)}  {len(packed) / 1e6:.1f} MB, {len(files) / 1e6:.1f} MB unpacked")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive")
    parser.add_argument("file", nargs="+", help="SOURCE=DESTINATION")
    parser.add_argument("--name", required=True, help="REPOSITORY:TAG")
    parser.add_argument("--entrypoint", required=True)
    parser.add_argument("--command", default="", metavar="ARGUMENTS", help="separated by spaces")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--architecture", default="amd64")
    archive(parser.parse_args())


main()
