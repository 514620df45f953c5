package rpc

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"sluice/internal/platform/fault"
)

// errorDomain is the ErrorInfo domain of every error that the server words.
const errorDomain = "sluice"

// statusCodes maps each fault kind to its gRPC code. TooLarge is
// INVALID_ARGUMENT, not RESOURCE_EXHAUSTED: clients retry the latter, and the
// same request would stay too large.
var statusCodes = [...]codes.Code{
	fault.Internal:           codes.Internal,
	fault.Invalid:            codes.InvalidArgument,
	fault.NotFound:           codes.NotFound,
	fault.Conflict:           codes.FailedPrecondition,
	fault.Unsupported:        codes.Unimplemented,
	fault.TooLarge:           codes.InvalidArgument,
	fault.Unauthenticated:    codes.Unauthenticated,
	fault.PermissionDenied:   codes.PermissionDenied,
	fault.Exhausted:          codes.ResourceExhausted,
	fault.Unavailable:        codes.Unavailable,
	fault.DeadlineExceeded:   codes.DeadlineExceeded,
	fault.Canceled:           codes.Canceled,
	fault.Unprocessable:      codes.InvalidArgument,
	fault.PreconditionFailed: codes.FailedPrecondition,
	fault.Gone:               codes.NotFound,
}

// Status maps err to the status that the client sees: the kind's code, the
// message without its cause, an ErrorInfo where the error has a code of its own,
// and a RetryInfo where it says when to retry. An error that already is a
// status, as grpc's own are, stays itself; nil is OK.
func Status(err error) *status.Status {
	if err == nil {
		return status.New(codes.OK, "")
	}
	if st, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return st.GRPCStatus()
	}
	e := fault.Of(err)
	code := codes.Internal
	if int(e.Kind) < len(statusCodes) {
		code = statusCodes[e.Kind]
	}
	st := status.New(code, e.Text())
	var details []protoadapt.MessageV1
	if e.Code != "" {
		details = append(details, &errdetails.ErrorInfo{Reason: e.Code, Domain: errorDomain})
	}
	if e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	if len(details) == 0 {
		return st
	}
	detailed, err := st.WithDetails(details...)
	if err != nil { // a detail that does not marshal: the status alone still tells
		return st
	}
	return detailed
}
