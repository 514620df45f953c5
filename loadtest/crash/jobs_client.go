package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"sluice/loadtest/crash/ledger"
)

// book is what the clients of predictions write down together.
type book struct {
	mu   sync.Mutex
	jobs []*ledger.Job
}

// change changes a job of the book.
func (b *book) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *book) add(j *ledger.Job) { b.change(func() { b.jobs = append(b.jobs, j) }) }

func (b *book) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.jobs)
}

// find returns the job of a prediction, nil where no client knows it yet.
func (b *book) find(id string) *ledger.Job {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.jobs, func(j *ledger.Job) bool { return j.ID == id })
	if i < 0 {
		return nil
	}
	return b.jobs[i]
}

// asker is a client of predictions.
type asker struct {
	id     int
	tenant string
	call   *caller
	rng    *rand.Rand
	book   *book
	pause  time.Duration // between predictions
	kills  int           // which of its predictions ends who makes it; 0 for none
	killer *ledger.Job
	n      int
}

// work asks until stopped, and then finishes what it is at.
func (c *asker) work(ctx context.Context, stopped <-chan struct{}) error {
	for {
		select {
		case <-stopped:
			return nil
		case <-time.After(time.Duration(c.rng.Int64N(int64(2*c.pause) + 1))):
		}
		kind := ledger.Plain
		switch {
		case c.n+1 == c.kills:
			kind = ledger.Killer
		case c.rng.IntN(100) < 2:
			kind = ledger.Poison
		}
		if err := c.ask(ctx, kind); err != nil {
			return fmt.Errorf("client %d: prediction %d was never decided: %w", c.id, c.n, err)
		}
	}
}

// shown is what is shown of a prediction.
type shown struct {
	ID, Status string
	Output     json.RawMessage
}

// ask asks for one prediction, and does with it what clients do.
func (c *asker) ask(ctx context.Context, kind ledger.Kind) error {
	c.n++
	j := &ledger.Job{Kind: kind, Tenant: c.tenant, Key: fmt.Sprintf("j-%d-%d", c.id, c.n)}
	j.Model, j.Input = question(c.rng, kind)
	r := request{Method: http.MethodPost, Path: "/v1/models/" + j.Model + "/predictions", Key: j.Key, Header: map[string]string{"Prefer": "respond-async"},
		Body: map[string]any{"inputs": j.Input, "client_ref": j.Key}}
	if c.rng.IntN(100) < 15 {
		r.Header["Prefer"] = "wait=1"
	}
	if c.rng.IntN(100) < 6 {
		j.Deadline = true
		r.Header["Cancel-After"] = fmt.Sprintf("%dms", 50+c.rng.IntN(3000))
	}
	c.book.add(j)
	if kind == ledger.Killer {
		c.killer = j
	}
	if err := c.send(ctx, j, r); err != nil || j.ID == "" {
		return err
	}
	switch dice := c.rng.IntN(100); {
	case dice < 8 && kind == ledger.Plain || dice < 20 && j.Model == "slow":
		return c.cancel(ctx, j)
	case dice < 40:
		return c.send(ctx, j, request{Method: http.MethodGet, Path: fmt.Sprintf("/v1/predictions/%s?wait=%d", j.ID, c.rng.IntN(3))})
	case dice < 45:
		return c.send(ctx, j, r) // the same once more is the same prediction
	}
	return nil
}

// send sends a request about a prediction and notes what the answer says.
func (c *asker) send(ctx context.Context, j *ledger.Job, r request) error {
	a, err := c.call.do(ctx, r)
	if err != nil {
		return err
	}
	if !a.ok() {
		c.call.tally.wrong("refused: %s %s of %s: %s %.300q", r.Method, r.Path, j.Key, a, a.Body)
		return nil
	}
	c.note(j, a)
	return nil
}

func (c *asker) note(j *ledger.Job, a *answer) (status string) {
	var v shown
	if err := json.Unmarshal(a.Body, &v); err != nil || v.ID == "" {
		c.call.tally.wrong("an answer about %s cannot be read: %.200q", j.Key, a.Body)
		return ""
	}
	c.book.change(func() {
		if j.ID != "" && j.ID != v.ID {
			c.call.tally.wrong("twice: the client of %s was told of %s and of %s", j.Key, j.ID, v.ID)
		}
		j.ID = v.ID
		if ended(v.Status) && !slices.Contains(j.Told, v.Status) {
			j.Told = append(j.Told, v.Status)
		}
		if len(v.Output) > 0 {
			j.Output = v.Output
		}
	})
	return v.Status
}

func ended(status string) bool {
	return slices.Contains([]string{"succeeded", "failed", "cancelled", "expired"}, status)
}

// cancel cancels a prediction.
func (c *asker) cancel(ctx context.Context, j *ledger.Job) error {
	c.book.change(func() { j.Unwanted = true })
	a, err := c.call.do(ctx, request{Method: http.MethodPost, Path: "/v1/predictions/" + j.ID + "/cancel"})
	if err != nil {
		return err
	}
	if !a.ok() {
		c.call.tally.wrong("refused: the cancellation of %s: %s %.300q", j.ID, a, a.Body)
		return nil
	}
	status := c.note(j, a)
	c.book.change(func() { j.Cancel = status })
	return nil
}
