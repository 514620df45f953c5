package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// client is one user of the API: it does one operation after the other, and knows what
// its things must be like. Nobody else changes them, but for the shared ones.
type client struct {
	id     int
	run    string // tells runs on one store apart
	rng    *rand.Rand
	call   *caller
	tally  *tally
	pause  time.Duration // between operations
	things []*thing
	shared []*thing
	mix    []string // kinds, as often as they are made
	n      int      // operations so far

	mu      sync.Mutex // of history, which others read at the end
	history []operation
}

// most is how many things a client has at a time; then it works on those.
const most = 40

// work does operations until stopped, and finishes the last one: that may go on
// until ctx ends.
func (c *client) work(ctx context.Context, stopped <-chan struct{}) error {
	for {
		select {
		case <-stopped:
			return nil
		case <-time.After(time.Duration(c.rng.Int64N(int64(2*c.pause) + 1))):
		}
		if err := c.step(ctx); err != nil {
			return fmt.Errorf("client %d: the operation %d was never decided: %w", c.id, c.n, err)
		}
	}
}

func (c *client) step(ctx context.Context) error {
	c.n++
	switch dice := c.rng.IntN(100); {
	case dice < 12 && len(c.shared) > 0:
		return c.changeShared(ctx, c.shared[c.rng.IntN(len(c.shared))])
	case dice < 30 && len(c.things) < most || len(c.things) == 0:
		return c.create(ctx)
	}
	t := c.things[c.rng.IntN(len(c.things))]
	switch dice := c.rng.IntN(100); {
	case t.Deleted:
		return c.restore(ctx, t)
	case dice < 60:
		return c.change(ctx, t)
	case dice < 75:
		return c.read(ctx, t)
	default:
		return c.remove(ctx, t)
	}
}

func (c *client) key() string { return fmt.Sprintf("%s-%d-%d", c.run, c.id, c.n) }

func (c *client) note(t *thing, action, key string, a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history = append(c.history, operation{c.id, action, t.Kind, t.ID, key, t.Version, a.InDoubt, a.String()})
}

// expect compares what the server shows with what the thing must be.
func (c *client) expect(t *thing, action string, a *answer) {
	v, err := readView(a)
	switch {
	case err != nil:
		c.tally.wrong("%s of %s %s: %v: %.200q", action, t.Kind, t.ID, err, a.Body)
	case v.ID != t.ID || v.Version != t.Version || v.fields != t.Fields:
		c.tally.wrong("%s of %s %s (%s): the answer is %+v, expected version %d of %+v", action, t.Kind, t.ID, a, v, t.Version, t.Fields)
	}
}

// refused notes a definite refusal of what must succeed.
func (c *client) refused(t *thing, action string, a *answer) {
	c.tally.wrong("%s of %s %s was refused: %s: %.300q", action, t.Kind, t.ID, a, a.Body)
}

func (c *client) create(ctx context.Context) error {
	kind := c.mix[c.rng.IntN(len(c.mix))]
	t := &thing{Kind: kind, Version: 1, ID: fmt.Sprintf("%s-%d-%d", c.run, c.id, c.n)}
	switch kind {
	case flags:
		t.Fields = fields{Description: "made", Enabled: true, Percent: c.rng.IntN(101)}
	case tenants:
		t.Fields = fields{Name: "Tenant"}
	case webhooks:
		t.Fields = fields{URL: "https://hooks.example/" + t.ID}
		t.ID = "" // the server chooses it
	}
	key := c.key()
	a, err := c.call.do(ctx, request{Method: http.MethodPost, Path: paths[kind], Key: key, Body: t.creation()})
	if err != nil {
		return err
	}
	switch {
	case kind == webhooks && (a.ok() || settled(a) && a.InDoubt):
		if err := c.find(ctx, t); err != nil {
			return err
		}
	case !a.ok():
		c.refused(t, "creation", a)
		return nil
	}
	if a.ok() {
		c.expect(t, "creation", a)
	}
	c.things = append(c.things, t)
	c.note(t, "create", key, a)
	return nil
}

// find learns the id of an endpoint whose creation's answer was lost, or held a
// secret that is shown once.
func (c *client) find(ctx context.Context, t *thing) error {
	a, err := c.call.do(ctx, request{Method: http.MethodGet, Path: paths[webhooks] + "?filter=" + url.QueryEscape("url:eq:"+t.Fields.URL)})
	if err != nil {
		return err
	}
	var page struct{ Data []view }
	if err := json.Unmarshal(a.Body, &page); err != nil {
		return err
	}
	if len(page.Data) != 1 {
		c.tally.wrong("the endpoint %s was made, and there are %d of it: %.200q", t.Fields.URL, len(page.Data), a.Body)
		return nil
	}
	t.ID = page.Data[0].ID
	return nil
}

func (c *client) change(ctx context.Context, t *thing) error {
	condition, before := "*", *t
	if c.rng.IntN(3) > 0 {
		condition = t.etag()
	}
	key := c.key()
	body := t.change(c.n)
	t.Version++
	r := request{Method: http.MethodPatch, Path: t.path(), Key: key, IfMatch: condition, Body: body}
	a, err := c.call.do(ctx, r)
	if err != nil {
		return err
	}
	if !a.ok() {
		c.refused(t, "change", a)
		*t = before
		return nil
	}
	c.expect(t, "change", a)
	c.note(t, "change", key, a)
	if c.rng.IntN(8) > 0 {
		return nil
	}
	again, err := c.call.do(ctx, r) // the same request once more has the same answer, and no effect
	if err != nil {
		return err
	}
	if string(again.Body) != string(a.Body) || again.Status != a.Status {
		c.tally.wrong("the repetition of a change of %s %s was answered %s %.200q, at first %s %.200q", t.Kind, t.ID, again, again.Body, a, a.Body)
	}
	return nil
}

// changeShared changes what others change, too. Each change stands, whatever
// comes between.
func (c *client) changeShared(ctx context.Context, t *thing) error {
	key := c.key()
	body := map[string]any{"description": key}
	a, err := c.call.do(ctx, request{Method: http.MethodPatch, Path: t.path(), Key: key, IfMatch: "*", Body: body})
	if err != nil {
		return err
	}
	if !a.ok() {
		c.refused(t, "change", a)
		return nil
	}
	made := &thing{Kind: t.Kind, ID: t.ID, Shared: true}
	if v, err := readView(a); err == nil && v.Description == key {
		made.Version = v.Version
	} else if !a.InDoubt {
		c.tally.wrong("the change %s of %s was answered with %.200q", key, t.ID, a.Body)
	}
	c.note(made, "change", key, a)
	return nil
}

func (c *client) read(ctx context.Context, t *thing) error {
	a, err := c.call.do(ctx, request{Method: http.MethodGet, Path: t.path()})
	if err != nil {
		return err
	}
	if !a.ok() {
		c.refused(t, "reading", a)
		return nil
	}
	c.expect(t, "reading", a)
	return nil
}

func (c *client) remove(ctx context.Context, t *thing) error {
	a, err := c.call.do(ctx, request{Method: http.MethodDelete, Path: t.path(), IfMatch: t.etag()})
	if err != nil {
		return err
	}
	if !a.ok() && (a.Status != http.StatusNotFound || !a.InDoubt) {
		c.refused(t, "deletion", a)
		return nil
	}
	t.Version, t.Deleted = t.Version+1, true
	c.note(t, "delete", "", a)
	return nil
}

func (c *client) restore(ctx context.Context, t *thing) error {
	a, err := c.call.do(ctx, request{Method: http.MethodPost, Path: t.path() + "/restore"})
	if err != nil {
		return err
	}
	if !a.ok() {
		c.refused(t, "restoration", a)
		return nil
	}
	t.Version, t.Deleted = t.Version+1, false
	c.expect(t, "restoration", a)
	c.note(t, "restore", "", a)
	return nil
}
