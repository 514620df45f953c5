package main

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"sluice/internal/inference/job"
	"sluice/internal/platform/access"
	"sluice/internal/platform/repo"
)

// write changes the store of a program as another process might.
func write(t *testing.T, a *app, tenant string, f func(ctx context.Context, tx *repo.Tx) error) {
	t.Helper()
	if err := a.node.Store.Do(t.Context(), repo.Scope{Tenant: tenant, Actor: "system"}, f); err != nil {
		t.Fatal(err)
	}
}

// A prediction that ran out of attempts is listed with its reason, and replayed.
func TestDeadLetters(t *testing.T) {
	a, _ := startApp(t)
	base := "http://" + a.http.Addr() + "/v1/predictions"
	id := "pred_0123456789abcdef0123456789abcdef"
	write(t, a, access.DefaultTenant, func(ctx context.Context, tx *repo.Tx) error {
		const flower = `{"inputs":[{"name":"input","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}`
		p := &job.Prediction{Model: "iris", Input: job.Payload{Inline: json.RawMessage(flower), Bytes: int64(len(flower))}}
		p.ID = job.ID(id)
		one := job.Timing{Lease: time.Second, Notice: time.Second, Keep: time.Hour, Attempts: 1}
		p.Accept(tx.Now().Add(-2*time.Second), one)
		if _, err := p.Start("w", "2", tx.Now().Add(-2*time.Second), one); err != nil {
			return err
		}
		if _, err := p.Start("w", "2", tx.Now(), one); err != nil {
			return err
		}
		return job.Predictions.Add(ctx, tx, p)
	})
	var list struct {
		Data []struct {
			ID         string
			DeadLetter bool `json:"dead_letter"`
			Error      struct{ Code string }
			URLs       struct{ Replay string }
		}
	}
	status, text := fetch(t, "GET", base+"?dead_letter=true", "")
	if err := json.Unmarshal([]byte(text), &list); err != nil || status != 200 || len(list.Data) != 1 || list.Data[0].ID != id ||
		!list.Data[0].DeadLetter || list.Data[0].Error.Code != "attempts_exhausted" || list.Data[0].URLs.Replay != "/v1/predictions/"+id+"/replay" {
		t.Fatalf("%d %s, %v", status, text, err)
	}
	if p, resp := predict(t, "POST", base+"/"+id+"/replay", ""); resp.StatusCode != http.StatusAccepted || p.Status != "queued" || p.Attempts != 0 {
		t.Errorf("replayed: %d %+v", resp.StatusCode, p)
	}
	if p, _ := predict(t, "GET", base+"/"+id+"?wait=20", ""); p.Status != "succeeded" || p.Attempts != 1 || p.Version != "2" {
		t.Errorf("its second life: %+v", p)
	}
	if p, resp := predict(t, "POST", base+"/"+id+"/replay", ""); resp.StatusCode != http.StatusConflict || p.Code != "not_a_dead_letter" {
		t.Errorf("replayed again: %d %+v", resp.StatusCode, p)
	}
}

// A version in quarantine takes no durable predictions until it is released.
func TestQuarantine(t *testing.T) {
	a, _ := startApp(t)
	base := "http://" + a.http.Addr() + "/v1"
	write(t, a, "", func(ctx context.Context, tx *repo.Tx) error {
		q := &job.Quarantine{Model: "iris", Version: "2"}
		q.ID = "qtn_1"
		for i, id := range []job.ID{"pred_1", "pred_2"} {
			q.Count(job.Death{Prediction: id, Worker: "w", At: tx.Now().Add(time.Duration(i) * time.Hour)}, 2, time.Minute, tx.Now())
		}
		return job.Quarantines.Add(ctx, tx, q)
	})
	url := base + "/models/iris/predictions"
	if p, resp := predict(t, "POST", url, iris, "Prefer", "respond-async"); resp.StatusCode != 503 || p.Code != "model_quarantined" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("in quarantine: %d %+v %v", resp.StatusCode, p, resp.Header)
	}
	if p, resp := predict(t, "POST", url, iris); resp.StatusCode != 200 {
		t.Errorf("at once: %d %+v", resp.StatusCode, p)
	}
	var list struct {
		Data []struct {
			ID, Model string
			Version   string `json:"model_version"`
			Active    bool
			Deaths    int
		}
	}
	status, text := fetch(t, "GET", base+"/quarantines?filter=active:eq:true", "")
	if err := json.Unmarshal([]byte(text), &list); err != nil || status != 200 || len(list.Data) != 1 || list.Data[0].Model != "iris" || list.Data[0].Version != "2" || list.Data[0].Deaths != 2 {
		t.Fatalf("%d %s, %v", status, text, err)
	}
	if status, text := fetch(t, "POST", base+"/quarantines/qtn_1/release", ""); status != 200 {
		t.Errorf("released: %d %s", status, text)
	}
	if p, resp := predict(t, "POST", url, iris, "Prefer", "wait=20"); resp.StatusCode != 200 || p.Status != "succeeded" {
		t.Errorf("released: %d %+v", resp.StatusCode, p)
	}
	if status, _ := fetch(t, "POST", base+"/quarantines/qtn_none/release", ""); status != 404 {
		t.Errorf("what is not there: %d", status)
	}
}
