package memqueue

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// Bounds implements queue.Reader.
func (q *Queue) Bounds(_ context.Context, name string) (queue.Bounds, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s, err := q.stream(name)
	if err != nil {
		return queue.Bounds{}, err
	}
	return s.bounds(), nil
}

// Read implements queue.Reader.
func (q *Queue) Read(ctx context.Context, r queue.Read) iter.Seq2[queue.Message, error] {
	return func(yield func(queue.Message, error) bool) {
		next, started := r.From, false
		for ctx.Err() == nil {
			q.mu.Lock()
			s, err := q.stream(r.Stream)
			if err == nil {
				err = r.Validate()
			}
			if err == nil && (!started || len(r.Filters) == 0) {
				err = s.bounds().Check(r.Stream, next)
			}
			if err != nil {
				q.mu.Unlock()
				yield(queue.Message{}, err)
				return
			}
			started = true
			m, found := s.find(next, r.Filters)
			next = max(next, s.last+1)
			changed := q.changed
			q.mu.Unlock()
			switch {
			case found:
				next = m.Sequence + 1
				if !yield(m, nil) {
					return
				}
			case !r.Follow:
				return
			default:
				wait(ctx, changed, 0)
			}
		}
	}
}

// find returns a copy of the first message from the sequence on that matches.
func (s *stream) find(from uint64, filters []string) (queue.Message, bool) {
	for _, m := range s.from(from) {
		if queue.MatchesAny(filters, m.Subject) {
			m = m.Clone()
			m.Data = bytes.Clone(m.Data)
			return m, true
		}
	}
	return queue.Message{}, false
}

// bury stores a dead letter in place of an earlier one of the same ID.
func (q *Queue) bury(_ context.Context, d queue.DeadLetter) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s, err := q.stream(d.Stream)
	if err != nil {
		return err
	}
	bytes := size(d.Message)
	for id, other := range s.dead {
		if id != d.ID {
			bytes += size(other.Message)
		}
	}
	if bytes > s.cfg.MaxBytes {
		return fault.New(fault.Unavailable, "the dead letters of stream %s take all their room; replay or discard some", d.Stream).WithCode("queue_full").WithRetryAfter(time.Minute)
	}
	s.lastDead++
	d.Sequence = s.lastDead
	s.dead[d.ID] = d
	return nil
}

// Dead implements queue.DeadLetters.
func (q *Queue) Dead(_ context.Context, name string, after uint64, limit int) ([]queue.DeadLetter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s, err := q.stream(name)
	if err != nil {
		return nil, err
	}
	list := slices.Collect(maps.Values(s.dead))
	list = slices.DeleteFunc(list, func(d queue.DeadLetter) bool { return d.Sequence <= after })
	slices.SortFunc(list, func(a, b queue.DeadLetter) int { return int(a.Sequence) - int(b.Sequence) })
	return list[:min(len(list), max(limit, 1))], nil
}

// DeadByID implements queue.DeadLetters.
func (q *Queue) DeadByID(_ context.Context, name, id string) (queue.DeadLetter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, d, err := q.letter(name, id)
	return d, err
}

func (q *Queue) letter(name, id string) (*stream, queue.DeadLetter, error) {
	s, err := q.stream(name)
	if err != nil {
		return nil, queue.DeadLetter{}, err
	}
	d, ok := s.dead[id]
	if !ok {
		return nil, d, fault.New(fault.NotFound, "stream %s has no dead letter %q", name, id).WithCode("dead_letter_not_found")
	}
	return s, d, nil
}

// Replay implements queue.DeadLetters.
func (q *Queue) Replay(_ context.Context, name, id string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s, d, err := q.letter(name, id)
	if err != nil {
		return err
	}
	delete(s.seen, d.Message.ID)
	if err := s.put(d.Message); err != nil {
		return err
	}
	delete(s.dead, id)
	q.notify()
	return nil
}

// DiscardDead implements queue.DeadLetters.
func (q *Queue) DiscardDead(_ context.Context, name, id string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s, _, err := q.letter(name, id)
	if err == nil {
		delete(s.dead, id)
	}
	return err
}
