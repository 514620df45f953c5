package natsqueue

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/internal/platform/fault"
)

// Codes of JetStream's errors that the client library has no name for.
const (
	errInsufficient    = 10023 // the account's store is full
	errNoPeers         = 10005 // too few servers are up, or none has room
	errNameInUse       = 10013
	errStorageExceeded = 10047
	errConfigConflict  = 10058
	errSubjectOverlap  = 10065
	errStoreFailed     = 10077 // a limit of the stream, or the disk
	errWorkUnfiltered  = 10099
	errWorkOverlap     = 10100
	errConsumerExists  = 10148
	errStreamUpdate    = 10052
)

// translate classifies what NATS returns. It is the only place that does.
func translate(err error) error {
	if err == nil {
		return nil
	}
	if _, done := errors.AsType[*fault.Error](err); done {
		return err
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return translateAPI(api)
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fault.Of(err)
	case errors.Is(err, nats.ErrMaxPayload):
		return tooLarge(err)
	case errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) && strings.Contains(err.Error(), "no message found"):
		return noMessage(err) // the library keeps the server's answer as text only
	case errors.Is(err, jetstream.ErrTooManyStalledMsgs):
		return full(err)
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return fault.Wrap(fault.Unavailable, err, "no stream takes the subject, or its cluster has no leader just now").WithCode("queue_unavailable").WithRetryAfter(time.Second)
	}
	return disconnected(err)
}

func translateAPI(err *jetstream.APIError) error {
	switch err.ErrorCode {
	case errInsufficient, errStorageExceeded:
		return full(err)
	case errNoPeers:
		if strings.Contains(err.Description, "insufficient") {
			return full(err)
		}
		return disconnected(err)
	case errStoreFailed:
		if strings.Contains(err.Description, "exceeded") || strings.Contains(err.Description, "no space") {
			return full(err)
		}
	case jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return tooLarge(err)
	case jetstream.JSErrCodeStreamNotFound:
		return fault.Wrap(fault.NotFound, err, "there is no such stream").WithCode("stream_not_found")
	case jetstream.JSErrCodeMessageNotFound:
		return noMessage(err)
	case errNameInUse, errConfigConflict, errSubjectOverlap, errWorkUnfiltered, errWorkOverlap, errConsumerExists, errStreamUpdate:
		return fault.Wrap(fault.Conflict, err, "the stream or consumer contradicts one that exists (%s); use another name, or other subjects", err.Description).WithCode("queue_config_conflict")
	}
	if err.Code == 503 || err.Code == 500 || err.Code == 429 {
		return disconnected(err)
	}
	return fault.Wrap(fault.Internal, err, "the queue refused a request").WithCode("queue_refused")
}

func noMessage(cause error) error {
	return fault.Wrap(fault.NotFound, cause, "there is no such message").WithCode("message_not_found")
}

func full(cause error) error {
	return fault.Wrap(fault.Unavailable, cause, "the queue is full; try again when messages were taken off").WithCode("queue_full").WithRetryAfter(time.Second)
}

func unwritable() error {
	return fault.New(fault.Unavailable, "the queue's disk is full or does not work: make room; messages wait in the outbox").WithCode("queue_full").WithRetryAfter(time.Second)
}

func tooLarge(cause error) error {
	return fault.Wrap(fault.TooLarge, cause, "the message is larger than its stream or the queue's server takes").WithCode("message_too_large")
}

func disconnected(cause error) error {
	return fault.Wrap(fault.Unavailable, cause, "the queue cannot be reached just now").WithCode("queue_unavailable").WithRetryAfter(time.Second)
}
