// Package feedpb holds the generated messages and stubs of the gRPC service for
// feeds.
//
// The .proto file beside it is the source; go generate makes the Go code from it,
// and tools/protobuf.sh says what it needs. Names and field numbers are a contract
// with clients: add, never renumber.
package feedpb

//go:generate ../../../../../tools/protobuf.sh .. feedpb/feed.proto
