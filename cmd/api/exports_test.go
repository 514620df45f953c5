package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/web/download"
)

// Durable predictions are exported to a file that is whole, is downloaded in ranges, and
// is not to be had any more once the export is deleted; the audit log has who
// downloaded it.
func TestExportOfJobs(t *testing.T) {
	a, _ := startApp(t, "--data-dir="+t.TempDir())
	base := "http://" + a.http.Addr()
	const made = 7
	for i := range made {
		got := infer(t, "POST", base+"/v1/models/iris/predictions", fmt.Appendf(nil, predictionBody, fmt.Sprint("=", i)), "Content-Type", "application/json", "Prefer", "respond-async")
		if got.StatusCode != 202 {
			t.Fatalf("%d %s", got.StatusCode, got.body)
		}
	}
	body := []byte(`{"name":"mine","dataset":"jobs","columns":["client_ref","model"],"filters":[{"column":"model","op":"eq","value":"iris"}],"format":"csv"}`)
	// What there is, is what there was when the millisecond began.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		got := infer(t, "POST", base+"/v1/exports/preview", body, "Content-Type", "application/json")
		if n := strings.Count(string(got.body), `"model":"iris"`); got.StatusCode == 200 && n == made {
			break
		} else if got.StatusCode != 200 || n > made || time.Now().After(deadline) {
			t.Fatalf("%d %s", got.StatusCode, got.body)
		}
	}
	asked := infer(t, "POST", base+"/v1/exports", body, "Content-Type", "application/json", "Idempotency-Key", "e1")
	self := base + asked.Header.Get("Location")
	if asked.StatusCode != 202 || self == base || asked.Header.Get("Retry-After") == "" {
		t.Fatalf("%d %s %v", asked.StatusCode, asked.body, asked.Header)
	}
	var view struct {
		ID, Status, SHA256 string
		Rows               int
	}
	for deadline := time.Now().Add(20 * time.Second); view.Status != "completed"; time.Sleep(5 * time.Millisecond) {
		if got := infer(t, "GET", self, nil); got.StatusCode != 200 || json.Unmarshal(got.body, &view) != nil || view.Status == "failed" || time.Now().After(deadline) {
			t.Fatalf("%d %s", got.StatusCode, got.body)
		}
	}
	file := infer(t, "GET", self+"/content", nil)
	sum := sha256.Sum256(file.body)
	digest := hex.EncodeToString(sum[:])
	records, err := csv.NewReader(bytes.NewReader(file.body)).ReadAll()
	if err != nil || view.Rows != made || len(records) != made+1 || records[1][0] != "'=0" || view.SHA256 != digest || file.Header.Get("Repr-Digest") != download.Digest(digest) {
		t.Errorf("%d rows, %q, %v, %v", view.Rows, records, file.Header, err)
	}
	part := infer(t, "GET", self+"/content", nil, "Range", "bytes=0-9", "If-Range", file.Header.Get("ETag"))
	if part.StatusCode != 206 || string(part.body) != "client_ref" || part.Header.Get("Repr-Digest") != file.Header.Get("Repr-Digest") {
		t.Errorf("%d %s %v", part.StatusCode, part.body, part.Header)
	}
	if got := infer(t, "GET", self+"/manifest", nil); got.StatusCode != 200 || !strings.Contains(string(got.body), digest) {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
	if got := infer(t, "GET", self+"/content?part=2", nil); got.StatusCode != 404 || !strings.Contains(string(got.body), "part_not_found") {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
	if got := infer(t, "POST", self+"/cancel", nil); got.StatusCode != 200 || !strings.Contains(string(got.body), `"completed"`) {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
	events := ""
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(events, "export.completed"); time.Sleep(5 * time.Millisecond) {
		if events = string(infer(t, "GET", base+"/v1/events?after=earliest&limit=500&kind=exports", nil).body); time.Now().After(deadline) {
			t.Fatal(events)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		entries := string(infer(t, "GET", base+"/v1/audit-entries?limit=500&filter=action:eq:exports.download", nil).body)
		if strings.Count(entries, view.ID) >= 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(entries)
		}
	}
	if got := infer(t, "DELETE", self, nil); got.StatusCode != 204 {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
	if got := infer(t, "GET", self+"/content", nil); got.StatusCode != 404 {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
}
