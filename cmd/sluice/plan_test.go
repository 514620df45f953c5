package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// costs tells the run times of one model.
func costs(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/models/iris/costs", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"model":"iris","version":"1","max_rows":8,"executors":1,"cores":2,"spread":1.1,"costs":[{"rows":1,"beside":0,"run_ms":1},{"rows":8,"beside":0,"run_ms":4}]}`)
	})
}

func TestPlan(t *testing.T) {
	url := fake(t)
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"--model iris --rps 5000 --p99 50ms", exitOK, "NODES"},
		{"--model iris --rps 5000 --p99 50ms -o json", exitOK, `"nodes":4,`}, // 2,000/s a node at most, of which nine tenths; one spare
		{"--model iris --rps 5000 --p99 100us", exitFailed, "no number of nodes helps"},
		{"--model iris --rps 5000 --p99 50ms --rows 9", exitFailed, "1 to 8 rows"},
		{"--model iris --rps 5000", exitUsage, "p99"},
		{"--model iris --rps -5 --p99 50ms", exitUsage, "more than 0 requests"},
		{"--model iris --rps 5000 --p99 50ms --others 1", exitUsage, "below 1"},
		{"--model iris --rps 5000 --p99 50ms --spare 9223372036854775807", exitUsage, "ask for less"},
		{"--model= --rps 5000 --p99 50ms", exitUsage, "name of a model"},
		{"--model iris --rps 1e9 --p99 50ms", exitFailed, "ask for less"},
		{"--model iris --rps 5000 --p99 50ms -o json", exitOK, `"busy":0.`},
		{"--model nix --rps 5000 --p99 50ms", exitRefused, "404"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"plan", "--url", url}, strings.Fields(tt.args)...), nil, terminal{out: &out, err: &errs})
		if text := out.String() + errs.String(); code != tt.code || !strings.Contains(text, tt.want) {
			t.Errorf("%s: exit code %d, want %d: %s", tt.args, code, tt.code, text)
		}
	}
}
