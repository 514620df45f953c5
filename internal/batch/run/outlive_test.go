package run

import (
	"context"
	"testing"
	"testing/synctest"

	"sluice/internal/platform/queue"
)

// Work goes on where only the queue's lease is lost, and ends with everything else.
func TestOutlive(t *testing.T) {
	for name, tt := range map[string]struct {
		cause error
		ends  bool
	}{"the lease is lost": {queue.ErrLeaseLost, false}, "the drain is over": {context.Canceled, true}} {
		synctest.Test(t, func(t *testing.T) {
			taking, stopTaking := context.WithCancel(t.Context())
			handling, cancel := context.WithCancelCause(t.Context())
			work, stop := outlive(taking, handling)
			cancel(tt.cause)
			synctest.Wait()
			if ended := work.Err() != nil; ended != tt.ends {
				t.Errorf("%s: ended %t", name, ended)
			}
			stopTaking()
			synctest.Wait()
			if work.Err() == nil {
				t.Errorf("%s: it goes on while the worker stops", name)
			}
			stop()
		})
	}
}
