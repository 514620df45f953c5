package queuetest

import (
	"context"
	"errors"
	"slices"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

var reading = map[string]func(*fixture){
	"ReadEndsWhenItHasCaughtUp": readAll,
	"ReadFollows":               readFollows,
	"ReadFiltersAndResumes":     readFilters,
	"ReadReportsGaps":           readGaps,
	"ReadBreaksOff":             readBreaks,
}

// read returns the sequences that a read yields, and its error.
func (f *fixture) read(r queue.Read) (sequences []uint64, err error) {
	r.Stream = f.stream
	for m, e := range f.q.Read(f.ctx, r) {
		if e != nil {
			return sequences, e
		}
		sequences = append(sequences, m.Sequence)
	}
	return sequences, nil
}

// want fails unless a read yields exactly these.
func (f *fixture) want(r queue.Read, sequences ...uint64) {
	f.Helper()
	if got, err := f.read(r); err != nil || !slices.Equal(got, sequences) {
		f.Errorf("read %+v: %v, %v, want %v", r, got, err, sequences)
	}
}

func readAll(f *fixture) {
	f.ensure()
	f.want(queue.Read{})
	f.want(queue.Read{From: 1})
	f.publish("k", 5)
	f.want(queue.Read{}, 1, 2, 3, 4, 5)
	f.want(queue.Read{From: 4}, 4, 5)
	f.want(queue.Read{From: 6})
}

func readFollows(f *fixture) {
	f.ensure()
	sent := f.publish("k", 3)
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	var got []string
	for m, err := range f.q.Read(ctx, queue.Read{Stream: f.stream, From: 2, Follow: true}) {
		if err != nil {
			f.Fatal(err)
		}
		got = append(got, m.ID)
		switch m.Sequence {
		case 3:
			sent = append(sent, f.publish("more", 2)...)
		case 5:
			cancel()
		}
	}
	var want []string
	for _, m := range sent[1:] {
		want = append(want, m.ID)
	}
	if !slices.Equal(got, want) {
		f.Errorf("read %v, want %v", got, want)
	}
}

func readFilters(f *fixture) {
	f.ensure()
	f.publish("a.x", 2)
	f.publish("b.x", 2)
	f.publish("a.y", 2)
	f.publish("c", 2)
	a, c := f.subject("a.>"), f.subject("c")
	f.want(queue.Read{Filters: []string{a}}, 1, 2, 5, 6)
	f.want(queue.Read{Filters: []string{a, c}, From: 3}, 5, 6, 7, 8)
	f.want(queue.Read{Filters: []string{f.subject("none")}})
}

// A position that cannot be gone on from is an error that says what is there;
// it is never passed over.
func readGaps(f *fixture) {
	f.ensure(func(s *queue.Stream) { s.MaxMessages = 4; s.Discard = queue.Oldest })
	f.publish("k", 10)
	f.want(queue.Read{}, 7, 8, 9, 10)
	f.want(queue.Read{From: 7}, 7, 8, 9, 10)
	for _, from := range []uint64{1, 6, 12} {
		_, err := f.read(queue.Read{From: from})
		gap, ok := errors.AsType[*queue.GapError](err)
		if !ok || gap.From != from || gap.Bounds != (queue.Bounds{First: 7, Last: 10}) {
			f.Errorf("from %d: %v", from, err)
		}
		f.code(err, fault.Conflict, "sequence_gap")
	}
	// A reader that is overtaken learns of it, too.
	var err error
	read := 0
	for m, e := range f.q.Read(f.ctx, queue.Read{Stream: f.stream, Follow: true}) {
		if err = e; err != nil {
			break
		}
		if read++; m.Sequence == 10 {
			for i := range 600 { // more than a reader has room for
				if i%100 == 0 {
					f.publish("more", 0)
				}
				if e := f.q.Publish(f.ctx, f.message("more", i)); e != nil {
					f.Fatal(e)
				}
			}
		}
		if m.Sequence == 610 {
			break
		}
	}
	// What was on its way already may arrive; what is missing must be told.
	if _, ok := errors.AsType[*queue.GapError](err); !ok && read != 604 {
		f.Errorf("after %d messages: %v", read, err)
	}
}

func readBreaks(f *fixture) {
	f.ensure()
	f.publish("k", 300)
	for range 3 {
		n := 0
		for _, err := range f.q.Read(f.ctx, queue.Read{Stream: f.stream, Follow: true}) {
			if err != nil {
				f.Fatal(err)
			}
			if n++; n == 2 {
				break
			}
		}
	}
	_, err := f.read(queue.Read{Follow: true, Filters: []string{"a b"}})
	f.code(err, fault.Invalid, "queue_config_invalid")
}
