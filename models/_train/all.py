"""Regenerates every model of this directory: python models/_train/all.py"""

import importlib
import sys
import time

sys.dont_write_bytecode = True  # keeps __pycache__ out of the model repository

import common  # noqa: E402

for name in ["identity", "iris", "diabetes", "topic", "digits", "encoder", "writer"]:
    start = time.monotonic()
    importlib.import_module(name).main()
    print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
common.write_checksums()
