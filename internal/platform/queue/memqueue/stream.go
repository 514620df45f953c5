package memqueue

import (
	"bytes"
	"slices"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// stream is the state of one stream, guarded by the queue's lock.
type stream struct {
	cfg       queue.Stream
	last      uint64          // sequence of the newest message ever
	messages  []queue.Message // by sequence, with holes where one was removed
	bytes     int64
	seen      map[string]time.Time // when an ID was stored
	consumers map[string]*consumer
	dead      map[string]queue.DeadLetter
	lastDead  uint64
}

func newStream(cfg queue.Stream) *stream {
	return &stream{cfg: cfg, seen: map[string]time.Time{}, consumers: map[string]*consumer{}, dead: map[string]queue.DeadLetter{}}
}

// size is what a message counts towards the limit, with the queue's own part.
func size(m queue.Message) int64 {
	n := len(m.Data) + len(m.Subject) + len(m.ID) + 64
	for k, v := range m.Header {
		n += len(k) + len(v)
	}
	return int64(n)
}

func (s *stream) put(m queue.Message) error {
	now := time.Now()
	s.expire(now)
	if at, ok := s.seen[m.ID]; ok && now.Sub(at) < s.cfg.Duplicates {
		return nil
	}
	n := size(m)
	switch {
	case len(m.Data) > s.cfg.MaxMessageBytes:
		return fault.New(fault.TooLarge, "the message has %d bytes; stream %s takes at most %d", len(m.Data), s.cfg.Name, s.cfg.MaxMessageBytes).WithCode("message_too_large")
	case s.cfg.Discard == queue.Oldest:
		for len(s.messages) > 0 && s.full(n) {
			s.remove(s.messages[0].Sequence)
		}
	case s.full(n):
		return fault.New(fault.Unavailable, "stream %s is full; try again when messages were taken off", s.cfg.Name).WithCode("queue_full").WithRetryAfter(time.Second)
	}
	s.last++
	m = m.Clone()
	m.Data = bytes.Clone(m.Data)
	m.Sequence, m.Time = s.last, now
	s.messages = append(s.messages, m)
	s.bytes += n
	s.seen[m.ID] = now
	return nil
}

func (s *stream) full(more int64) bool {
	return s.bytes+more > s.cfg.MaxBytes || int64(len(s.messages)) >= s.cfg.MaxMessages
}

// expire drops what is too old.
func (s *stream) expire(now time.Time) {
	for s.cfg.MaxAge > 0 && len(s.messages) > 0 && now.Sub(s.messages[0].Time) >= s.cfg.MaxAge {
		s.remove(s.messages[0].Sequence)
	}
	if len(s.seen) > 2*len(s.messages)+1000 {
		for id, at := range s.seen {
			if now.Sub(at) >= s.cfg.Duplicates {
				delete(s.seen, id)
			}
		}
	}
}

// from returns the messages from the sequence on.
func (s *stream) from(sequence uint64) []queue.Message {
	i, _ := slices.BinarySearchFunc(s.messages, sequence, func(m queue.Message, seq uint64) int {
		if m.Sequence < seq {
			return -1
		}
		return int(min(m.Sequence-seq, 1))
	})
	return s.messages[i:]
}

// get returns the message with the sequence, if it is there.
func (s *stream) get(sequence uint64) (queue.Message, bool) {
	if list := s.from(sequence); len(list) > 0 && list[0].Sequence == sequence {
		return list[0], true
	}
	return queue.Message{}, false
}

func (s *stream) remove(sequence uint64) {
	i := len(s.messages) - len(s.from(sequence))
	if i == len(s.messages) || s.messages[i].Sequence != sequence {
		return
	}
	s.bytes -= size(s.messages[i])
	if i == 0 { // the usual case: keep the array, drop the head
		s.messages[0] = queue.Message{}
		s.messages = s.messages[1:]
		return
	}
	s.messages = slices.Delete(s.messages, i, i+1)
}

func (s *stream) bounds() queue.Bounds {
	b := queue.Bounds{First: s.last + 1, Last: s.last}
	if len(s.messages) > 0 {
		b.First = s.messages[0].Sequence
	}
	return b
}
