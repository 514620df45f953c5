package batcher

import (
	"context"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	run := func(context.Context, []*Task[int]) error { return nil }
	for name, tt := range map[string]struct {
		takes func(n int) time.Duration
		upTo  int
		rows  int
		run   time.Duration
	}{
		"more rows pay":    {func(n int) time.Duration { return time.Duration(1000+10*n) * time.Microsecond }, 64, 64, 1640 * time.Microsecond},
		"less pays":        {func(n int) time.Duration { return time.Duration(1000 + 10*n + n*n) }, 64, 32, 2344},
		"as good is more":  {func(n int) time.Duration { return time.Duration(20+20*n) * time.Microsecond }, 64, 64, 1300 * time.Microsecond},
		"but no long runs": {func(n int) time.Duration { return time.Duration(100+100*n) * time.Microsecond }, 64, 16, 1700 * time.Microsecond},
		"a larger is next": {func(n int) time.Duration { return time.Duration(1000+10*n) * time.Microsecond }, 8, 16, 2160 * time.Microsecond},
	} {
		c := NewCost(64, 1)
		for n := 1; n <= tt.upTo; n *= 2 {
			c.Seed(n, 0, tt.takes(n))
		}
		b, err := New(run, Config{MaxRows: 64, SLO: time.Second, Executors: 1, Cost: c})
		if err != nil {
			t.Fatal(err)
		}
		if p := b.Pace(); p.Rows != tt.rows || p.Parallel != 1 || p.Spread < 1 {
			t.Errorf("%s: %+v", name, p)
		} else {
			within(t, name, p.Run, tt.run, 0.02)
		}
	}
	b, err := New(run, Config{MaxRows: 64, SLO: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if p := b.Pace(); p.Run != 0 {
		t.Errorf("it knows what nobody has measured: %+v", p)
	}
}
