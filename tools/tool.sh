#!/usr/bin/env bash
# Prints the path of a pinned developer tool, building it first where it must:
#
#   lint=$(tools/tool.sh golangci golangci-lint)
#
# Each tool is a Go module of its own under tools/, so that its dependencies
# never meet the program's. The binary lies in the user's cache under the
# tool's version and Go's: a linter must be built with the Go it is to read.
set -euo pipefail
cd "$(dirname "$0")/$1"

name=$2
package=$(awk '$1 == "tool" {print $2}' go.mod)
version=$(go list -m -f '{{.Version}}' "$(awk -v p="$package" '$1 == "require" || /^\t/ {m = ($1 == "require") ? $2 : $1; if (index(p, m) == 1 && length(m) > length(best)) best = m} END {print best}' go.mod)")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice/tools
binary=$cache/$name-$version-$(go env GOVERSION | tr ' ' _)

if [ ! -x "$binary" ]; then
	echo "building $name $version (once; some minutes)" >&2
	mkdir -p "$cache"
	go build -trimpath -o "$binary.$$" "$package"
	mv "$binary.$$" "$binary"
fi
echo "$binary"
