package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/internal/platform/fault"
)

// Sink takes what a subscription has for its client, over one transport. Its
// errors say that the client is gone, or took nothing for too long.
type Sink interface {
	Put(ctx context.Context, batch []*Event) error
	Ping(ctx context.Context) error
}

// ErrUnsent ends a subscription whose sink failed: there is nobody left to tell.
var ErrUnsent = errors.New("the client takes nothing")

// Serving is how a subscription is served.
type Serving struct {
	Ping time.Duration // between signs of life on a quiet stream; default 15s
	// Valid asks again, every Recheck, whether the client may go on: its key can be
	// revoked while a stream is open. Nil heeds only when the credential expires.
	Valid   func(context.Context) error
	Recheck time.Duration // default 2s
}

// Serve hands the sink what comes until the stream or the client ends, and
// returns which: an error of Next or of Valid, which the client can be told, or
// one that is ErrUnsent.
func (s *Subscription) Serve(ctx context.Context, out Sink, how Serving) error {
	patience := cmp.Or(how.Ping, 15*time.Second)
	checked := s.hub.cfg.Now()
	for {
		batch, err := s.Next(ctx, patience)
		if now := s.hub.cfg.Now(); err == nil && how.Valid != nil && now.Sub(checked) >= cmp.Or(how.Recheck, 2*time.Second) {
			checked, err = now, refusal(how.Valid(ctx))
		}
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			err = out.Ping(ctx)
		} else {
			err = out.Put(ctx, batch)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnsent, err)
		}
		s.Sent(batch)
	}
}

// refusal returns the error if it is about the credential. A check that fails for
// other reasons ends no stream: it is made again later.
func refusal(err error) error {
	if fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.PermissionDenied) {
		return err
	}
	return nil
}
