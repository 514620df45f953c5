package run

import (
	"testing"
	"testing/synctest"
	"time"
)

// Memory is one turn's at a time, the next one's afterwards, and nobody's where none comes.
func TestShelf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shelf
		a, b := s.take(), s.take()
		if a == b {
			t.Fatal("two have the same")
		}
		s.put(a)
		s.put(b)
		time.Sleep(keeping - 1)
		if got := s.take(); got != b {
			t.Error("it is not used again")
		}
		s.put(b) // which the other is kept along with
		time.Sleep(keeping - 1)
		if got := s.take(); got != b {
			t.Error("it was not kept")
		}
		time.Sleep(time.Second)
		if got := s.take(); got == a || got == b {
			t.Error("what nobody takes stays")
		}
	})
}

// What a step took that failed is nobody's: what was given up may still read it.
func TestMemoryOfFailedSteps(t *testing.T) {
	w := &Worker{}
	one := &turn{Worker: w}
	m := one.take()
	one.give(m)
	if one.take() != m {
		t.Error("the next step has other memory")
	}
	one.end()
	if other := (&turn{Worker: w}); other.take() == m {
		t.Error("it is another's")
	}
	one.give(m)
	one.end()
	if other := (&turn{Worker: w}); other.take() != m {
		t.Error("it is lost")
	}
}
