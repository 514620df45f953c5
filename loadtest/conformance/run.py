"""Starts the server, runs the test modules named (default: all) and, after all
of them, perf_analyzer; then stops the server. The exit status says whether
everything passed."""

import os
import pathlib
import sys
import time
import unittest

import perf
from server import Server

HERE = pathlib.Path(__file__).resolve().parent


def main(names):
    modules = names or sorted(path.stem for path in HERE.glob("test_*.py"))
    started = time.monotonic()
    with Server() as server:
        os.environ["CONFORMANCE_HTTP"] = server.http
        os.environ["CONFORMANCE_GRPC"] = server.grpc
        os.environ["CONFORMANCE_OPS"] = server.ops
        print(f"server ready after {time.monotonic() - started:.1f} s", flush=True)
        suite = unittest.defaultTestLoader.loadTestsFromNames(modules)
        result = unittest.TextTestRunner(verbosity=2).run(suite)
        # An import that fails loads as a failing test; an empty suite does not.
        passed = result.wasSuccessful() and not result.skipped and result.testsRun > len(modules)
        print(f"clients: {result.testsRun} tests, {len(result.failures) + len(result.errors)} failed", flush=True)
        if not names:
            passed = perf.run_all(server) and passed
        if server.process.poll() is not None:
            print(f"the server ended during the tests with status {server.process.returncode}")
            passed = False
        if not passed:
            server.show_log()
    print("conformance:", "ok" if passed else "FAILED")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    sys.exit(main(sys.argv[1:]))
