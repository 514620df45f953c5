// Package oippb holds the generated messages and stubs of the Open Inference
// Protocol's gRPC service, with Triton's extensions.
//
// The .proto files beside it are the source; go generate makes the Go code from
// them, and tools/protobuf.sh says what it needs. Names, field numbers and enum values are a
// contract with existing clients: add, never renumber.
//
// The server itself does not use the generated types for ModelInfer and
// ModelStreamInfer, whose messages it reads and writes in place (see package
// oipgrpc); its tests check that both forms agree.
package oippb

//go:generate ../../../../tools/protobuf.sh .. oippb/model_config.proto oippb/inference_service.proto
