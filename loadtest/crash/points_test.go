package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Who comes to a point that is armed is known by its process, once.
func TestArmory(t *testing.T) {
	a, err := newArmory(filepath.Join(t.TempDir(), "points"))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.arm("ran", dies); err != nil {
		t.Fatal(err)
	}
	armed := filepath.Join(a.dir, "ran")
	if text, err := os.ReadFile(armed); err != nil || string(text) != "9" {
		t.Errorf("%q %v", text, err)
	}
	if pid, err := a.hit(t.Context(), "ran", 0); pid != 0 || err != nil {
		t.Errorf("nobody came, and the process %d did (%v)", pid, err)
	}
	if err := os.Rename(armed, armed+".hit-17"); err != nil { // as a process does that comes there
		t.Fatal(err)
	}
	if pid, err := a.hit(t.Context(), "ran", time.Second); pid != 17 || err != nil {
		t.Errorf("%d %v", pid, err)
	}
	if pid, err := a.hit(t.Context(), "ran", 0); pid != 0 || err != nil {
		t.Errorf("a hit is seen twice: %d %v", pid, err)
	}
	if err := a.disarm("ran"); err != nil {
		t.Errorf("what nobody armed cannot be disarmed: %v", err)
	}
}
