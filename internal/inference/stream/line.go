package stream

import (
	"context"
	"sync"

	"sluice/internal/platform/fault"
)

// Item is an input of a stream on its way to its answer.
type Item interface {
	// Run has the model answer; the item keeps the answer. Other items of the line may run
	// at the same time.
	Run(ctx context.Context) error
	// Send writes the answer, or Run's error, once the items before have sent theirs. An
	// error of Send ends the line.
	Send(ctx context.Context, failed error) error
	// Done is called last, in any case.
	Done()
}

// Order says what an item has to wait for.
type Order struct {
	// Sequence names the sequence that the item is a step of: its steps run one
	// after another. "" is none.
	Sequence string
	// Anew lets the item run even if an earlier step of its sequence has failed.
	Anew bool
}

// Line serves the items of one stream, a bounded number at once, and keeps their
// answers in the order of the items. Add and Wait are for one goroutine.
type Line struct {
	ctx    context.Context //nolint:containedctx // the stream's own, which the line ends
	cancel context.CancelCauseFunc
	slots  chan struct{}
	items  sync.WaitGroup
	sent   chan struct{} // closed when the item that was added last has sent
	lanes  map[string]*lane
}

// lane is what the steps of one sequence have in common on one line.
type lane struct {
	ran    chan struct{} // closed when the step that was added last has run
	failed bool          // the last step to run failed; for the step that runs
}

// maxLanes bounds the sequences that one line remembers.
const maxLanes = 4096

// NewLine returns a line with so many items at once. Wait must follow.
func NewLine(ctx context.Context, depth int) *Line {
	l := &Line{slots: make(chan struct{}, depth), sent: make(chan struct{}), lanes: map[string]*lane{}}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	close(l.sent)
	return l
}

// ErrHalted answers the steps behind one that failed: the client sent them before it knew,
// and would not want them to run on the old state.
var ErrHalted error = fault.New(fault.Conflict, "an earlier step of the sequence failed on this stream, so this one did not run: the state is as before that step; send the steps from there on, the first with sequence_resume or sequence_start").
	WithCode("sequence_halted")

// Failed is closed when the line has ended early.
func (l *Line) Failed() <-chan struct{} { return l.ctx.Done() }

// Add waits for room and then serves an item. It fails where the line has ended, with the
// reason; the item is done then.
func (l *Line) Add(item Item, order Order) error {
	select {
	case l.slots <- struct{}{}:
	case <-l.ctx.Done():
		item.Done()
		return context.Cause(l.ctx)
	}
	turn, err := l.turn(order.Sequence)
	if err != nil {
		<-l.slots
		item.Done()
		l.cancel(err)
		return err
	}
	before, sent := l.sent, make(chan struct{})
	l.sent = sent
	l.items.Go(func() {
		defer func() { <-l.slots }()
		defer close(sent)
		defer item.Done()
		failed := turn.run(l.ctx, order.Anew, item)
		<-before
		if l.ctx.Err() == nil {
			if err := fault.Guard(func() error { return item.Send(l.ctx, failed) }); err != nil {
				l.cancel(err)
			}
		}
	})
	return nil
}

// Idle reports whether nothing is in progress.
func (l *Line) Idle() bool { return len(l.slots) == 0 }

// Wait returns when all items are done: nil, or why the line ended early.
func (l *Line) Wait() error {
	l.items.Wait()
	err := context.Cause(l.ctx)
	l.cancel(nil)
	return err
}

// Stop ends the line; items in progress give up.
func (l *Line) Stop(cause error) { l.cancel(cause) }

// turn is a step's place in its lane; without a lane it need not wait.
type turn struct {
	lane        *lane
	before, ran chan struct{}
}

// turn returns the place of the next step of a sequence.
func (l *Line) turn(sequence string) (turn, error) {
	if sequence == "" {
		return turn{}, nil
	}
	w := l.lanes[sequence]
	if w == nil {
		if len(l.lanes) >= maxLanes && !l.sweep() {
			return turn{}, fault.New(fault.Exhausted, "more than %d sequences are in progress or halted on one stream: open another one", maxLanes).WithCode("sequences_per_stream")
		}
		w = &lane{ran: make(chan struct{})}
		close(w.ran)
		l.lanes[sequence] = w
	}
	place := turn{lane: w, before: w.ran, ran: make(chan struct{})}
	w.ran = place.ran
	return place, nil
}

// sweep forgets idle lanes whose last step has not failed, and reports whether there is room
// for another then.
func (l *Line) sweep() bool {
	for name, w := range l.lanes {
		select {
		case <-w.ran:
			if !w.failed {
				delete(l.lanes, name)
			}
		default:
		}
	}
	return len(l.lanes) < maxLanes
}

// run runs an item once the steps before it have run, unless the last of them has failed.
func (t turn) run(ctx context.Context, anew bool, item Item) error {
	work := func() error { return fault.Guard(func() error { return item.Run(ctx) }) }
	if t.lane == nil {
		return work()
	}
	defer close(t.ran)
	<-t.before
	if t.lane.failed && !anew {
		return ErrHalted
	}
	err := work()
	t.lane.failed = err != nil
	return err
}
