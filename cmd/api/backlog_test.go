package main

import (
	"fmt"
	"strconv"
	"testing"
)

// Beyond the limit a durable prediction is refused whole, and told when to come
// again; the same request is accepted once there is room.
func TestTooManyWait(t *testing.T) {
	a, _ := startApp(t, "--job-max-queued-per-tenant=2", "--job-concurrency=0")
	base := "http://" + a.http.Addr() + "/v1"
	send := func(key string) (prediction, int, string) {
		p, resp := predict(t, "POST", base+"/models/iris/predictions", iris, "Prefer", "respond-async", "Idempotency-Key", key)
		return p, resp.StatusCode, resp.Header.Get("Retry-After")
	}
	var first prediction
	for i := range 2 {
		p, status, _ := send(fmt.Sprint("k", i))
		if status != 202 {
			t.Fatalf("%d %+v", status, p)
		}
		first = p
	}
	p, status, after := send("k2")
	if seconds, err := strconv.Atoi(after); status != 503 || p.Code != "tenant_predictions_full" || err != nil || seconds < 1 {
		t.Fatalf("%d %+v, retry after %q", status, p, after)
	}
	if again, status, _ := send("k1"); status != 202 || again.ID != first.ID {
		t.Errorf("what was accepted: %d %+v", status, again)
	}
	if p, resp := predict(t, "POST", base+"/predictions/"+first.ID+"/cancel", ""); resp.StatusCode != 200 {
		t.Fatalf("%+v", p)
	}
	if p, status, _ := send("k2"); status != 202 || p.ID == "" {
		t.Errorf("with room: %d %+v", status, p)
	}
}
