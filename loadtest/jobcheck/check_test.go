package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sluice/internal/platform/audit"
	"sluice/internal/platform/repo"
	"sluice/loadtest/crash/ledger"
)

const answer = `{"outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[0.5]}]}`

func inline(text string) payload {
	sum := sha256.Sum256([]byte(text))
	return payload{Inline: json.RawMessage(text), SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(text))}
}

// world is a ledger with evidence to which nothing is wrong: a prediction that
// succeeded, one that was cancelled, a poisoned one in two attempts and one that
// was refused.
type world struct {
	*checker
	first, cancelled, poison *ledger.Job
}

func whole(t *testing.T) *world {
	t.Helper()
	w := &world{checker: &checker{Ledger: &ledger.Ledger{Run: ledger.Run{Attempts: 10, Good: 5}, Hooked: "acme"},
		evidence: &evidence{predictions: map[repo.Key]prediction{}, pending: map[string]string{}, readModel: map[string]int64{}, usage: map[used]int64{}, report: &audit.Report{}},
		objects:  folder(t.TempDir()),
		answer:   func(context.Context, string, string, []byte) ([]byte, error) { return []byte(answer), nil }}}
	add := func(j ledger.Job, p prediction, steps ...string) {
		n := len(w.Jobs)
		j.Tenant, j.Key, j.ID, j.Input = "acme", fmt.Sprint("key-", n), fmt.Sprint("pred_", n), json.RawMessage(fmt.Sprint(n))
		p.ClientRef, p.Input, p.sequence = j.Key, inline(fmt.Sprintf(`{"inputs":%d}`, n)), int64(len(steps))
		w.Jobs = append(w.Jobs, j)
		w.predictions[key(&j)] = p
		w.usage[used{"acme", "", p.Status}]++
		attempt := 0
		for i, s := range steps {
			if s == "running" {
				attempt++
			}
			id := fmt.Sprintf("evt_%d_%d", n, i)
			w.events = append(w.events, repo.Message{ID: id, Key: key(&j), Sequence: int64(i) + 1, Type: "prediction." + s, Data: json.RawMessage(fmt.Sprintf(`{"attempt":%d}`, attempt))})
			if slices.Contains(final, s) {
				w.Hooks = append(w.Hooks, ledger.Hook{ID: id})
				w.deliveries = append(w.deliveries, delivery{Event: id, Status: "delivered"})
			}
		}
		w.log("predictions.submit", j.ID)
		if j.Cancel != "" {
			w.log("predictions.cancel", j.ID)
		}
	}
	add(ledger.Job{Kind: ledger.Plain, Told: []string{"succeeded"}, Output: json.RawMessage(answer)}, prediction{Status: "succeeded", Output: inline(answer)}, "queued", "running", "succeeded")
	add(ledger.Job{Kind: ledger.Plain, Cancel: "cancelling"}, prediction{Status: "cancelled"}, "queued", "running", "cancelling", "cancelled")
	add(ledger.Job{Kind: ledger.Poison}, prediction{Status: "failed"}, "queued", "running", "queued", "running", "failed")
	w.Jobs = append(w.Jobs, ledger.Job{Kind: ledger.Plain, Key: "refused"})
	w.first, w.cancelled, w.poison = &w.Jobs[0], &w.Jobs[1], &w.Jobs[2]
	return w
}

func (w *world) log(action, id string) {
	n := int64(len(w.leaves))
	e := audit.Entry{ID: fmt.Sprint("entry-", n), Tenant: "acme", Action: action, Resource: id, Outcome: audit.OK}
	w.leaves = append(w.leaves, audit.Logged{Index: n, Entry: e})
	w.readModel[e.ID] = n
}

// set changes what the store has of a job.
func (w *world) set(j *ledger.Job, change func(*prediction)) {
	p := w.predictions[key(j)]
	change(&p)
	w.predictions[key(j)] = p
}

func TestNothingIsWrong(t *testing.T) {
	if problems := whole(t).check(t.Context()); len(problems) > 0 {
		t.Errorf("%q", problems)
	}
}

// Whatever is missing, twice, half, mixed up or out of order is found.
func TestWhatIsWrongIsFound(t *testing.T) {
	for want, harm := range map[string]func(w *world){
		"invalid: 4 of 10":           func(w *world) { w.Good = 4 },
		"invalid: 0 of 0":            func(w *world) { w.Good, w.Attempts = 0, 0 },
		"invalid: 3 processes":       func(w *world) { w.Kills = 3 },
		"lost: pred_0":               func(w *world) { delete(w.predictions, key(w.first)) },
		"lost: the input of pred_0":  func(w *world) { w.set(w.first, func(p *prediction) { p.Input.Object = "absent" }) },
		"lost: the output of pred_0": func(w *world) { w.set(w.first, func(p *prediction) { p.Output.SHA256 = "00" }) },
		"twice: the Idempotency-Key key-0": func(w *world) {
			w.predictions[repo.Key{Tenant: "acme", Kind: "predictions", ID: "pred_9"}] = prediction{ClientRef: "key-0"}
		},
		"half: the prediction pred_9 of refused": func(w *world) {
			w.predictions[repo.Key{Tenant: "acme", Kind: "predictions", ID: "pred_9"}] = prediction{ClientRef: "refused"}
		},
		"unwanted: nobody": func(w *world) {
			w.predictions[repo.Key{Tenant: "acme", Kind: "predictions", ID: "pred_9"}] = prediction{ClientRef: "x"}
		},
		"not ended: pred_0":                        func(w *world) { w.set(w.first, func(p *prediction) { p.Status = "running" }) },
		"outcome: pred_0":                          func(w *world) { w.set(w.first, func(p *prediction) { p.Status = "failed" }) },
		"outcome: pred_1":                          func(w *world) { w.set(w.cancelled, func(p *prediction) { p.Status = "succeeded" }) },
		"outcome: pred_0 (plain, , cancelled \"\"": func(w *world) { w.set(w.first, func(p *prediction) { p.Status = "cancelled" }) },
		"outcome: pred_2":                          func(w *world) { w.set(w.poison, func(p *prediction) { p.Status = "succeeded" }) },
		"two ends: the client of pred_0":           func(w *world) { w.first.Told = []string{"expired"} },
		"two ends: something":                      func(w *world) { w.repeat(w.first, "succeeded") },
		"mixed up: the input":                      func(w *world) { w.first.Input = json.RawMessage("7") },
		"half: pred_1 has cancelled":               func(w *world) { w.set(w.cancelled, func(p *prediction) { p.Output = inline(answer) }) },
		"result: of pred_0": func(w *world) {
			w.set(w.first, func(p *prediction) { p.Output = inline(strings.Replace(answer, "0.5", "0.6", 1)) })
		},
		"result: the client":                           func(w *world) { w.first.Output = json.RawMessage(strings.Replace(answer, "[1]", "[2]", 1)) },
		"twice: the event":                             func(w *world) { w.events = append(w.events, w.events[0]) },
		"disorder: the event 2":                        func(w *world) { w.events[0], w.events[1] = w.events[1], w.events[0] },
		"disorder: \"queued\" came after \"cancelling": func(w *world) { w.events[6].Type = "prediction.queued" },
		"half: pred_0 has recorded 3 events":           func(w *world) { w.events = w.events[1:] },
		"half: there are events of pred_0":             func(w *world) { delete(w.predictions, key(w.first)) },
		"half: its events end":                         func(w *world) { w.set(w.first, func(p *prediction) { p.Status = "expired" }) },
		"not counted: the attempt 1 came after":        func(w *world) { w.events[10].Data = json.RawMessage(`{"attempt":1}`) },
		"undelivered: the message":                     func(w *world) { w.pending["evt_9"] = repo.StreamEvents },
		"audit: root":                                  func(w *world) { w.report.Problems = []audit.Problem{{Code: "root"}} },
		"audit: the entry 0":                           func(w *world) { w.readModel["entry-0"] = 7 },
		"audit: the read model has 5":                  func(w *world) { w.readModel["x"] = 7 },
		"not once: the audit log has 2":                func(w *world) { w.log("predictions.submit", "pred_0") },
		"half: the cancellation of pred_0":             func(w *world) { w.first.Cancel = "succeeded" },
		"untold: the receiver":                         func(w *world) { w.Hooks = w.Hooks[1:] },
		"usage: acme has 1 predictions of  that have":  func(w *world) { w.usage[used{"acme", "", "succeeded"}] = 2 },
		"usage: 1 predictions of x":                    func(w *world) { w.usage[used{"acme", "x", "succeeded"}] = 1 },
		"quarantine: of iris":                          func(w *world) { w.quarantined = []string{"iris"} },
		"untold: the webhook":                          func(w *world) { w.deliveries[0].Status = "pending" },
	} {
		w := whole(t)
		harm(w)
		problems := w.check(t.Context())
		if !slices.ContainsFunc(problems, func(p string) bool { return strings.HasPrefix(p, want) }) {
			t.Errorf("%q is not found; what is: %q", want, problems)
		}
	}
}

// repeat adds an event behind the last one of a job.
func (w *world) repeat(j *ledger.Job, status string) {
	w.set(j, func(p *prediction) {
		p.sequence++
		w.events = append(w.events, repo.Message{ID: "again", Key: key(j), Sequence: p.sequence, Type: "prediction." + status})
	})
	w.Hooks = append(w.Hooks, ledger.Hook{ID: "again"})
}

// Totals of all hours and versions count together, and those of answers at once
// not at all.
func TestTotalsAddUp(t *testing.T) {
	sums := map[used]int64{}
	for _, text := range []string{`{"used":{"model":"iris","mode":"durable","succeeded":2}}`, `{"used":{"model":"iris","mode":"durable","succeeded":3,"expired":1}}`, `{"used":{"model":"iris","mode":"online","succeeded":9}}`} {
		var x total
		if err := json.Unmarshal([]byte(text), &x); err != nil {
			t.Fatal(err)
		}
		x.add("acme", sums)
	}
	if want := (map[used]int64{{"acme", "iris", "succeeded"}: 5, {"acme", "iris", "expired"}: 1}); !maps.Equal(sums, want) {
		t.Errorf("%v, expected %v", sums, want)
	}
}

// A cancellation that nothing is known of may have come to be, or not.
func TestCancellationsInDoubt(t *testing.T) {
	for _, status := range []string{"cancelled", "succeeded"} {
		if j := (&ledger.Job{Kind: ledger.Plain, Unwanted: true}); !may(j, status) {
			t.Errorf("what was perhaps cancelled may not have %s", status)
		}
	}
}

// What is still to be published again, and hints that lead nowhere, are nothing
// that waits.
func TestWhatMayBeInTheOutbox(t *testing.T) {
	w := whole(t)
	w.pending = map[string]string{w.events[0].ID: repo.StreamEvents, "entry-0": repo.StreamAudit, "evt_8": "jobs"}
	if problems := w.check(t.Context()); len(problems) > 0 {
		t.Errorf("%q", problems)
	}
}

func TestObjectsAreWhole(t *testing.T) {
	f := folder(t.TempDir())
	p := inline("text")
	p.Inline, p.Object = nil, "acme/predictions/x"
	if _, err := f.load(p); err == nil {
		t.Error("an object that is not there is loaded")
	}
	if err := os.MkdirAll(filepath.Join(string(f), "acme/predictions"), 0o755); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"text and its description": true, "tex": false, "test": false} {
		if err := os.WriteFile(filepath.Join(string(f), p.Object+"%"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if data, err := f.load(p); (err == nil && string(data) == "text") != want {
			t.Errorf("%q is loaded as %q, %v", text, data, err)
		}
	}
}

func TestDiffer(t *testing.T) {
	for got, want := range map[string]bool{
		answer: true, strings.Replace(answer, "0.5", "0.500001", 1): true, strings.Replace(answer, "0.5", "0.51", 1): false, strings.Replace(answer, "0.5", `"0.5"`, 1): false,
		strings.Replace(answer, "FP32", "FP64", 1): false, strings.Replace(answer, "[0.5]", "[]", 1): false, `{"outputs":[]}`: false, "no JSON": false,
	} {
		if d := differ([]byte(got), []byte(answer)); (d == "") != want {
			t.Errorf("%s differs from the answer: %q", got, d)
		}
	}
	if d := differ([]byte(`{"outputs":[]}`), []byte(`{"outputs":[]}`)); d == "" {
		t.Error("two answers without outputs are taken for alike")
	}
}
