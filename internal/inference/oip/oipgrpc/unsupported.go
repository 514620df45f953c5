package oipgrpc

import (
	"context"

	pb "sluice/internal/inference/oip/oippb"
	"sluice/internal/platform/fault"
)

// The methods of extensions that the server does not offer, each refused with
// what to do instead.

var (
	errTrace = fault.New(fault.Unsupported, "trace settings are not supported: traces are configured when the server starts")
	errLog   = fault.New(fault.Unsupported, "log settings are not supported: logging is configured when the server starts")
)

// SystemSharedMemoryStatus is not supported.
func (s *Service) SystemSharedMemoryStatus(context.Context, *pb.SystemSharedMemoryStatusRequest) (*pb.SystemSharedMemoryStatusResponse, error) {
	return nil, errSharedMemory
}

// SystemSharedMemoryRegister is not supported.
func (s *Service) SystemSharedMemoryRegister(context.Context, *pb.SystemSharedMemoryRegisterRequest) (*pb.SystemSharedMemoryRegisterResponse, error) {
	return nil, errSharedMemory
}

// SystemSharedMemoryUnregister is not supported.
func (s *Service) SystemSharedMemoryUnregister(context.Context, *pb.SystemSharedMemoryUnregisterRequest) (*pb.SystemSharedMemoryUnregisterResponse, error) {
	return nil, errSharedMemory
}

// CudaSharedMemoryStatus is not supported.
func (s *Service) CudaSharedMemoryStatus(context.Context, *pb.CudaSharedMemoryStatusRequest) (*pb.CudaSharedMemoryStatusResponse, error) {
	return nil, errSharedMemory
}

// CudaSharedMemoryRegister is not supported.
func (s *Service) CudaSharedMemoryRegister(context.Context, *pb.CudaSharedMemoryRegisterRequest) (*pb.CudaSharedMemoryRegisterResponse, error) {
	return nil, errSharedMemory
}

// CudaSharedMemoryUnregister is not supported.
func (s *Service) CudaSharedMemoryUnregister(context.Context, *pb.CudaSharedMemoryUnregisterRequest) (*pb.CudaSharedMemoryUnregisterResponse, error) {
	return nil, errSharedMemory
}

// TraceSetting is not supported.
func (s *Service) TraceSetting(context.Context, *pb.TraceSettingRequest) (*pb.TraceSettingResponse, error) {
	return nil, errTrace
}

// LogSettings is not supported.
func (s *Service) LogSettings(context.Context, *pb.LogSettingsRequest) (*pb.LogSettingsResponse, error) {
	return nil, errLog
}
