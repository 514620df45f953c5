package rpc

import (
	"context"
	"math"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/encoding"

	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// Config holds the limits and hooks of a server. Every zero field stands for
// its default; no limit can be switched off.
type Config struct {
	// MaxMessageBytes bounds one received message, after decompression. A larger
	// one is refused with RESOURCE_EXHAUSTED before it is read. Default 512 MiB.
	// Answers are bounded only by gRPC itself, at 2 GiB.
	MaxMessageBytes int
	// MaxMessageKey names the setting of MaxMessageBytes in refusals.
	MaxMessageKey string
	// Memory bounds the bytes of all requests that are being received or served;
	// more are refused with UNAVAILABLE. Default 2 GiB.
	Memory *budget.Budget
	// MaxConnections bounds open connections; more wait to be accepted. Default 4096.
	MaxConnections int
	// MaxConcurrentStreams bounds the calls in progress on one connection; the
	// client holds more back. Default 1000.
	MaxConcurrentStreams int
	// MaxHeaderBytes bounds the metadata of a call. Default 64 KiB.
	MaxHeaderBytes int
	// ConnectionTimeout bounds a connection's handshake. Default 10 s.
	ConnectionTimeout time.Duration
	// KeepaliveTime is the silence after which the server pings a client, so
	// that a client that vanished is noticed and its work cancelled; it has
	// KeepaliveTimeout to answer. Defaults 60 s and 20 s.
	KeepaliveTime, KeepaliveTimeout time.Duration
	// MinPingInterval is how often a client may ping before its connection is
	// closed. Default 10 s.
	MinPingInterval time.Duration
	// DrainTimeout bounds a graceful stop; calls still running then are cut.
	// Default 30 s.
	DrainTimeout time.Duration

	// Gate decides who may call what; nil lets everybody call everything.
	Gate *Gate
	// Codec replaces the protobuf codec; nil keeps it.
	Codec encoding.CodecV2
	// Ready says what the health service reports while the server runs; nil
	// means always ready.
	Ready func() bool
	// Reflection offers the service descriptors to tools such as grpcurl.
	Reflection bool
	// Tracer starts a span for each call, as a child of the caller's; nil
	// switches tracing off.
	Tracer trace.Tracer
	// Observers hear of each call when it has ended.
	Observers []Observer
	// NewID makes the id of a call that brought none. Default: random UUIDs.
	NewID func() string
}

// withDefaults returns a checked copy with every field set.
func (c Config) withDefaults() (Config, error) {
	for _, f := range []struct {
		name  string
		value *int
		def   int
	}{
		{"MaxMessageBytes", &c.MaxMessageBytes, 512 << 20},
		{"MaxConnections", &c.MaxConnections, 4096},
		{"MaxConcurrentStreams", &c.MaxConcurrentStreams, 1000},
		{"MaxHeaderBytes", &c.MaxHeaderBytes, 64 << 10},
	} {
		if *f.value == 0 {
			*f.value = f.def
		}
		if *f.value < 1 || *f.value > math.MaxInt32 {
			return c, fault.New(fault.Invalid, "rpc: %s is %d; expected 1 to %d", f.name, *f.value, math.MaxInt32)
		}
	}
	for _, f := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"ConnectionTimeout", &c.ConnectionTimeout, 10 * time.Second},
		{"KeepaliveTime", &c.KeepaliveTime, time.Minute},
		{"KeepaliveTimeout", &c.KeepaliveTimeout, 20 * time.Second},
		{"MinPingInterval", &c.MinPingInterval, 10 * time.Second},
		{"DrainTimeout", &c.DrainTimeout, 30 * time.Second},
	} {
		if *f.value == 0 {
			*f.value = f.def
		}
		if *f.value < 0 {
			return c, fault.New(fault.Invalid, "rpc: %s is %s; expected a positive duration", f.name, *f.value)
		}
	}
	if c.MaxMessageKey == "" {
		c.MaxMessageKey = "the server's limit"
	}
	if c.Memory == nil {
		c.Memory = budget.New(2<<30, "the server's memory limit")
	}
	if c.Ready == nil {
		c.Ready = func() bool { return true }
	}
	if c.NewID == nil {
		c.NewID = uuid.NewString
	}
	var err error
	c.Gate, err = c.Gate.resolve()
	return c, err
}

// Observer hears of a call that has ended, in the call's own goroutine and
// before the client has its status: it must be quick.
type Observer func(ctx context.Context, call Call)
