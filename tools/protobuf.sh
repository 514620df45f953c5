#!/bin/sh
# Regenerates the Go code of .proto files, beside them:
#
#	protobuf.sh folder file.proto...
#
# The files are named relative to the folder, and so are they in descriptors.
# Needs protoc (Debian: apt-get install protobuf-compiler; macOS: brew install
# protobuf) and Go. The plugins are built at the versions below into a temporary
# folder; go.mod is not touched.
set -eu

PROTOC_GEN_GO=google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
PROTOC_GEN_GO_GRPC=google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

command -v protoc >/dev/null || {
	echo "protoc is missing: apt-get install protobuf-compiler (Debian), brew install protobuf (macOS)" >&2
	exit 1
}

cd "$1"
shift
plugins=$(mktemp -d)
trap 'rm -rf "$plugins"' EXIT
GOBIN="$plugins" GOFLAGS= go install "$PROTOC_GEN_GO"
GOBIN="$plugins" GOFLAGS= go install "$PROTOC_GEN_GO_GRPC"

PATH="$plugins:$PATH" protoc -I . \
	--go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative \
	"$@"
# protoc's own version is the host's affair: leave it out of the result.
for proto; do
	for made in "${proto%.proto}"*.pb.go; do
		sed -i.bak -E '/^\/\/ (- )?protoc +v/d; /^\/\/ \tprotoc +v/d' "$made"
		rm -f "$made.bak"
		gofmt -w "$made"
	done
done
