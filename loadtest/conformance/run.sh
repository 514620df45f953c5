#!/usr/bin/env bash
# Runs the public clients of the Open Inference Protocol against bin/api:
#
#   loadtest/conformance/run.sh [name of a test module, such as test_wire]...
#
# Without names: all test modules, then perf_analyzer.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=$(tools/venv.sh loadtest/conformance/requirements.txt)
exec "$python" -B loadtest/conformance/run.py "$@"
