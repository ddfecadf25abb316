#!/usr/bin/env python3
"""Writes an image as an OCI archive, which docker, podman, ctr, kind and minikube can load. Needs no container engine or registry. The same files
give the same digest: all times in layers are SOURCE_DATE_EPOCH (default 0). Images with equal layers share them."""

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
# of zlib: several times faster than the highest, and 5 % larger
LEVEL = 3


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def entry(name, kind=tarfile.DIRTYPE, mode=0o755, size=0, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname, info.mtime = kind, mode, size, link, EPOCH
    return info


def tar(written):
    return tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT)


def found(source, destination):
    """Yields pairs of SOURCE and DESTINATION for a file, or for all files in a directory. Keeps symbolic links."""
    if not os.path.isdir(source) or os.path.islink(source):
        yield source, destination.strip("/")
        return
    for name in os.listdir(source):
        yield from found(f"{source}/{name}", f"{destination}/{name}")


def entries(files):
    """Returns entries with their source files, directories before their contents. Each of `files` is SOURCE=DESTINATION, a file or a directory."""
    entries = {name: (entry(name, mode=mode), None) for name, mode in DIRECTORIES.items()}
    for source, destination in (pair for file in files for pair in found(*file.split("=", 1))):
        parents = destination.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            directory = "/".join(parents[:depth])
            entries.setdefault(directory, (entry(directory), None))
        if os.path.islink(source):
            entries[destination] = entry(destination, tarfile.SYMTYPE, 0o777, link=os.readlink(source)), None
        else:
            mode = 0o755 if os.access(source, os.X_OK) else 0o644
            entries[destination] = entry(destination, tarfile.REGTYPE, mode, os.path.getsize(source)), source
    return [entries[name] for name in sorted(entries)]


def shared(entries):
    """Replaces further hard links of the same file by links. Crates that several preludes share are hard links."""
    first = {}
    for info, source in entries:
        if source and (name := first.setdefault(os.stat(source)[1:3], info.name)) != info.name:
            info, source = entry(info.name, tarfile.LNKTYPE, info.mode, link=name), None
        yield info, source


class Layer:
    """A layer. Compresses files while reading them, to save memory. Has the compressed bytes, and the digest of the uncompressed ones."""

    def __init__(self, files):
        self.hasher, self.size, packed = hashlib.sha256(), 0, io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=LEVEL, mtime=0) as self.packer, tar(self) as archive:
            for info, source in shared(entries(files)):
                with open(source or os.devnull, "rb") as opened:
                    archive.addfile(info, opened)
        self.digest, self.packed = f"sha256:{self.hasher.hexdigest()}", packed.getvalue()

    def write(self, data):
        self.hasher.update(data)
        self.size += len(data)
        return self.packer.write(data)

    def tell(self):
        return self.size


def archive(options):
    layers = [Layer(files) for files in options.layer]
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
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
            "history": [{"created": created, "created_by": "deploy/images/archive.py"}] * len(layers),
        }
    )
    blobs = [config] + [layer.packed for layer in layers]

    def descriptor(kind, data):
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(data), "size": len(data)}

    manifest = canonical(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", config),
            "layers": [descriptor("layer.v1.tar+gzip", layer.packed) for layer in layers],
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
    with open(options.archive, "wb") as written, tar(written) as archive:
        for directory in ["blobs", "blobs/sha256"]:
            archive.addfile(entry(directory))
        for name, data in sorted(named.items()):
            archive.addfile(entry(name, tarfile.REGTYPE, 0o644, len(data)), io.BytesIO(data))
    packed, size = (sum(sizes) / 1e6 for sizes in zip(*((len(layer.packed), layer.size) for layer in layers)))
    print(f"{options.name}@{digest(manifest)}  {packed:.1f} MB, {size:.1f} MB unpacked")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive")
    parser.add_argument(
        "--layer", action="append", nargs="+", required=True, metavar="SOURCE=DESTINATION", help="files and directories of a layer; the lowest layer first"
    )
    parser.add_argument("--name", required=True, help="REPOSITORY:TAG")
    parser.add_argument("--entrypoint", required=True)
    parser.add_argument("--command", default="", metavar="ARGUMENTS", help="separated by spaces")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--architecture", default="amd64")
    archive(parser.parse_args())


main()
