// Package ledger is what the clients of a campaign over durable predictions write
// down, for the checker: what they asked for, and what they were told.
package ledger

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Kind is what becomes of a prediction that nobody cancels and that has no
// deadline.
type Kind string

// The kinds.
const (
	Plain  Kind = "plain"  // it succeeds
	Poison Kind = "poison" // its run fails, whoever does it
	Killer Kind = "killer" // its run ends the process that does it
)

// Run is the head of a ledger: what the campaign was.
type Run struct {
	Seed     uint64 `json:"seed"`
	Kills    int    `json:"kills"`    // processes that ended
	Attempts int    `json:"attempts"` // requests
	Good     int    `json:"good"`     // those that succeeded
}

// Job is what a client knows of one prediction.
type Job struct {
	Kind     Kind            `json:"kind"`
	Tenant   string          `json:"tenant"`
	Key      string          `json:"key"` // its Idempotency-Key, and its client_ref
	Model    string          `json:"model"`
	Version  string          `json:"version,omitempty"`
	Input    json.RawMessage `json:"input"` // the inputs, as in the Open Inference Protocol
	Deadline bool            `json:"deadline,omitempty"`

	ID string `json:"id,omitempty"` // that it was told; empty while it was not accepted
	// Unwanted says that a cancellation was sent, and Cancel is the status that it
	// was answered with, empty where no answer came.
	Unwanted bool   `json:"unwanted,omitempty"`
	Cancel   string `json:"cancel,omitempty"`
	// Told are the final statuses that the client was shown, and Output is the
	// output that came with one.
	Told   []string        `json:"told,omitempty"`
	Output json.RawMessage `json:"output,omitempty"`
}

// Hook is a webhook that a receiver has taken.
type Hook struct {
	ID       string    `json:"id"` // of the event
	Type     string    `json:"type"`
	Subject  string    `json:"subject"`
	Sequence int64     `json:"sequence"`
	At       time.Time `json:"at"`
}

// Ledger is all of it.
type Ledger struct {
	Run
	Jobs  []Job
	Hooks []Hook
	// Hooked is the tenant whose predictions' ends are told to the receiver.
	Hooked string
}

// line is one line of the file.
type line struct {
	Run    *Run   `json:"run,omitempty"`
	Hooked string `json:"hooked,omitempty"`
	Job    *Job   `json:"job,omitempty"`
	Hook   *Hook  `json:"hook,omitempty"`
}

// Write writes a ledger to a file, one JSON object a line.
func (l *Ledger) Write(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	e := json.NewEncoder(w)
	lines := []line{{Run: &l.Run, Hooked: l.Hooked}}
	for i := range l.Jobs {
		lines = append(lines, line{Job: &l.Jobs[i]})
	}
	for i := range l.Hooks {
		lines = append(lines, line{Hook: &l.Hooks[i]})
	}
	for _, x := range lines {
		if err := e.Encode(x); err != nil {
			return err
		}
	}
	return w.Flush()
}

// Read reads what Write has written.
func Read(path string) (*Ledger, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l := &Ledger{}
	for n, d := 1, json.NewDecoder(bufio.NewReader(f)); ; n++ {
		var x line
		switch err := d.Decode(&x); {
		case errors.Is(err, io.EOF) && n > 1:
			return l, nil
		case err != nil:
			return nil, fmt.Errorf("line %d of %s: %w", n, path, err)
		case x.Run != nil:
			l.Run, l.Hooked = *x.Run, x.Hooked
		case x.Job != nil:
			l.Jobs = append(l.Jobs, *x.Job)
		case x.Hook != nil:
			l.Hooks = append(l.Hooks, *x.Hook)
		}
	}
}
