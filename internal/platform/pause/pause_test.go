package pause

import (
	"context"
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
