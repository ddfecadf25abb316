"""A script for CPython compiled to WASI: writes down what an interpreter takes from its surroundings."""

import json
import os
import random
import sys
import time
import uuid

seen = {
    "argv": sys.argv,
    "environment": dict(os.environ),
    "set": list({f"word {i}" for i in range(50)}),
    "hash": hash("a text"),
    "random": [random.random(), os.urandom(4).hex(), str(uuid.uuid4())],
    "time": [time.time(), time.monotonic()],
    "id": id(object()),
    "root": sorted(os.listdir("/")),
    "text": open("/data/text").read(),
    "float": sum(x**0.5 for x in range(1000)),
}
time.sleep(3600)
seen["slept"] = time.time()
with open("/out/made", "w") as made:
    json.dump(seen, made, sort_keys=True, indent=1)
print(seen["text"].upper(), end="")
