package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/web"
)

// fixture says how the walk makes a thing of a resource, and changes it.
type fixture struct {
	create string // body, with %s for a name; empty: nobody makes one by itself
	post   string // where it is made, if not at the resource
	status int    // of having made it, if not 201
	change string // body
	filter string // a filter by the name
	chosen bool   // the client chooses the id
	stays  bool   // it is not deleted by clients
	moves  bool   // it changes by itself
	// await waits for a thing that the program makes.
	await func(w *world, t *testing.T) string
}

// fixtures has every resource of the native API that belongs to tenants.
var fixtures = map[string]fixture{
	"/v1/api-keys":           {create: `{"name":"%s","roles":["viewer"]}`, change: `{"name":"taken"}`, filter: "name:eq:%s"},
	"/v1/users":              {create: `{"login":"%s","password":"correct horse battery","roles":["viewer"]}`, change: `{"disabled":true}`, filter: "login:eq:%s"},
	"/v1/webhook-endpoints":  {create: webhookBody, change: `{"disabled":true}`, filter: "url:prefix:https://127.0.0.1:9/%s"},
	"/v1/webhook-deliveries": {await: awaitDelivery, moves: true},
	"/v1/feature-flags":      {create: `{"key":"%s"}`, change: `{"enabled":true}`, chosen: true},
	"/v1/feature-views":      {create: `{"name":"%s","features":[{"name":"n","datatype":"FP32"}]}`, change: `{"description":"taken"}`, chosen: true},
	"/v1/predictions":        {create: predictionBody, post: "/v1/models/iris/predictions", status: 202, stays: true, moves: true},
	"/v1/uploads":            {create: `{"name":"%s","content_type":"text/csv"}`, change: "a,b", moves: true},
	"/v1/batches":            {await: awaitBatch, stays: true, moves: true},
	"/v1/exports":            {create: `{"name":"%s","dataset":"usage","format":"csv"}`, status: 202, moves: true},
	"/v1/evaluations":        {create: `{"name":"%s","candidate":"1","source":{"hours":1}}`, post: "/v1/models/iris/evaluations", status: 202, moves: true},
	"/v1/export-schedules":   {create: `{"name":"%s","cron":"0 0 1 1 *","export":{"dataset":"usage","format":"csv"}}`, change: `{"paused":true}`},
	"/v1/audit-entries":      {await: awaitKeyEntry, moves: true, filter: "kind:eq:api_keys"},
}

const (
	webhookBody    = `{"url":"https://127.0.0.1:9/%s","events":["*"]}`
	predictionBody = `{"client_ref":"%s","inputs":[{"name":"input","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}`
)

func awaitKeyEntry(w *world, t *testing.T) string {
	t.Helper()
	return w.awaitOne(t, w.acme, "/v1/audit-entries", "kind:eq:api_keys", func(map[string]any) bool { return true })
}

// awaitBatch has a batch of acme's run to its end.
func awaitBatch(w *world, t *testing.T) string {
	t.Helper()
	upload := w.must(t, 201, "POST", "/v1/uploads", `{"content_type":"text/csv"}`, w.acme)["id"].(string)
	w.must(t, 200, "PATCH", "/v1/uploads/"+upload, "input\n\"[1,2,3,4]\"\n", w.acme, "Content-Type", "application/partial-upload", "Upload-Offset", "0", "Upload-Complete", "?1")
	const body = `{"input":{"upload_id":"%s"},"format":"csv","model":"iris","output":{"format":"csv"}}`
	w.must(t, 202, "POST", "/v1/batches", fmt.Sprintf(body, upload), w.acme) // for a second page
	id := w.must(t, 202, "POST", "/v1/batches", fmt.Sprintf(body, upload), w.acme)["id"].(string)
	w.must(t, 404, "POST", "/v1/batches", fmt.Sprintf(body, upload), w.rival) // another's file is none
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if b := w.must(t, 200, "GET", "/v1/batches/"+id, "", w.acme); b["status"] == "completed" {
			return id
		} else if time.Now().After(end) {
			t.Fatalf("it does not end: %v", b)
		}
	}
}

// awaitDelivery has something happen that a webhook of acme's is told of.
func awaitDelivery(w *world, t *testing.T) string {
	t.Helper()
	id := w.must(t, 201, "POST", "/v1/webhook-endpoints", fmt.Sprintf(webhookBody, "deliveries"), w.acme)["id"].(string)
	for range 2 {
		w.issue(t, w.acme, "viewer")
	}
	return w.awaitOne(t, w.acme, "/v1/webhook-deliveries", "endpoint:eq:"+id, func(map[string]any) bool { return true })
}

// where a route makes things of another resource than its path says.
var madeAt = map[string]string{"/v1/models/:model/predictions": "/v1/predictions", "/v1/models/:model/evaluations": "/v1/evaluations"}

// ofEverybody has what belongs to the whole server: models do, their quarantines and
// aliases. Who may use them sees the same, whatever the tenant.
var ofEverybody = []string{"/v1/quarantines", "/v1/models/:model/aliases", "/v1/models/:model/versions", "/v1/experiments", "/v1/releases", "/v2", "/v2/models", "/v1/models/:model/stream", "/v2/repository", "/v2/systemsharedmemory", "/v2/cudasharedmemory", "/v2/trace", "/v2/logging"}

// ofModels is of everybody, too: alone, since what is below a model may be a tenant's.
var ofModels = []string{"/v1/models", "/v1/models/:model"}

// ofPlatform has what shows more than one tenant, for which a tenant's
// administrator has no permission.
var ofPlatform = []string{"/v1/tenants", "/v1/audit-log"}

// ofCaller has what is only about who asks, or their tenant as a whole. Whether
// streams of predictions are kept apart is tested where they are made, in package
// api: none lasts for a walk.
var ofCaller = []string{"/v1/me", "/v1/roles", "/v1/permissions", "/v1/usage", "/v1/streams", "/v1/exports/preview", "/v1/export-datasets", "/v1/prediction-log", "/v1/features", "/v1/feedback", "/v1/models/:model/statistics", "/v1/models/:model/costs"}

// ofEvents has what shows what happened in a tenant.
var ofEvents = []string{"/v1/events", "/v1/models/:model/predictions/events"}

// among says whether a route is one of these resources', or below one.
func among(paths []string, r web.Route) bool {
	return slices.ContainsFunc(paths, func(p string) bool { return r.Path == p || strings.HasPrefix(r.Path, p+"/") })
}

// theirs are things of acme, by resource.
type theirs struct {
	live, gone, ghost string            // ids; ghost is of the same form, and nobody's
	name              string            // of the live one
	before            map[string]answer // what acme sees at a path
}

// walkTenants asks for acme's things as rival: no answer may tell that they are
// there.
func (w *world) walkTenants(t *testing.T) {
	things := map[string]*theirs{}
	for path, f := range fixtures {
		things[path] = w.furnish(t, path, f)
	}
	s := &spy{world: w, sent: map[string]bool{}}
	for _, th := range things {
		s.secrets = append(s.secrets, th.live, th.gone, th.name)
	}
	var later []func()
	for _, r := range w.http.Routes() {
		collection, _, single := strings.Cut(r.Path, "/:")
		if made := madeAt[r.Path]; made != "" {
			collection, single = made, false
		}
		th, f := things[collection], fixtures[collection]
		switch {
		case r.Permission == web.Public || among(ofEverybody, r) || slices.Contains(ofModels, r.Path):
		case among(ofPlatform, r):
			if got := s.ask(t, r.Method, at(r, "acme"), ""); got.status != http.StatusForbidden {
				t.Errorf("%s %s answers the administrator of a tenant %d %s", r.Method, r.Path, got.status, got.body)
			}
		case among(ofEvents, r):
			s.follow(t, r, things)
		case among(ofCaller, r):
			s.ask(t, r.Method, r.Path, "")
		case th == nil:
			t.Errorf("%s %s has no fixture: say in fixtures how one of its things is made, or why it needs none", r.Method, r.Path)
		case single:
			later = append(later, func() { s.compare(t, r, f, th) })
		case r.Method == http.MethodPost && f.create == "": // see its await
		case r.Method == http.MethodPost:
			later = append(later, func() { s.repeat(t, collection, f) })
		default: // first, while rival's own audit entries name nothing of acme's
			s.list(t, r, f, th)
		}
	}
	for _, walk := range later {
		walk()
	}
	for path, th := range things {
		for at, before := range th.before {
			if now := w.send(t, "GET", at, "", w.acme); now.status != before.status || !fixtures[path].moves && before.status == 200 && now.body != before.body {
				t.Errorf("rival has changed %s from %s to %s", at, before.body, now.body)
			}
		}
	}
}

// furnish makes a thing of acme's, one that is deleted again, and more for a
// second page.
func (w *world) furnish(t *testing.T, path string, f fixture) *theirs {
	t.Helper()
	th := &theirs{name: "acme-" + strings.ReplaceAll(path[len("/v1/"):], "-", ""), before: map[string]answer{}}
	switch {
	case f.await != nil:
		th.live = f.await(w, t)
		th.gone = th.live
	default:
		th.live = w.make(t, path, f, th.name)
		th.gone = w.make(t, path, f, th.name+"-gone")
		if !f.stays {
			w.must(t, 204, "DELETE", path+"/"+th.gone, "", w.acme, "If-Match", "*")
		}
		w.make(t, path, f, th.name+"-more")
	}
	th.ghost = "z" + th.live[1:]
	if prefix, digits, ok := strings.Cut(th.live, "_"); ok {
		th.ghost = prefix + "_" + strings.NewReplacer("0", "1", "1", "0").Replace(digits)
	}
	for _, id := range []string{th.live, th.gone} {
		th.before[path+"/"+id] = w.send(t, "GET", path+"/"+id, "", w.acme)
	}
	return th
}

// make makes a thing of acme's, and returns its id.
func (w *world) make(t *testing.T, path string, f fixture, name string) string {
	t.Helper()
	return w.must(t, cmp.Or(f.status, 201), "POST", cmp.Or(f.post, path), fmt.Sprintf(f.create, name), w.acme, "Prefer", "respond-async")["id"].(string)
}

// awaitOne waits until a list has a thing like that, which comes through the
// queue, and returns its id.
func (w *world) awaitOne(t *testing.T, credential, path, filter string, like func(map[string]any) bool) string {
	t.Helper()
	var page struct{ Data []map[string]any }
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		got := w.send(t, "GET", path+"?limit=500&filter="+url.QueryEscape(filter), "", credential)
		if err := json.Unmarshal([]byte(got.body), &page); err != nil || got.status != 200 {
			t.Fatalf("%d %s: %v", got.status, got.body, err)
		}
		for _, e := range page.Data {
			if like(e) {
				return e["id"].(string)
			}
		}
	}
	t.Fatalf("%s has nothing like that for %s, but %v", path, filter, page.Data)
	return ""
}

// spy is rival, who knows the ids of acme's things.
type spy struct {
	*world
	secrets []string        // what only acme should see
	sent    map[string]bool // secrets that rival has sent itself
}

// ask sends a request as rival, and looks for acme's secrets in the answer: all
// but those that rival has sent itself.
func (s *spy) ask(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	got := s.send(t, method, path, body, s.rival, headers...)
	told := path + body + strings.Join(headers, " ")
	for _, secret := range s.secrets {
		if s.sent[secret] = s.sent[secret] || strings.Contains(told, secret); !s.sent[secret] && strings.Contains(got.shown()+got.body, secret) {
			t.Errorf("%s %s shows rival %q of acme: %s", method, path, secret, got.body)
		}
	}
	return got
}

// compare asks a route for acme's things and for one that does not exist: there
// must be no difference.
func (s *spy) compare(t *testing.T, r web.Route, f fixture, th *theirs) {
	t.Helper()
	body := ""
	switch r.Method {
	case http.MethodPatch:
		body = f.change
	case http.MethodPost:
		body = "{}"
	}
	for _, headers := range [][]string{
		nil, {"If-Match", "*"}, {"If-Match", `"1"`}, {"If-Match", `"2"`}, {"If-None-Match", `"1"`}, {"If-None-Match", "*"}, {"Idempotency-Key", "k-" + r.Method + r.Path},
	} {
		ghost := s.ask(t, r.Method, at(r, th.ghost), body, headers...)
		if ghost.status < 400 && ghost.header.Get("Content-Type") != streamType { // a stream may be of what is yet to come
			t.Errorf("%s %s of nothing %q answers %d %s", r.Method, r.Path, headers, ghost.status, ghost.body)
		}
		for _, id := range []string{th.live, th.gone} {
			if len(headers) > 0 && headers[0] == "Idempotency-Key" {
				headers[1] += "x" // another request
			}
			got := s.ask(t, r.Method, at(r, id), body, headers...)
			if want := strings.ReplaceAll(ghost.shown(), th.ghost, id); got.status != ghost.status || got.shown() != want {
				t.Errorf("%s %s %q: acme's thing answers rival with %d\n%s\nand nothing with %d\n%s", r.Method, r.Path, headers, got.status, got.shown(), ghost.status, want)
			}
		}
	}
}

// list asks for lists in every way that could show acme's things.
func (s *spy) list(t *testing.T, r web.Route, f fixture, th *theirs) {
	t.Helper()
	if mine := s.send(t, "GET", r.Path+"?limit=500", "", s.acme); !strings.Contains(mine.body, th.live) {
		t.Errorf("acme does not find %s: the walk would find nothing either: %s", th.live, mine.body)
	}
	cursor, _ := s.must(t, 200, "GET", r.Path+"?limit=1", "", s.acme)["next_cursor"].(string)
	if cursor == "" {
		t.Errorf("GET %s has no second page for acme", r.Path)
	}
	queries := []string{"", "?limit=500&deleted=include", "?deleted=only", "?limit=1&cursor=" + url.QueryEscape(cursor), "?cursor=" + url.QueryEscape(cursor)}
	if f.filter != "" {
		name := f.filter
		if strings.Contains(name, "%s") {
			name = fmt.Sprintf(name, th.name)
		}
		queries = append(queries, "?filter="+url.QueryEscape(name))
	}
	for _, q := range queries {
		got := s.ask(t, r.Method, r.Path+q, "")
		if got.status != 200 && got.status != 400 && got.status != 422 {
			t.Errorf("%s %s%s answers rival %d %s", r.Method, r.Path, q, got.status, got.body)
		}
		for _, secret := range s.secrets { // also what rival asked for by name
			if strings.Contains(got.body, `"`+secret) {
				t.Errorf("%s %s%s lists %q of acme to rival: %s", r.Method, r.Path, q, secret, got.body)
			}
		}
	}
}

// follow asks for the events of acme's things in every way.
func (s *spy) follow(t *testing.T, r web.Route, things map[string]*theirs) {
	t.Helper()
	const all = "?after=earliest&limit=500"
	path, mine := at(r, "iris"), things["/v1/api-keys"].live
	if path != r.Path {
		mine = things["/v1/predictions"].live
	}
	var got answer
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(got.body, mine); {
		if time.Now().After(deadline) {
			t.Errorf("GET %s does not show acme its own events: the walk would find nothing either: %s", path, got.body)
			break
		}
		got = s.send(t, "GET", path+all, "", s.acme)
	}
	for _, q := range []string{"", all} {
		if got := s.sees(t, r.Method, path+q); got.status != 200 {
			t.Errorf("%s %s%s answers rival %d %s", r.Method, path, q, got.status, got.body)
		}
	}
	for resource, th := range things {
		of := "&kind=" + strings.ReplaceAll(resource[len("/v1/"):], "-", "_") + "&id="
		if got := s.sees(t, r.Method, path+all+of+th.live); got.status != 200 {
			t.Errorf("%s %s answers rival %d %s", r.Method, path+all+of+th.live, got.status, got.body)
		}
		live, ghost := s.sees(t, r.Method, path+"?limit=500"+of+th.live), s.sees(t, r.Method, path+"?limit=500"+of+th.ghost) // what is to come
		if live.status != ghost.status || live.status != 200 && live.status != 404 {
			t.Errorf("%s %s answers rival %d, and %d of what is nobody's", r.Method, path+of+th.live, live.status, ghost.status)
		}
	}
}

// sees asks as rival, who is to see nothing of acme's.
func (s *spy) sees(t *testing.T, method, path string) answer {
	t.Helper()
	got := s.send(t, method, path, "", s.rival)
	if slices.ContainsFunc(s.secrets, func(secret string) bool { return strings.Contains(got.body, secret) }) {
		t.Errorf("%s %s answers rival %d %s", method, path, got.status, got.body)
	}
	return got
}

// repeat sends what acme has sent, with the same Idempotency-Key: rival gets an
// answer of its own.
func (s *spy) repeat(t *testing.T, path string, f fixture) {
	t.Helper()
	body := fmt.Sprintf(f.create, "the-same")
	status, path := cmp.Or(f.status, 201), cmp.Or(f.post, path)
	theirs := s.must(t, status, "POST", path, body, s.acme, "Idempotency-Key", "the-same-key", "Prefer", "respond-async")
	got := s.ask(t, "POST", path, body, "Idempotency-Key", "the-same-key", "Prefer", "respond-async")
	var mine map[string]any
	if err := json.Unmarshal([]byte(got.body), &mine); err != nil || got.status != status || got.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("POST %s with acme's Idempotency-Key answers rival %d %s", path, got.status, got.body)
	}
	if !f.chosen && mine["id"] == theirs["id"] || mine["secret"] != nil && mine["secret"] == theirs["secret"] {
		t.Errorf("POST %s with acme's Idempotency-Key gives rival acme's answer: %s", path, got.body)
	}
}
