package admin

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/webhook"
)

// What is sent to endpoints can be tested, looked up, replayed and signed anew; by
// whom it belongs to.
func TestWebhookDeliveries(t *testing.T) {
	b := start(t)
	acme, rival := b.tenant("acme"), b.tenant("rival")
	hook := b.send("POST", "/v1/webhook-endpoints", `{"url":"https://example.com/x","events":["batch.*"]}`, acme).ok(201)
	path := "/v1/webhook-endpoints/" + hook.field("id")

	first := b.send("POST", path+"/rotate-secret", `{"overlap_seconds":60}`, acme).ok(200)
	second := b.send("POST", path+"/rotate-secret", `{}`, acme).ok(200)
	secrets := map[string]bool{hook.field("secret"): true, first.field("secret"): true, second.field("secret"): true}
	for secret := range secrets {
		if len(secrets) != 3 || !strings.HasPrefix(secret, "whsec_") {
			t.Errorf("secrets %v", secrets)
		}
	}
	e, err := webhook.Endpoints.Get(t.Context(), b.store.Read(repo.Scope{Tenant: "acme"}), webhook.EndpointID(hook.field("id")))
	if text, opened := b.seals.Open(e.Secrets[2].Sealed, "webhook_endpoints/"+hook.field("id")); opened != nil || text.Reveal() != second.field("secret") {
		t.Errorf("%v, %v", text, opened)
	}
	if err != nil || len(e.Secrets) != 3 || e.Secrets[0].Until.Sub(e.UpdatedAt) > time.Minute || e.Secrets[1].Until.Sub(e.UpdatedAt) < 23*time.Hour {
		t.Errorf("%+v, %v", e, err)
	}
	if b.send("GET", path, "", acme).ok(200).field("secret") != "" {
		t.Error("a secret is shown again")
	}
	b.send("POST", path+"/rotate-secret", `{"overlap_seconds":-1}`, acme).refused(422, "validation_failed")

	made := b.send("POST", path+"/test", "", acme).ok(202)
	one := "/v1/webhook-deliveries/" + made.field("id")
	if made.field("status") != "pending" || made.field("type") != "webhook.test" || made.field("endpoint") != hook.field("id") || !strings.HasPrefix(made.field("event"), "evt_") || made.field("next_attempt_at") == "" {
		t.Errorf("%s", made.text)
	}
	b.send("POST", one+"/replay", "", acme).refused(409, "delivery_pending")
	b.finish(webhook.DeliveryID(made.field("id")))
	done := b.send("GET", one, "", acme).ok(200)
	if done.field("status") != "failed" || !strings.Contains(done.text, `"duration_ms":1500,"status":410,"error":"gone"}`) || done.field("expires_at") == "" || strings.Contains(done.text, "next_attempt") {
		t.Errorf("%s", done.text)
	}
	for filter, want := range map[string]int{
		"endpoint:eq:" + hook.field("id"): 1, "status:eq:failed": 1, "status:eq:delivered": 0, "event:eq:" + made.field("event"): 1, "event:eq:evt_1": 0, "type:prefix:webhook.": 1, "created:gt:2020-01-01T00:00:00Z": 1,
	} {
		var page struct{ Data []DeliveryView }
		got := b.send("GET", "/v1/webhook-deliveries?order=-created&filter="+filter, "", acme).ok(200)
		if err := json.Unmarshal([]byte(got.text), &page); err != nil || len(page.Data) != want {
			t.Errorf("%s finds %s", filter, got.text)
		}
	}
	if b.send("POST", one+"/replay", "", acme).ok(202).field("status") != "pending" {
		t.Error("not replayed")
	}

	_, viewer := b.key(acme, `"viewer"`)
	b.send("GET", one, "", viewer).ok(200)
	for _, post := range []string{one + "/replay", path + "/test", path + "/rotate-secret"} {
		b.send("POST", post, "{}", viewer).refused(403, "permission_missing")
		b.send("POST", post, "{}", rival).refused(404, "not_found")
	}
	b.send("GET", one, "", rival).refused(404, "not_found")
	b.send("PATCH", path, `{"disabled":true}`, acme, change, "*").ok(200)
	b.send("POST", path+"/test", "", acme).refused(409, "webhook_disabled")
	b.wasAudited("ok webhook_endpoints.rotate_secret acme")
	b.wasAudited("ok webhook_endpoints.test acme")
	b.wasAudited("ok webhook_deliveries.replay acme")
	b.wasAudited("failed webhook_deliveries.replay acme delivery_pending")

	// Secrets go to their holder, and nowhere else.
	for secret := range secrets {
		if strings.Contains(b.log.text(), secret) {
			t.Error("a secret is in the log")
		}
		for _, m := range b.messages() {
			if strings.Contains(string(m.Data), secret) {
				t.Errorf("a secret is in the message %s", m.Type)
			}
		}
	}
}

// finish ends a delivery as if its receiver was gone.
func (b *bed) finish(id webhook.DeliveryID) {
	b.t.Helper()
	err := b.store.Do(b.t.Context(), repo.Scope{Tenant: "acme"}, func(ctx context.Context, tx *repo.Tx) error {
		_, err := webhook.Deliveries.Update(ctx, tx, id, func(d *webhook.Delivery) error {
			if _, err := d.Start(tx.Now()); err != nil {
				return err
			}
			return d.Finish(d.Attempt, webhook.Result{Status: 410, Class: webhook.GoneForGood, Duration: 1500 * time.Millisecond}, tx.Now(), 0)
		})
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}
