package deliver

import (
	"context"
	"errors"
	"time"

	"sluice/internal/platform/pause"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/webhook"
)

const (
	stream     = "EVENTS"
	wave       = 1024 // events that are matched together, at most
	busy       = 32   // so many at once, and the next are left to gather for
	gather     = 25 * time.Millisecond
	many       = 64 // or, behind so many, for
	gatherLong = 100 * time.Millisecond
	kept       = time.Second     // how often the position is: a crash has that much matched again
	check      = 5 * time.Second // how often it is looked whether the stream is the same
	keepTime   = 5 * time.Second // for the position, at the end
)

// match makes deliveries of events, whenever no other process does, until ctx ends:
// in one process, so that those of a subject are made in its order.
func (s *Service) match(ctx context.Context) error {
	for ctx.Err() == nil {
		lease, err := s.store.Acquire(ctx, "webhook-matcher", s.cfg.Owner, s.cfg.Lease)
		if err == nil {
			err = lease.Hold(ctx, s.cfg.Lease, s.track)
		}
		if err != nil && !errors.Is(err, repo.ErrLeased) && ctx.Err() == nil {
			s.cfg.Log.WarnContext(ctx, "events wait to be matched with webhooks", "error", err)
		}
		pause.For(ctx, s.cfg.Lease/3)
	}
	return nil
}

// track matches what the stream has behind the position, and what comes, until ctx
// ends, something fails or the stream is another one. What was matched since the
// position was kept is matched again, which makes nothing twice.
func (s *Service) track(ctx context.Context) (err error) {
	at, err := s.position(ctx)
	if err != nil {
		return err
	}
	ctx, stop := pause.Beat(ctx, check, s.same(at.Epoch))
	messages := make(chan queue.Message, wave)
	failed := make(chan error, 1)
	go func() {
		defer close(messages)
		failed <- s.read(ctx, at.Next, messages)
	}()
	defer func() {
		stop()
		for range messages { // the reader ends with ctx
		}
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTime)
		defer cancel()
		err = errors.Join(err, <-failed, at.Keep(ending, s.store))
	}()
	last, behind := s.store.Now(), false
	for open := true; open; {
		var group []queue.Message
		if group, open = take(messages, behind); len(group) > 0 {
			if err := s.matchAll(ctx, group); err != nil {
				return err
			}
			at.Next, behind = group[len(group)-1].Sequence+1, true
		}
		if now := s.store.Now(); behind && now.Sub(last) >= kept {
			if err := at.Keep(ctx, s.store); err != nil {
				return err
			}
			last, behind = now, false
		}
		pause.For(ctx, gathering(len(group)))
	}
	return nil
}

// gathering is how long the next are left to gather behind so many: not at all behind few,
// and behind a whole wave, which has others behind it.
func gathering(n int) time.Duration {
	switch {
	case n < busy || n >= wave:
		return 0
	case n < many:
		return gather
	}
	return gatherLong
}

// position returns where to go on in the stream that is there. One that was made
// again has what the relay has sent again, so it is read from its beginning; what
// is matched twice has its delivery, which outlives the event.
func (s *Service) position(ctx context.Context) (webhook.Position, error) {
	at, err := webhook.Matched(ctx, s.store)
	if err != nil {
		return at, err
	}
	epoch, err := s.epoch(ctx)
	if err != nil {
		return at, err
	}
	bounds, err := s.queue.Bounds(ctx, stream)
	switch {
	case err != nil:
		return at, err
	case at.Epoch != epoch:
		at = webhook.Position{Epoch: epoch, Next: bounds.First}
	case at.Next > bounds.Last+1: // its end was lost, and comes again
		at.Next = bounds.Last + 1
	case at.Next < bounds.First:
		s.cfg.Log.ErrorContext(ctx, "events went out of their stream before they were matched with webhooks", "first", at.Next, "last", bounds.First-1)
		at.Next = bounds.First
	}
	return at, nil
}

var errAnother = errors.New("the stream of events was made again, or cut")

// same returns what fails once the stream is another one, or its end is gone: a
// reader would wait there for ever.
func (s *Service) same(epoch string) func(context.Context) error {
	last := uint64(0)
	return func(ctx context.Context) error {
		now, err := s.epoch(ctx)
		if err != nil {
			return nil //nolint:nilerr // it cannot be asked now; the reader tells what is wrong
		}
		bounds, err := s.queue.Bounds(ctx, stream)
		if err != nil {
			return nil //nolint:nilerr // the same
		}
		if now != epoch || bounds.Last < last {
			return errAnother
		}
		last = bounds.Last
		return nil
	}
}

// read hands on what the stream has from a sequence on, until ctx ends.
func (s *Service) read(ctx context.Context, from uint64, messages chan<- queue.Message) error {
	for m, err := range s.queue.Read(ctx, queue.Read{Stream: stream, From: from, Follow: true}) {
		if err != nil {
			return err
		}
		select {
		case messages <- m:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// take returns what has come. Where the position is behind, it waits no longer than
// until that has to be kept. It is not open at the end.
func take(messages <-chan queue.Message, behind bool) (group []queue.Message, open bool) {
	var over <-chan time.Time
	if behind {
		t := time.NewTimer(kept)
		defer t.Stop()
		over = t.C
	}
	select {
	case m, open := <-messages:
		if !open {
			return nil, false
		}
		group = append(group, m)
	case <-over:
		return nil, true
	}
	for len(group) < wave {
		select {
		case m, open := <-messages:
			if !open {
				return group, false
			}
			group = append(group, m)
		default:
			return group, true
		}
	}
	return group, true
}
