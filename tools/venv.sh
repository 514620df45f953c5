#!/usr/bin/env bash
# Prints the Python of a virtual environment that holds exactly the given
# requirements, making it first where it must:
#
#   python=$(tools/venv.sh FILE [package]...)
#
# Named packages are all that is taken of the file. The environment lies in the
# user's cache under a name made of its content, so a change makes a new one,
# and it counts only once it is complete.
set -euo pipefail
cd "$(dirname "$0")/.."

file=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$file" "$work/requirements.txt"
if [ $# -gt 0 ]; then
	for package in "$@"; do
		grep -E "^$package==" "$file"
	done >"$work/requirements.txt"
fi

cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice/venv
venv=$cache/$(python3 - "$work/requirements.txt" <<'PYTHON'
import hashlib, sys
content = open(sys.argv[1], "rb").read()
print("py%d.%d-%s" % (*sys.version_info[:2], hashlib.sha256(content).hexdigest()[:16]))
PYTHON
)

if [ ! -e "$venv/.complete" ]; then
	echo "making a Python environment for $file" >&2
	rm -rf "$venv"
	mkdir -p "$cache"
	python3 -m venv "$venv"
	"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r "$work/requirements.txt" >&2
	touch "$venv/.complete"
fi
echo "$venv/bin/python"
