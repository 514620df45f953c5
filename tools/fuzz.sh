#!/usr/bin/env bash
# Runs every fuzz target for a short while, one after the other:
#
#   tools/fuzz.sh [time each, such as 10s]
set -euo pipefail
cd "$(dirname "$0")/.."

each=${1:-10s}
count=0
while IFS=: read -r file line; do
	target=${line#func }
	target=${target%%(*}
	printf '%s %s\n' "$(dirname "$file")" "$target"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$each" "$(dirname "$file")"
	count=$((count + 1))
done < <(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*\(' . | sort)

if [ "$count" = 0 ]; then
	echo "no fuzz target found: the decoders have some, so the search is broken" >&2
	exit 1
fi
echo "$count fuzz targets, $each each: ok"
