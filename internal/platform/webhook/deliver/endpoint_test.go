package deliver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/seal"
	"sluice/internal/platform/webhook"
	"sluice/internal/platform/webhook/send"
)

// always answers the same.
func always(r webhook.Result) func(context.Context, send.Message) webhook.Result {
	return func(context.Context, send.Message) webhook.Result { return r }
}

func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.endpoint("acme", "e", "thing.*")
		b.sender.answer = always(webhook.Result{Class: webhook.Refused})
		defer b.start(2)()
		began := time.Now()
		b.move("acme", "t")
		time.Sleep(80 * time.Hour)
		d := b.one("e")
		if d.Status != webhook.Failed || d.Attempt != 10 || len(d.Attempts) != 10 {
			t.Fatalf("%s after %+v", d.Status, d.Attempts)
		}
		at := began
		stamps := map[int64]bool{}
		for i, wait := range []string{"0s", "5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"} {
			w, err := time.ParseDuration(wait)
			p := b.sender.to("e")[i]
			// The reconciler may be as late as its round.
			if late := p.at.Sub(at) - w; err != nil || late < 0 || late > 32*time.Second || p.ID != d.Event || stamps[p.Time.Unix()] {
				t.Errorf("attempt %d was made %s after the one before, want %s, %v", i+1, p.at.Sub(at), wait, err)
			}
			at = p.at
			stamps[p.Time.Unix()] = true
		}
		if e := b.find("e"); e.Disabled {
			t.Error("disabled too early")
		}
	})
}

// Nothing but failures for days disables the endpoint, and tells so once.
func TestFailingEndpointsAreDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.cfg.DisableAfter = 20 * time.Hour
		b.endpoint("acme", "dead", "thing.*")
		b.endpoint("acme", "watch", "webhook_endpoint.disabled")
		b.sender.answer = func(_ context.Context, m send.Message) webhook.Result {
			if strings.Contains(m.URL, "dead") {
				return webhook.Result{Class: webhook.NoSuchHost}
			}
			return webhook.Result{Status: 200}
		}
		defer b.start(1)()
		for n := range 6 {
			b.move("acme", thingID(fmt.Sprint("t", n)))
			time.Sleep(4 * time.Hour)
		}
		e := b.find("dead")
		if !e.Disabled || e.Reason != webhook.Failing {
			t.Fatalf("%+v", e)
		}
		if d := b.one("watch"); d.Status != webhook.Delivered || !strings.Contains(string(d.Body), `"event":{"reason":"failing"}`) {
			t.Errorf("%+v", d)
		}
		time.Sleep(25 * time.Hour)
		for _, d := range b.deliveries("acme", "dead") {
			if !d.Status.Final() || d.Status == webhook.Delivered {
				t.Errorf("%+v", d)
			}
		}
		if n := value(t, b, "sluice_webhook_endpoints_disabled_total"); n != 1 {
			t.Errorf("counted %v", n)
		}
		b.move("acme", "late")
		time.Sleep(time.Minute)
		if posts := b.sender.to("dead"); slices.ContainsFunc(posts, func(p post) bool { return strings.Contains(string(p.Body), "late") }) {
			t.Error("a disabled endpoint is called")
		}
	})
}

func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.endpoint("acme", "e", "thing.*")
		b.sender.answer = always(webhook.Result{Status: 410, Class: webhook.GoneForGood})
		defer b.start(1)()
		b.move("acme", "t")
		time.Sleep(time.Hour)
		if e, d := b.find("e"), b.one("e"); !e.Disabled || e.Reason != webhook.Gone || d.Status != webhook.Failed || d.Attempt != 1 {
			t.Errorf("%+v, %+v", e, d)
		}
	})
}

// What a receiver asks for is given: nothing is sent until Retry-After is over, and
// what waits meanwhile uses no attempts up.
func TestThrottling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.endpoint("acme", "e", "thing.*")
		b.endpoint("acme", "other", "thing.*")
		began := time.Now()
		b.sender.answer = func(_ context.Context, m send.Message) webhook.Result {
			if strings.Contains(m.URL, "other") || time.Since(began) > time.Minute {
				return webhook.Result{Status: 200}
			}
			return webhook.Result{Status: 429, Class: webhook.Throttled, RetryAfter: 10 * time.Minute}
		}
		defer b.start(2)()
		b.move("acme", "t1")
		time.Sleep(time.Second)
		for range 20 {
			b.move("acme", "t2")
		}
		time.Sleep(9 * time.Minute)
		if n, others := len(b.sender.to("//e.")), len(b.sender.to("other")); n != 1 || others != 21 {
			t.Errorf("sent %d to the one that throttles, %d to the other", n, others)
		}
		time.Sleep(5 * time.Minute)
		for _, d := range b.deliveries("acme", "e") {
			if d.Status != webhook.Delivered || d.Subject == "t2" && d.Attempt != 1 || d.Subject == "t1" && d.Attempt != 2 {
				t.Errorf("%s is %s after %+v", d.Subject, d.Status, d.Attempts)
			}
		}
	})
}

// A short pause is waited for by the process itself.
func TestDefaultPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.endpoint("acme", "e", "thing.*")
		began := time.Now()
		b.sender.answer = func(context.Context, send.Message) webhook.Result {
			if time.Since(began) > 10*time.Second {
				return webhook.Result{Status: 200}
			}
			return webhook.Result{Status: 503, Class: webhook.Throttled}
		}
		defer b.start(1)()
		b.move("acme", "t")
		time.Sleep(webhook.DefaultPause + 2*time.Second)
		if d := b.one("e"); d.Status != webhook.Delivered || d.Attempt != 2 {
			t.Errorf("%s after %+v", d.Status, d.Attempts)
		}
	})
}

// A replay sends the same again, to whatever the endpoint is by now; a test event
// goes to one endpoint only.
func TestReplayAndTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.endpoint("acme", "e", "thing.*")
		b.endpoint("acme", "other", "*")
		b.sender.answer = func(context.Context, send.Message) webhook.Result {
			time.Sleep(100 * time.Millisecond)
			return webhook.Result{Status: 200}
		}
		defer b.start(1)()
		b.move("acme", "t")
		time.Sleep(time.Second)
		id := b.one("e").ID
		resend := func() error {
			return b.store.Do(t.Context(), repo.Scope{Tenant: "acme"}, func(ctx context.Context, tx *repo.Tx) error { _, err := webhook.Resend(ctx, tx, id); return err })
		}
		if err := resend(); err != nil {
			t.Fatal(err)
		}
		if err := resend(); fault.CodeOf(err) != "delivery_pending" {
			t.Errorf("while it is on its way: %v", err)
		}
		time.Sleep(time.Second)
		posts := b.sender.to("//e.")
		if d := b.one("e"); len(posts) != 2 || posts[0].ID != posts[1].ID || string(posts[0].Body) != string(posts[1].Body) || d.Status != webhook.Delivered || len(d.Attempts) != 2 {
			t.Errorf("%+v", posts)
		}
		others := len(b.sender.to("other"))
		b.do("acme", func(ctx context.Context, tx *repo.Tx) error { _, err := webhook.Test(ctx, tx, "e"); return err })
		time.Sleep(time.Second)
		if posts := b.sender.to("//e."); len(posts) != 3 || !strings.Contains(string(posts[2].Body), `"type":"webhook.test"`) || len(b.sender.to("other")) != others {
			t.Errorf("%+v", posts)
		}
		b.do("acme", func(ctx context.Context, tx *repo.Tx) error {
			_, err := webhook.Endpoints.Update(ctx, tx, "e", func(e *webhook.Endpoint) error { return e.Set(e.URL, e.Events, true) })
			return err
		})
		if err := resend(); fault.CodeOf(err) != "webhook_disabled" {
			t.Errorf("disabled: %v", err)
		}
		err := b.store.Do(t.Context(), repo.Scope{Tenant: "rival"}, func(ctx context.Context, tx *repo.Tx) error { _, err := webhook.Resend(ctx, tx, id); return err })
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("by another tenant: %v", err)
		}
	})
}

// A delivery whose endpoint is disabled or deleted before it was sent is not sent;
// one that waits is signed by the secret of the day.
func TestEndpointsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		for _, id := range []webhook.EndpointID{"disabled", "deleted", "rotated"} {
			b.endpoint("acme", id, "thing.*")
		}
		b.sender.answer = always(webhook.Result{Status: 500, Class: webhook.BadStatus})
		defer b.start(1)()
		b.move("acme", "t")
		time.Sleep(time.Minute)
		b.do("acme", func(ctx context.Context, tx *repo.Tx) error {
			_, err := webhook.Endpoints.Update(ctx, tx, "disabled", func(e *webhook.Endpoint) error { return e.Set(e.URL, e.Events, true) })
			return err
		})
		b.do("acme", func(ctx context.Context, tx *repo.Tx) error { return webhook.Endpoints.Delete(ctx, tx, "deleted") })
		fresh := secret.Of("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
		b.do("acme", func(ctx context.Context, tx *repo.Tx) error {
			_, err := webhook.Endpoints.Update(ctx, tx, "rotated", func(e *webhook.Endpoint) error { e.Rotate(ring, fresh, tx.Now(), time.Hour); return nil })
			return err
		})
		before := len(b.sender.to("example"))
		time.Sleep(10 * time.Minute)
		for _, id := range []webhook.EndpointID{"disabled", "deleted"} {
			if d := b.one(id); d.Status != webhook.Cancelled {
				t.Errorf("%s: %+v", id, d)
			}
		}
		posts := b.sender.to("example")[before:]
		if len(posts) != 1 || strings.Count(posts[0].Signature, "v1,") != 2 {
			t.Errorf("%+v", posts)
		}
	})
}

// A process that has a new sealing key brings the secrets under it, and signs
// with them from the first webhook on; the old key is not needed any more then.
func TestSealingKeysAreRotated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.endpoint("acme", "e", "thing.*")
		fresh := seal.NewKey()
		for _, keys := range []string{fresh + ringText, fresh} {
			b.keys = ringOf(keys)
			stop := b.start(1)
			b.move("acme", "t")
			time.Sleep(time.Minute)
			stop()
		}
		for _, d := range b.deliveries("acme", "e") {
			if d.Status != webhook.Delivered {
				t.Errorf("%+v", d)
			}
		}
		if posts := b.sender.to("e.example"); len(posts) != 2 {
			t.Errorf("%+v", posts)
		}
	})
}

// What a process has begun and not ended, since it was cut off, another ends.
func TestDeadProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.endpoint("acme", "e", "thing.*")
		stop := b.start(1)
		time.Sleep(time.Second)
		hang := make(chan struct{})
		b.sender.answer = func(context.Context, send.Message) webhook.Result { <-hang; return webhook.Result{Status: 200} }
		b.move("acme", "t")
		time.Sleep(time.Second)
		d := b.one("e")
		if d.Status != webhook.Sending || d.Attempt != 1 {
			t.Fatalf("%+v", d)
		}
		b.sender.mu.Lock()
		b.sender.answer = nil
		b.sender.mu.Unlock()
		ended := make(chan struct{})
		go func() {
			stop() // but for the attempt that hangs, as if the process was dead
			close(ended)
		}()
		time.Sleep(time.Second)
		second := b.start(1)
		time.Sleep(3 * time.Minute)
		d = b.one("e")
		if d.Status != webhook.Delivered || d.Attempt != 2 || d.Attempts[0].Error != webhook.Interrupted {
			t.Errorf("%s after %+v", d.Status, d.Attempts)
		}
		close(hang) // too late: its outcome does not count
		time.Sleep(time.Second)
		if after := b.one("e"); after.Version != d.Version {
			t.Errorf("the outcome of an attempt that is outdated counts: %+v", after)
		}
		second()
		<-ended
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.cfg.Reconcile = 0 // the default
		b.endpoint("acme", "good", "thing.*")
		b.endpoint("acme", "bad", "thing.*")
		b.sender.answer = func(_ context.Context, m send.Message) webhook.Result {
			if strings.Contains(m.URL, "bad") {
				return webhook.Result{Class: webhook.Forbidden, Duration: time.Second}
			}
			return webhook.Result{Status: 200, Duration: time.Second}
		}
		defer b.start(1)()
		b.move("acme", "t")
		time.Sleep(3 * time.Minute)
		for name, want := range map[string]float64{
			"sluice_webhook_deliveries_total": 2, "sluice_webhook_attempts_total delivered": 1, "sluice_webhook_attempts_total forbidden": 2,
			"sluice_webhook_pending": 1, "sluice_webhook_waiting": 0, "sluice_webhook_attempt_seconds": 3,
		} {
			if got := value(t, b, name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		if _, err := New(b.store, b.queue, b.epoch, b.sender, ring, b.all, Config{Metrics: b.registry}); err == nil {
			t.Error("metrics are registered twice")
		}
	})
}

// value reads a metric, by its name and perhaps the value of its label.
func value(t *testing.T, b *bed, name string) (sum float64) {
	t.Helper()
	name, label, _ := strings.Cut(name, " ")
	families, err := prometheus.Gatherer(b.registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if label == "" || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == label }) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}
