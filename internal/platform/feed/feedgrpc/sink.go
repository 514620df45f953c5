package feedgrpc

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed"
	"sluice/internal/platform/feed/feedgrpc/feedpb"
)

// sink writes messages to one client, each within a time.
type sink struct {
	stream  grpc.ServerStreamingServer[feedpb.SubscribeResponse]
	timeout time.Duration
	timer   *time.Timer
	stalled chan struct{} // closed when the client has not taken a message in time
	cursor  atomic.Pointer[feed.Cursor]
}

func newSink(stream grpc.ServerStreamingServer[feedpb.SubscribeResponse], from feed.Cursor, timeout time.Duration) *sink {
	o := &sink{stream: stream, timeout: timeout, stalled: make(chan struct{})}
	o.cursor.Store(&from)
	o.timer = time.AfterFunc(timeout, func() { close(o.stalled) })
	o.timer.Stop()
	return o
}

// last is the cursor of the last message that the transport has taken, and
// delivers before the stream's status.
func (o *sink) last() string { return o.cursor.Load().String() }

func (o *sink) send(m *feedpb.SubscribeResponse) error {
	o.timer.Reset(o.timeout)
	defer o.timer.Stop()
	return o.stream.Send(m)
}

// open tells the client where the replay begins.
func (o *sink) open(s *feed.Subscription) error {
	return o.send(&feedpb.SubscribeResponse{What: &feedpb.SubscribeResponse_Open{
		Open: &feedpb.Open{ReplayedFrom: s.From().String(), Slow: string(s.Policy())},
	}})
}

// Put implements feed.Sink.
func (o *sink) Put(_ context.Context, batch []*feed.Event) error {
	for _, e := range batch {
		m, err := message(e)
		if err == nil {
			err = o.send(m)
		}
		if err != nil {
			return err
		}
		o.cursor.Store(&e.Cursor)
	}
	return nil
}

var ping = &feedpb.SubscribeResponse{What: &feedpb.SubscribeResponse_Ping{Ping: &feedpb.Ping{}}}

// Ping implements feed.Sink.
func (o *sink) Ping(context.Context) error { return o.send(ping) }

// message is an event as the client gets it.
func message(e *feed.Event) (*feedpb.SubscribeResponse, error) {
	at := e.Cursor.String()
	switch e.Type {
	case feed.TypeGap:
		var g feed.Gap
		if err := json.Unmarshal(e.Data, &g); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a gap event cannot be read")
		}
		return &feedpb.SubscribeResponse{What: &feedpb.SubscribeResponse_Gap{Gap: &feedpb.Gap{From: g.From, To: g.To, Reason: g.Reason}}}, nil
	case feed.TypeEnd:
		return &feedpb.SubscribeResponse{What: &feedpb.SubscribeResponse_End{End: &feedpb.End{Cursor: at}}}, nil
	}
	return &feedpb.SubscribeResponse{What: &feedpb.SubscribeResponse_Event{Event: &feedpb.Event{Cursor: at, Type: e.Type, Data: e.Data}}}, nil
}
