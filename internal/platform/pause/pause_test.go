package pause

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestForWaitsItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if !For(t.Context(), time.Hour) {
			t.Error("says that its context ended")
		}
		if took := time.Since(start); took != time.Hour {
			t.Errorf("waited %s", took)
		}
	})
}

func TestForEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if For(ctx, time.Hour) {
			t.Error("says that it waited")
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("waited %s", took)
		}
	})
}

func TestBeatUntilItFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := errors.New("failed")
		beats := 0
		ctx, stop := Beat(t.Context(), time.Second, func(context.Context) error {
			if beats++; beats == 3 {
				return failed
			}
			return nil
		})
		start := time.Now()
		<-ctx.Done()
		if took := time.Since(start); took != 3*time.Second || !errors.Is(context.Cause(ctx), failed) {
			t.Errorf("it ended after %s: %v", took, context.Cause(ctx))
		}
		stop()
	})
}

func TestBeatUntilStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beats := 0
		ctx, stop := Beat(t.Context(), time.Second, func(context.Context) error { beats++; return nil })
		time.Sleep(2500 * time.Millisecond)
		stop()
		if time.Sleep(time.Minute); beats != 2 || ctx.Err() == nil {
			t.Errorf("%d beats, %v", beats, ctx.Err())
		}
	})
}
