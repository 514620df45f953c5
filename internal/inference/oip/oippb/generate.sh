#!/bin/sh
# Regenerates the Go code of this package from its .proto files.
#
# Needs protoc (Debian: apt-get install protobuf-compiler; macOS: brew install
# protobuf) and Go. The plugins are built at the versions below into a temporary
# folder; go.mod is not touched. Run it from anywhere.
set -eu

PROTOC_GEN_GO=google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
PROTOC_GEN_GO_GRPC=google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

command -v protoc >/dev/null || {
	echo "protoc is missing: apt-get install protobuf-compiler (Debian), brew install protobuf (macOS)" >&2
	exit 1
}

cd "$(dirname "$0")/.."
plugins=$(mktemp -d)
trap 'rm -rf "$plugins"' EXIT
GOBIN="$plugins" GOFLAGS= go install "$PROTOC_GEN_GO"
GOBIN="$plugins" GOFLAGS= go install "$PROTOC_GEN_GO_GRPC"

PATH="$plugins:$PATH" protoc -I . \
	--go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative \
	oippb/model_config.proto oippb/inference_service.proto
# protoc's own version is the host's affair: leave it out of the result.
sed -i.bak -E '/^\/\/ (- )?protoc +v/d; /^\/\/ \tprotoc +v/d' oippb/*.pb.go
rm -f oippb/*.pb.go.bak
gofmt -w oippb/*.pb.go
