package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Secrets of webhook endpoints are told once, and no file of the data folder has
// them: neither the database nor its log, the queue, what repeats answers to an
// Idempotency-Key, or the audit log.
func TestNoFileHoldsASecret(t *testing.T) {
	a, stop := startApp(t, "--model-control=none")
	post := func(path, body string) map[string]any {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+a.http.Addr()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", "once"+path)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		var m map[string]any
		if err != nil || resp.StatusCode/100 != 2 || json.Unmarshal(text, &m) != nil {
			t.Fatalf("%s: %d %s, %v", path, resp.StatusCode, text, err)
		}
		return m
	}
	made := post("/v1/webhook-endpoints", `{"url":"https://127.0.0.1:9/canary-address","events":["*"]}`)
	path := "/v1/webhook-endpoints/" + made["id"].(string)
	rotated := post(path+"/rotate-secret", `{}`)
	post(path+"/test", ``)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	hidden := map[string][]byte{}
	for name, m := range map[string]map[string]any{"first": made, "second": rotated} {
		text := strings.TrimPrefix(m["secret"].(string), "whsec_")
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) < 24 {
			t.Fatalf("the %s secret is %q, %v", name, text, err)
		}
		hidden[name], hidden[name+" as bytes"] = []byte(text), raw
	}
	witnesses := 0 // files that hold what lies beside the secrets
	err := filepath.WalkDir(a.cfg.DataDir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(file)
		for name, secret := range hidden {
			if bytes.Contains(content, secret) {
				t.Errorf("%s holds the %s secret", file, name)
			}
		}
		if bytes.Contains(content, []byte("canary-address")) && bytes.Contains(content, []byte(`"sealed":"`)) {
			witnesses++
		}
		return err
	})
	if err != nil || witnesses == 0 {
		t.Errorf("%d files hold the endpoint, %v", witnesses, err)
	}
}
