#!/usr/bin/env bash
# Checks that this machine has what the given parts of the build need, and
# names the command that installs what it lacks:
#
#   tools/doctor.sh [go] [cc] [python]      (no argument: everything)
set -euo pipefail
cd "$(dirname "$0")/.."

missing=0

# lacks WHAT DEBIAN-COMMAND MACOS-COMMAND
lacks() {
	local how=$2
	[ "$(uname -s)" = Darwin ] && how=$3
	printf 'missing: %s\n  install it with: %s\n' "$1" "$how" >&2
	missing=1
}

check_go() {
	local want have
	want=$(awk '$1 == "go" {print $2}' go.mod)
	if ! command -v go >/dev/null; then
		lacks "Go $want or newer" "the archive or package that the Go project publishes for this system" "brew install go"
		return
	fi
	have=$(GOTOOLCHAIN=local go env GOVERSION)
	have=${have#go}
	have=${have%%[- ]*}
	if [ "$(printf '%s\n%s\n' "$want" "$have" | sort -t. -k1,1n -k2,2n -k3,3n | head -n1)" != "$want" ]; then
		lacks "Go $want or newer (found $have)" "the archive or package that the Go project publishes for this system" "brew upgrade go"
	fi
}

check_cc() {
	local cc
	cc=$(go env CC 2>/dev/null || echo gcc)
	if ! command -v "${cc%% *}" >/dev/null; then
		lacks "a C compiler ($cc), for the binding to ONNX Runtime" "apt-get install gcc libc6-dev" "xcode-select --install"
	fi
	if [ "$(go env CGO_ENABLED 2>/dev/null || echo 1)" = 0 ] && command -v "${cc%% *}" >/dev/null; then
		printf 'missing: cgo is switched off\n  switch it on with: go env -w CGO_ENABLED=1 (or unset CGO_ENABLED)\n' >&2
		missing=1
	fi
}

check_python() {
	if ! command -v python3 >/dev/null; then
		lacks "Python 3" "apt-get install python3 python3-venv python3-pip" "brew install python"
	elif ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
		lacks "Python's venv" "apt-get install python3-venv" "brew install python"
	fi
}

for part in "${@:-go cc python}"; do
	for p in $part; do "check_$p"; done
done
exit $missing
