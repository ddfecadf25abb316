"""Writes tables as others write them to the directory argv[1], and says on stdout, as JSON, what each contains:
{file: {column: [text or null, ...]}}."""

import datetime
import decimal
import json
import pathlib
import sys
import zoneinfo

import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

out = pathlib.Path(sys.argv[1])
files = {}


def expect(name, columns):
    files[name] = columns
    return out / name


# the same numbers and texts with every compression
plain = pa.table({"n": pa.array([1, None, 3], pa.int64()), "text": ["Grüße", "", None], "x": [0.1, -0.0, None]})
texts = {"n": ["1", None, "3"], "text": ["Grüße", "", None], "x": ["0.1", "-0.0", None]}
many = pa.table({"n": list(range(20_000)), "text": [f"row {i}" for i in range(20_000)]})
many_texts = {"n": [str(i) for i in range(20_000)], "text": [f"row {i}" for i in range(20_000)]}
for codec in ["none", "snappy", "gzip", "brotli", "lz4", "zstd"]:
    pyarrow.parquet.write_table(plain, expect(f"{codec}.parquet", texts), compression=codec)
    pyarrow.parquet.write_table(many, expect(f"many-{codec}.parquet", many_texts), compression=codec, row_group_size=7_000)
for codec in ["uncompressed", "lz4", "zstd"]:
    pyarrow.feather.write_feather(many, str(expect(f"{codec}.feather", many_texts)), compression=codec)
for codec in [None, "lz4"]:
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_stream(expect(f"{codec}.arrows", many_texts), many.schema, options=options) as stream:
        stream.write_table(many, max_chunksize=3_000)
pyarrow.parquet.write_table(
    plain, expect("delta.parquet", texts), use_dictionary=False, column_encoding={"n": "DELTA_BINARY_PACKED", "text": "DELTA_BYTE_ARRAY"}
)
pyarrow.parquet.write_table(plain, expect("v1.parquet", texts), version="1.0", data_page_version="2.0")

# types
berlin = zoneinfo.ZoneInfo("Europe/Berlin")
summer = datetime.datetime(2013, 7, 1, 12, 30, tzinfo=berlin)
winter = datetime.datetime(2013, 1, 1, 12, 30, tzinfo=berlin)
big = decimal.Decimal("12345678901234567890.1234")
kinds = {
    "zone": (pa.array([summer, winter, None], pa.timestamp("us", "Europe/Berlin")), ["2013-07-01T12:30:00+02:00", "2013-01-01T12:30:00+01:00", None]),
    "utc": (pa.array([summer, winter, None], pa.timestamp("ms", "UTC")), ["2013-07-01T10:30:00Z", "2013-01-01T11:30:00Z", None]),
    "offset": (pa.array([summer, winter, None], pa.timestamp("ms", "+02:00")), ["2013-07-01T12:30:00+02:00", "2013-01-01T13:30:00+02:00", None]),
    "dictionary": (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
    "decimal128": (pa.array([big, -big, None], pa.decimal128(24, 4)), ["12345678901234567890.1234", "-12345678901234567890.1234", None]),
    "decimal256": (pa.array([big, -big, None], pa.decimal256(60, 4)), ["12345678901234567890.1234", "-12345678901234567890.1234", None]),
    "large": (pa.array(["ä", None, "c"], pa.large_string()), ["ä", None, "c"]),
    "view": (pa.array(["a text of more than twelve bytes", None, "c"], pa.string_view()), ["a text of more than twelve bytes", None, "c"]),
    "binary": (pa.array([b"\x00\xff", None, b""], pa.binary()), ["00ff", None, ""]),
    "binary_view": (pa.array([b"\x00\xff", None, b""], pa.binary_view()), ["00ff", None, ""]),
    "fixed": (pa.array([b"ab", None, b"cd"], pa.binary(2)), ["6162", None, "6364"]),
    "list": (pa.array([[1, None], [], None], pa.list_(pa.int32())), ["[1, ]", "[]", None]),
    "struct": (pa.array([{"a": 1, "b": "x"}, {"a": None, "b": "y"}, None], pa.struct({"a": pa.int8(), "b": pa.string()})), ["{a: 1, b: x}", "{a: , b: y}", None]),
    "map": (pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())), ["{k: 1}", "{}", None]),
    "null": (pa.nulls(3), [None, None, None]),
    "duration": (pa.array([datetime.timedelta(seconds=90), None, datetime.timedelta(0)], pa.duration("us")), ["PT90S", None, "P0D"]),
    "date": (pa.array([datetime.date(1969, 12, 31), None, datetime.date(2024, 2, 29)], pa.date32()), ["1969-12-31", None, "2024-02-29"]),
    "time": (pa.array([datetime.time(1, 2, 3, 4), None, datetime.time(0)], pa.time64("us")), ["01:02:03.000004", None, "00:00:00"]),
    "nanoseconds": (pa.array([1, None, -1], pa.timestamp("ns")), ["1970-01-01T00:00:00.000000001", None, "1969-12-31T23:59:59.999999999"]),
    "half": (pa.array([1.5, None, -2.0], pa.float16()), ["1.5", None, "-2"]),
    "u64": (pa.array([2**64 - 1, None, 0], pa.uint64()), [str(2**64 - 1), None, "0"]),
    "interval": (pa.array([pa.MonthDayNano([14, 3, 1_500_000_000]), None, pa.MonthDayNano([0, 0, 0])]), ["14 mons 3 days 1.500000000 secs", None, "0 secs"]),
}
no_parquet = {"interval", "null"}
typed = pa.table({name: array for name, (array, _) in kinds.items()})
typed_texts = {name: texts for name, (_, texts) in kinds.items()}
pyarrow.feather.write_feather(typed, str(expect("types.feather", typed_texts)), compression="zstd")
with pa.ipc.new_stream(expect("types.arrows", typed_texts), typed.schema) as stream:
    stream.write_table(typed)
kept = [name for name in kinds if name not in no_parquet]
pyarrow.parquet.write_table(typed.select(kept), expect("types.parquet", {name: typed_texts[name] for name in kept}), compression="zstd")

# nested Parquet
nested = pa.table({"deep": pa.array([[{"a": [1, 2]}, {"a": None}], None, []], pa.list_(pa.struct({"a": pa.list_(pa.int64())})))})
pyarrow.parquet.write_table(nested, expect("nested.parquet", {"deep": ["[{a: [1, 2]}, {a: }]", None, "[]"]}))

# other programs
frame = polars.DataFrame({"n": [1, None, 3], "text": ["Grüße", "", None], "c": ["x", "y", "x"]}, schema_overrides={"c": polars.Categorical})
frame_texts = {"n": ["1", None, "3"], "text": ["Grüße", "", None], "c": ["x", "y", "x"]}
frame.write_parquet(expect("polars.parquet", frame_texts))
frame.write_ipc(expect("polars.arrow", frame_texts), compression="zstd")
frame.write_ipc_stream(expect("polars.arrows", frame_texts), compression="lz4")
data = pandas.DataFrame({"n": [1, 2], "text": ["a", None], "day": pandas.to_datetime(["2013-01-01", None]).astype("datetime64[ns]")})
data_texts = {"n": ["1", "2"], "text": ["a", None], "day": ["2013-01-01T00:00:00", None]}
data.to_parquet(expect("pandas.parquet", data_texts))
data.to_feather(expect("pandas.feather", data_texts))
for codec in ["snappy", "zstd", "gzip", "lz4_raw", "brotli"]:
    path = expect(f"duckdb-{codec}.parquet", {"n": ["1", "2"], "price": ["1.10", "2.50"], "tags": ["[a, b]", "[]"]})
    duckdb.sql(
        f"copy (select * from (values (1, 1.10::decimal(6, 2), ['a', 'b']), (2, 2.50, [])) t(n, price, tags)) to '{path}' (format parquet, compression {codec})"
    )

json.dump(files, sys.stdout)
