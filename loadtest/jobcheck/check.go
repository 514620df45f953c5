package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"sluice/internal/platform/audit"
	"sluice/internal/platform/repo"
	"sluice/loadtest/crash/ledger"
)

// checker compares what clients were told with what the stores hold.
type checker struct {
	*ledger.Ledger
	*evidence
	objects  folder
	answer   func(ctx context.Context, model, version string, input []byte) ([]byte, error)
	problems []string

	eventsOf map[repo.Key][]repo.Message
}

// final are the statuses after which nothing happens any more.
var final = []string{"succeeded", "failed", "cancelled", "expired"}

const mostProblems = 200

func (c *checker) wrong(format string, args ...any) {
	if len(c.problems) < mostProblems {
		c.problems = append(c.problems, fmt.Sprintf(format, args...))
	}
}

// check returns everything that is wrong.
func (c *checker) check(ctx context.Context) []string {
	c.problems = slices.Clone(c.broken)
	c.eventsOf = map[repo.Key][]repo.Message{}
	for _, m := range c.events {
		c.eventsOf[m.Key] = append(c.eventsOf[m.Key], m)
	}
	c.valid()
	c.oneForEachKey()
	for i := range c.Jobs {
		if j := &c.Jobs[i]; j.ID != "" {
			c.job(ctx, j)
		}
	}
	c.eventsAreWhole()
	c.nothingWaits()
	c.auditIsWhole()
	c.hooksAreSent()
	c.usageIsCounted()
	c.quarantinesAreDue()
	return c.problems
}

// valid refuses to judge by a run that shows nothing.
func (c *checker) valid() {
	if c.Good*2 < c.Attempts || c.Attempts == 0 {
		c.wrong("invalid: %d of %d requests succeeded: with under half the run shows nothing", c.Good, c.Attempts)
	}
	if again := c.again(); again == 0 && c.Kills > 0 {
		c.wrong("invalid: %d processes ended, and nothing was tried twice", c.Kills)
	}
}

// oneForEachKey: nothing that was accepted is lost, no Idempotency-Key has two
// predictions, what was refused has none, and nobody else has any.
func (c *checker) oneForEachKey() {
	made := map[string][]string{}
	for key, p := range c.predictions {
		made[p.ClientRef] = append(made[p.ClientRef], key.ID)
	}
	for i := range c.Jobs {
		j := &c.Jobs[i]
		ids := made[j.Key]
		delete(made, j.Key)
		switch {
		case len(ids) > 1:
			c.wrong("twice: the Idempotency-Key %s has the predictions %s", j.Key, strings.Join(ids, " and "))
		case j.ID == "" && len(ids) > 0:
			c.wrong("half: the prediction %s of %s was refused, and is there", ids[0], j.Key)
		case j.ID != "" && (len(ids) == 0 || ids[0] != j.ID):
			c.wrong("lost: %s of %s was accepted, and is not there: %q are", j.ID, j.Key, ids)
		}
	}
	for ref, ids := range made {
		c.wrong("unwanted: nobody has asked for %s of %q", strings.Join(ids, " and "), ref)
	}
}

// key returns where a prediction is in the store.
func key(j *ledger.Job) repo.Key { return repo.Key{Tenant: j.Tenant, Kind: "predictions", ID: j.ID} }

// job: it has ended as it may, all that was told of it is so, and its result is
// what its model answers.
func (c *checker) job(ctx context.Context, j *ledger.Job) {
	p, ok := c.predictions[key(j)]
	switch {
	case !ok:
		return // said already
	case !slices.Contains(final, p.Status):
		c.wrong("not ended: %s (%s, %s) is %s in its attempt %d", j.ID, j.Kind, j.Model, p.Status, p.Attempt)
		return
	case !may(j, p.Status):
		code := ""
		if p.Failure != nil {
			code = p.Failure.Code
		}
		c.wrong("outcome: %s (%s, %s, cancelled %q, with a deadline %t) has %s %s after %d attempts", j.ID, j.Kind, j.Model, j.Cancel, j.Deadline, p.Status, code, p.Attempt)
	}
	for _, told := range j.Told {
		if told != p.Status {
			c.wrong("two ends: the client of %s was told that it has %s, and it has %s", j.ID, told, p.Status)
		}
	}
	c.result(ctx, j, &p)
}

// may says whether a prediction may end so.
func may(j *ledger.Job, status string) bool {
	switch {
	case j.Cancel == "cancelling":
		return status == "cancelled"
	case slices.Contains(final, j.Cancel):
		return status == j.Cancel
	}
	switch status {
	case "succeeded":
		return j.Kind == ledger.Plain
	case "failed":
		return j.Kind != ledger.Plain
	case "cancelled":
		return j.Unwanted
	case "expired":
		return j.Deadline
	}
	return false
}

// result: what a model got is what the client has sent, and the output is there
// where it succeeded, and nowhere else.
func (c *checker) result(ctx context.Context, j *ledger.Job, p *prediction) {
	input, err := c.objects.load(p.Input)
	if err != nil {
		c.wrong("lost: the input of %s: %v", j.ID, err)
		return
	}
	var sent struct{ Inputs json.RawMessage }
	if err := json.Unmarshal(input, &sent); err != nil || !same(sent.Inputs, j.Input) {
		c.wrong("mixed up: the input of %s is %.100s, the client has sent %.100s (%v)", j.ID, sent.Inputs, j.Input, err)
	}
	if p.Status != "succeeded" {
		if p.Output.SHA256 != "" {
			c.wrong("half: %s has %s, and an output", j.ID, p.Status)
		}
		return
	}
	got, err := c.objects.load(p.Output)
	if err != nil {
		c.wrong("lost: the output of %s: %v", j.ID, err)
		return
	}
	want, err := c.answer(ctx, j.Model, p.Served, input)
	if err != nil {
		c.wrong("result: %s has succeeded, and the model fails: %v", j.ID, err)
		return
	}
	if d := differ(got, want); d != "" {
		c.wrong("result: of %s (%s): %s", j.ID, j.Model, d)
	}
	if len(j.Output) > 0 {
		if d := differ(j.Output, want); d != "" {
			c.wrong("result: the client of %s (%s) was shown: %s", j.ID, j.Model, d)
		}
	}
}

func same(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// nothingWaits: neither the outbox nor the queue has anything that was not dealt
// with. A relay that takes over from one that stops has what is in the stream and
// in the log published again; and what is due to nobody is only a hint.
func (c *checker) nothingWaits() {
	known := map[string]bool{}
	for _, m := range c.events {
		known[m.ID] = true
	}
	for id, stream := range c.pending {
		_, logged := c.readModel[id]
		if hint := stream != repo.StreamEvents && stream != repo.StreamAudit; !hint && !known[id] && !logged {
			c.wrong("undelivered: the message %s to %s is still in the outbox", id, stream)
		}
	}
}

// auditIsWhole: the log verifies, the read model is the log, and each acceptance
// and cancellation has its entry.
func (c *checker) auditIsWhole() {
	for _, p := range c.report.Problems {
		c.wrong("audit: %s: %s: %s", p.Code, p.File, p.Message)
	}
	done := map[string]int{}
	for _, l := range c.leaves {
		if i, ok := c.readModel[l.Entry.ID]; !ok || i != l.Index {
			c.wrong("audit: the entry %d, %s, is at %d in the read model (there: %t)", l.Index, l.Entry.ID, i, ok)
		}
		if l.Entry.Outcome == audit.OK {
			done[l.Entry.Action+" "+l.Entry.Tenant+" "+l.Entry.Resource]++
		}
	}
	if len(c.readModel) != len(c.leaves) {
		c.wrong("audit: the read model has %d entries, the log %d", len(c.readModel), len(c.leaves))
	}
	for i := range c.Jobs {
		j := &c.Jobs[i]
		if j.ID == "" {
			continue
		}
		if n := done["predictions.submit "+j.Tenant+" "+j.ID]; n != 1 {
			c.wrong("not once: the audit log has %d entries of the acceptance of %s", n, j.ID)
		}
		if n := done["predictions.cancel "+j.Tenant+" "+j.ID]; n < 1 && j.Cancel != "" {
			c.wrong("half: the cancellation of %s was answered %q, and the audit log has none", j.ID, j.Cancel)
		}
	}
}

// hooksAreSent: the receiver has been told of every end in the tenant that it
// asked for, and the deliveries know.
func (c *checker) hooksAreSent() {
	taken := map[string]bool{}
	for _, h := range c.Hooks {
		taken[h.ID] = true
	}
	for _, m := range c.events {
		if _, status, _ := strings.Cut(m.Type, "."); c.Hooked != "" && m.Tenant == c.Hooked && m.Kind == "predictions" && slices.Contains(final, status) && !taken[m.ID] {
			c.wrong("untold: the receiver of webhooks has not got %s of %s", m.Type, m.Key.ID)
		}
	}
	for _, d := range c.deliveries {
		if d.Status != "delivered" {
			c.wrong("untold: the webhook of %s of %s is %s in its attempt %d", d.Type, d.Subject, d.Status, d.Attempt)
		}
	}
}

// usageIsCounted: what tenants are told that they have used is what has ended.
func (c *checker) usageIsCounted() {
	if c.usage == nil {
		return
	}
	ends := map[used]int64{}
	for key, p := range c.predictions {
		ends[used{key.Tenant, p.Model, p.Status}]++
	}
	for what, n := range ends {
		if got := c.usage[what]; got != n {
			c.wrong("usage: %s has %d predictions of %s that have %s, and %d are counted", what.tenant, n, what.model, what.status, got)
		}
	}
	for what, n := range c.usage {
		if ends[what] == 0 {
			c.wrong("usage: %d predictions of %s that have %s are counted for %s, and there is none", n, what.model, what.status, what.tenant)
		}
	}
}

// quarantinesAreDue: no model is kept from being run that ended no worker.
func (c *checker) quarantinesAreDue() {
	killers := map[string]bool{}
	for i := range c.Jobs {
		if c.Jobs[i].Kind == ledger.Killer {
			killers[c.Jobs[i].Model] = true
		}
	}
	for _, model := range c.quarantined {
		if !killers[model] {
			c.wrong("quarantine: of %s, which has ended no worker", model)
		}
	}
}

// again counts what was tried more than once.
func (c *checker) again() (n int) {
	for _, p := range c.predictions {
		if p.Attempt > 1 {
			n++
		}
	}
	return n
}

// summary says what there was.
func (c *checker) summary() string {
	ends, objects := map[string]int{}, 0
	for _, p := range c.predictions {
		ends[p.Status]++
		if p.Output.Object != "" {
			objects++
		}
	}
	text := make([]string, 0, len(ends))
	for _, s := range slices.SortedFunc(maps.Keys(ends), func(a, b string) int { return cmp.Or(ends[b]-ends[a], cmp.Compare(a, b)) }) {
		text = append(text, fmt.Sprintf("%d %s", ends[s], s))
	}
	return fmt.Sprintf("checked: %d predictions (%s), %d of them in several attempts, %d outputs as objects; %d events, %d audit entries, %d webhooks of which the receiver got %d",
		len(c.predictions), strings.Join(text, ", "), c.again(), objects, len(c.events), len(c.leaves), len(c.deliveries), len(c.Hooks))
}
