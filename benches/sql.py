"""Prints the median seconds in which native DataFusion reads an Arrow stream and aggregates it."""

import statistics
import sys
import time

import datafusion
import pyarrow

QUERY = "select key, avg(value) as mean, count(*) as count from numbers group by key order by key"


def query(path):
    """Runs the query in one partition, as `lockstep:sql` does."""
    context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(1))
    with pyarrow.OSFile(path) as file:
        batches = list(pyarrow.ipc.open_stream(file))
    context.register_record_batches("numbers", [batches])
    return context.sql(QUERY).collect()


def seconds(path):
    """Measures one query."""
    start = time.perf_counter()
    query(path)
    return time.perf_counter() - start


seconds(sys.argv[1])
print(statistics.median(seconds(sys.argv[1]) for _ in range(5)))
