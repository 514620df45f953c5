package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// exchange is an answer of the Open Inference Protocol, or of the native API.
type exchange struct {
	*http.Response
	body []byte
}

func (e exchange) decode(t *testing.T) (p prediction) {
	t.Helper()
	if err := json.Unmarshal(e.body, &p); err != nil {
		t.Fatalf("%d %s: %v", e.StatusCode, e.body, err)
	}
	return p
}

func infer(t *testing.T, method, url string, body []byte, headers ...string) exchange {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return exchange{resp, text}
}

// binaryIris asks for both outputs of iris, in binary form.
func binaryIris() (body []byte, text string) {
	head := `{"id":"q1","inputs":[{"name":"input","shape":[2,4],"datatype":"FP32","parameters":{"binary_data_size":32}}],"outputs":[{"name":"label","parameters":{"binary_data":true}}]}`
	body = []byte(head)
	for _, v := range []float32{5.1, 3.5, 1.4, 0.2, 6.9, 3.1, 5.4, 2.1} {
		body = binary.LittleEndian.AppendUint32(body, math.Float32bits(v))
	}
	return body, strconv.Itoa(len(head))
}

const headerText = "Inference-Header-Content-Length"

// A request that prefers to be durable is answered, in the end, as it would have
// been at once: to the byte.
func TestProtocolDurably(t *testing.T) {
	a, _ := startApp(t)
	base := "http://" + a.http.Addr()
	body, text := binaryIris()
	asJSON := []byte(`{"inputs":[{"name":"input","shape":[1,4],"datatype":"FP32","data":[6.9,3.1,5.4,2.1]}]}`)
	for name, q := range map[string]struct {
		path string
		body []byte
		head []string
	}{
		"binary":          {"/v2/models/iris/infer", body, []string{headerText, text}},
		"binary, version": {"/v2/models/iris/versions/2/infer", body, []string{headerText, text}},
		"JSON":            {"/v2/models/iris/infer", asJSON, nil},
		"raw":             {"/v2/models/iris/infer", body[len(body)-16:], []string{headerText, "0"}},
	} {
		now := infer(t, "POST", base+q.path, q.body, q.head...)
		if now.StatusCode != 200 {
			t.Fatalf("%s at once: %d %s", name, now.StatusCode, now.body)
		}
		same := func(what string, got exchange) {
			t.Helper()
			if got.StatusCode != 200 || !bytes.Equal(got.body, now.body) || got.Header.Get(headerText) != now.Header.Get(headerText) || got.Header.Get("Content-Type") != now.Header.Get("Content-Type") {
				t.Errorf("%s, %s: %d %q %v, at once %q", name, what, got.StatusCode, got.body, got.Header, now.body)
			}
		}
		waited := infer(t, "POST", base+q.path, q.body, append(q.head, "Prefer", "wait=20")...)
		same("waited", waited)
		if waited.Header.Get("Preference-Applied") != "wait=20" || waited.Header.Get("Prediction-Id") == "" {
			t.Errorf("%s: %v", name, waited.Header)
		}
		accepted := infer(t, "POST", base+q.path, q.body, append(q.head, "Prefer", "respond-async", "Idempotency-Key", strconv.Quote("k-"+name))...)
		location := accepted.Header.Get("Location")
		if p := accepted.decode(t); accepted.StatusCode != 202 || location != "/v1/predictions/"+p.ID || accepted.Header.Get("Preference-Applied") != "respond-async" || accepted.Header.Get("Retry-After") == "" {
			t.Fatalf("%s: %d %s %v", name, accepted.StatusCode, accepted.body, accepted.Header)
		}
		again := infer(t, "POST", base+q.path, q.body, append(q.head, "Prefer", "respond-async", "Idempotency-Key", strconv.Quote("k-"+name))...)
		if again.Header.Get("Location") != location || again.Header.Get("Idempotent-Replayed") != "true" || !bytes.Equal(again.body, accepted.body) {
			t.Errorf("%s, again: %d %s", name, again.StatusCode, again.body)
		}
		if done := infer(t, "GET", base+location+"?wait=20", nil).decode(t); done.Status != "succeeded" || (now.Header.Get(headerText) != "") != (done.OutputURL != "") {
			t.Errorf("%s: %+v", name, done)
		}
		same("output", infer(t, "GET", base+location+"/output", nil))
	}
	other := infer(t, "POST", base+"/v2/models/iris/infer", body, headerText, text, "Prefer", "respond-async", "Idempotency-Key", "k-JSON")
	if other.StatusCode != 422 || !strings.Contains(string(other.body), `{"error":`) {
		t.Errorf("the key of another request: %d %s", other.StatusCode, other.body)
	}
}

// What cannot be answered is refused before it is accepted, in the protocol's form.
func TestProtocolRefusesDurably(t *testing.T) {
	a, _ := startApp(t)
	base := "http://" + a.http.Addr()
	body, text := binaryIris()
	for name, tc := range map[string]struct {
		path   string
		body   []byte
		head   []string
		status int
	}{
		"no such model":   {"/v2/models/none/infer", body, []string{"Prefer", "respond-async", headerText, text}, 404},
		"no such version": {"/v2/models/iris/versions/9/infer", body, []string{"Prefer", "respond-async", headerText, text}, 404},
		"cut off":         {"/v2/models/iris/infer", body[:len(body)-1], []string{"Prefer", "respond-async", headerText, text}, 400},
		"no header":       {"/v2/models/iris/infer", body, []string{"Prefer", "respond-async"}, 400},
		"impatient":       {"/v2/models/iris/infer", body, []string{"Prefer", "wait=0", headerText, text}, 400},
		"bad key":         {"/v2/models/iris/infer", body, []string{"Prefer", "respond-async", headerText, text, "Idempotency-Key", `"`}, 400},
		"bad time":        {"/v2/models/iris/infer", body, []string{"Prefer", "respond-async", headerText, text, "Cancel-After", "soon"}, 400},
		"wrong shape":     {"/v2/models/iris/infer", []byte(`{"inputs":[{"name":"input","shape":[1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}`), []string{"Prefer", "wait=20"}, 400},
		"nothing known":   {"/v2/models/iris/infer", body, []string{"Prefer", "return=minimal", headerText, text}, 200},
	} {
		got := infer(t, "POST", base+tc.path, tc.body, tc.head...)
		if got.StatusCode != tc.status || tc.status >= 400 && !strings.HasPrefix(string(got.body), `{"error":"`) {
			t.Errorf("%s: %d %s", name, got.StatusCode, got.body)
		}
	}
	if got := infer(t, "GET", fmt.Sprintf("%s/v1/predictions?status=succeeded", base), nil); !strings.Contains(string(got.body), `"data":[]`) {
		t.Errorf("something was accepted: %s", got.body)
	}
}
