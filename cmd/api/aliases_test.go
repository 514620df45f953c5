package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// routed waits until a question to the model is answered by a version.
func routed(t *testing.T, url, version string, headers ...string) exchange {
	t.Helper()
	var got exchange
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		got = infer(t, "POST", url, []byte(fmt.Sprintf(predictionBody, "routed")), headers...)
		var p struct {
			Native string `json:"version"`
			OIP    string `json:"model_version"`
		}
		if got.StatusCode == 200 && json.Unmarshal(got.body, &p) == nil && p.Native+p.OIP == version {
			return got
		}
	}
	t.Fatalf("%s is not answered by version %s: %d %s", url, version, got.StatusCode, got.body)
	return got
}

// An alias routes requests of both protocols, at once and durably, and who made it
// what it is can be read; a protected one changes by two people.
func TestAliases(t *testing.T) {
	w := newWorld(t)
	base := "http://" + w.http.Addr()
	person := func(login, role string) string {
		t.Helper()
		w.must(t, 201, "POST", "/v1/users", `{"login":"`+login+`","password":"`+login+login+`","roles":["`+role+`"]}`, w.acme)
		return w.must(t, 201, "POST", "/v1/sessions", `{"tenant":"acme","login":"`+login+`","password":"`+login+login+`"}`, "")["token"].(string)
	}
	boss, other := person("engineer", "admin"), person("operator", "operator")
	_, engineer := w.issue(t, boss, "ml_engineer")
	_, another := w.issue(t, boss, "operator")
	path := "/v1/models/iris/aliases/champion"
	auth := []string{"Authorization", "Bearer " + engineer}

	routed(t, base+"/v2/models/iris/infer", "2", auth...)
	made := w.send(t, "PUT", path, `{"version":"1","protected":true}`, engineer, "If-None-Match", "*")
	if made.status != 200 || made.header.Get("ETag") != `"1"` {
		t.Fatalf("made: %d %s", made.status, made.body)
	}
	for _, url := range []string{"/v2/models/iris/infer", "/v2/models/iris/versions/champion/infer", "/v1/models/iris/predictions", "/v1/models/iris@champion/predictions"} {
		routed(t, base+url, "1", auth...)
	}
	routed(t, base+"/v1/models/iris@champion/predictions", "1", append(auth, "Prefer", "wait=20")...)
	routed(t, base+"/v1/models/iris:2/predictions", "2", auth...)

	proposed := w.send(t, "PUT", path, `{"version":"2"}`, engineer, "If-Match", `"1"`)
	if proposed.status != 202 || !strings.Contains(proposed.body, `"version":"1"`) || !strings.Contains(proposed.body, `"proposed":{"version":"2"`) {
		t.Fatalf("proposed: %d %s", proposed.status, proposed.body)
	}
	for _, c := range []struct {
		method, path, body, by, condition string
		status                            int
		code                              string
	}{
		{"POST", path + "/approve", "", engineer, `"2"`, 403, "approval_by_requester"},
		{"POST", path + "/approve", "", boss, `"2"`, 403, "approval_by_requester"},
		{"POST", path + "/approve", "", another, `"2"`, 403, "approval_by_requester"},
		{"POST", path + "/approve", "", other, `*`, 400, "etag_invalid"},
		{"POST", path + "/approve", "", other, `"1"`, 412, "version_mismatch"},
		{"POST", path + "/approve", "", other, "", 428, "precondition_required"},
		{"PUT", path, `{"version":"9"}`, engineer, `"2"`, 422, "version_missing"},
		{"PUT", path, `{"version":"stable"}`, engineer, `"2"`, 422, "version_missing"},
		{"PUT", "/v1/models/none/aliases/champion", `{"version":"1"}`, engineer, `"2"`, 404, "model_not_found"},
		{"DELETE", "/v1/models/iris/aliases/none", "", engineer, `*`, 404, "alias_not_found"},
	} {
		headers := []string{"If-Match", c.condition}
		if c.condition == "" {
			headers = nil
		}
		if got := w.send(t, c.method, c.path, c.body, c.by, headers...); got.status != c.status || codeOf(t, []byte(got.body)) != c.code {
			t.Errorf("%+v: %d %s", c, got.status, got.body)
		}
	}
	if got := w.send(t, "POST", "/v1/experiments", `{"model":"iris","arms":[{"name":"a","version":"1","weight":0},{"name":"b","version":"2","weight":10000}]}`, engineer); got.status != 409 || codeOf(t, []byte(got.body)) != "alias_protected" {
		t.Errorf("an experiment: %d %s", got.status, got.body)
	}
	w.must(t, 200, "POST", path+"/approve", "", other, "If-Match", `"2"`)
	routed(t, base+"/v2/models/iris/infer", "2", auth...)

	var history struct {
		Data []struct{ At, Version, By, Proposed_by string }
	}
	read := func(query string) {
		t.Helper()
		history.Data = nil
		if got := w.send(t, http.MethodGet, path+"/history"+query, "", engineer); json.Unmarshal([]byte(got.body), &history) != nil || got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	if read(""); len(history.Data) != 2 || history.Data[1].Proposed_by == "" || history.Data[1].Proposed_by == history.Data[1].By {
		t.Fatalf("%+v", history)
	}
	first, second := history.Data[0], history.Data[1]
	if read("?as_of=" + first.At); len(history.Data) != 1 || history.Data[0].Version != "1" {
		t.Errorf("at first: %+v", history)
	}
	if read("?as_of=" + second.At); len(history.Data) != 1 || history.Data[0].Version != "2" {
		t.Errorf("then: %+v", history)
	}
	if read("?as_of=2020-01-01T00:00:00Z"); len(history.Data) != 0 {
		t.Errorf("before: %+v", history)
	}
}
