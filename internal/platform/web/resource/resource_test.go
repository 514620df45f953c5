package resource

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

func TestLife(t *testing.T) {
	b := start(t, Hooks[newBox, boxChange, box]{})
	made := b.send("POST", "/v1/boxes", `{"label":"tea","size":3}`, writer)
	v := made.box(t)
	if made.status != 201 || made.header.Get("Location") != "/v1/boxes/"+v.ID || made.header.Get("ETag") != `"1"` ||
		!strings.HasPrefix(v.ID, "box_") || v.Object != "box" || v.Version != 1 || v.CreatedBy != writer || v.Label != "tea" {
		t.Fatalf("%d %s %v", made.status, made.text, made.header)
	}
	path := "/v1/boxes/" + v.ID
	if got := b.send("GET", path, "", reader); got.text != made.text || got.header.Get("ETag") != `"1"` {
		t.Errorf("read %s, made %s", got.text, made.text)
	}
	if got := b.send("GET", path, "", reader, "If-None-Match", `"1"`); got.status != 304 {
		t.Errorf("unchanged: %d", got.status)
	}
	for name, tc := range map[string]struct {
		got    answer
		status int
		code   string
	}{
		"change without If-Match": {b.send("PATCH", path, `{"label":"x"}`, writer), 428, "precondition_required"},
		"change of another":       {b.send("PATCH", path, `{"label":"x"}`, writer, "If-Match", `"7"`), 412, "version_mismatch"},
		"delete of another":       {b.send("DELETE", path, "", writer, "If-Match", `"7"`), 412, "version_mismatch"},
		"unknown field":           {b.send("PATCH", path, `{"lable":"x"}`, writer, "If-Match", `"1"`), 422, "validation_failed"},
		"not mine":                {b.send("GET", path, "", stranger), 404, "not_found"},
		"not mine to change":      {b.send("PATCH", path, `{"label":"x"}`, stranger, "If-Match", "*"), 404, "not_found"},
		"not there":               {b.send("GET", "/v1/boxes/box_1", "", stranger), 404, "not_found"},
		"only a reader":           {b.send("DELETE", path, "", reader, "If-Match", "*"), 403, "permission_missing"},
	} {
		if tc.got.status != tc.status || tc.got.code(t) != tc.code {
			t.Errorf("%s: %d %s", name, tc.got.status, tc.got.text)
		}
	}
	changed := b.send("PATCH", path, `{"label":"coffee"}`, writer, "If-Match", `"1"`)
	if v := changed.box(t); v.Label != "coffee" || v.Version != 2 || changed.header.Get("ETag") != `"2"` {
		t.Errorf("changed %s", changed.text)
	}
	if got := b.send("DELETE", path, "", writer, "If-Match", `"2"`); got.status != 204 {
		t.Errorf("delete: %d %s", got.status, got.text)
	}
	if got := b.send("GET", path, "", writer); got.status != 404 {
		t.Errorf("deleted: %d", got.status)
	}
	if got := b.send("POST", path+"/restore", "", writer).box(t); got.Label != "coffee" || got.Version != 4 || got.DeletedAt != nil {
		t.Errorf("restored %+v", got)
	}
	events, err := b.store.Driver().Pending(context.Background(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, m := range events {
		if m.Stream == repo.StreamEvents {
			types = append(types, fmt.Sprint(m.Sequence, " ", m.Type))
		}
	}
	if d := cmp.Diff([]string{"1 box.filled", "2 box.deleted", "3 box.restored"}, types); d != "" {
		t.Error(d)
	}
}

func TestLists(t *testing.T) {
	b := start(t, Hooks[newBox, boxChange, box]{})
	for i := range 25 {
		b.send("POST", "/v1/boxes", fmt.Sprintf(`{"label":"box %02d","size":%d}`, i, i%5), writer).box(t)
	}
	b.send("POST", "/v1/boxes", `{"label":"theirs"}`, stranger).box(t)
	type page struct {
		Data []boxView
		Next string `json:"next_cursor"`
		More bool   `json:"has_more"`
	}
	list := func(query url.Values) (labels []string) {
		t.Helper()
		for {
			got := b.send("GET", "/v1/boxes?"+query.Encode(), "", reader)
			var p page
			if err := json.Unmarshal([]byte(got.text), &p); err != nil || got.status != 200 || p.More != (p.Next != "") {
				t.Fatalf("%d %s: %v", got.status, got.text, err)
			}
			for _, v := range p.Data {
				labels = append(labels, v.Label)
			}
			if !p.More {
				return labels
			}
			query.Set("cursor", p.Next)
		}
	}
	if all := list(url.Values{"limit": {"7"}}); len(all) != 25 || all[0] != "box 00" || all[24] != "box 24" {
		t.Errorf("listed %v", all)
	}
	if got := list(url.Values{"limit": {"2"}, "order": {"-label"}, "filter": {"size:eq:3", "label:lt:box 20"}}); !cmp.Equal(got, []string{"box 18", "box 13", "box 08", "box 03"}) {
		t.Errorf("filtered %v", got)
	}
	if got := list(url.Values{"filter": {"label:in:box 07|box 09|nothing"}}); !cmp.Equal(got, []string{"box 07", "box 09"}) {
		t.Errorf("filtered %v", got)
	}
	if got := list(url.Values{"filter": {"label:prefix:box 2"}, "deleted": {"only"}}); len(got) != 0 {
		t.Errorf("deleted %v", got)
	}
	for query, code := range map[string]string{
		"filter=size:eq:x": "invalid_filter", "filter=size:like:1": "invalid_filter", "filter=weight:eq:1": "invalid_filter", "filter=size:prefix:1": "invalid_filter",
		"filter=x": "invalid_filter", "order=weight": "unknown_field", "cursor=nonsense": "invalid_cursor", "limit=0": "validation_failed", "deleted=maybe": "validation_failed",
	} {
		if got := b.send("GET", "/v1/boxes?"+query, "", reader); got.status < 400 || got.status >= 500 || got.code(t) != code {
			t.Errorf("%s: %d %s", query, got.status, got.text)
		}
	}
}

func TestIdempotentCreation(t *testing.T) {
	b := start(t, Hooks[newBox, boxChange, box]{})
	first := b.send("POST", "/v1/boxes", `{"label":"tea"}`, writer, "Idempotency-Key", "k1")
	again := b.send("POST", "/v1/boxes", `{"label":"tea"}`, writer, "Idempotency-Key", "k1")
	if first.status != 201 || again.text != first.text || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("first %s, again %s %v", first.text, again.text, again.header)
	}
	if got := b.send("POST", "/v1/boxes", `{"label":"mate"}`, writer, "Idempotency-Key", "k1"); got.status != 422 {
		t.Errorf("another body: %d %s", got.status, got.text)
	}
	if got := b.send("POST", "/v1/boxes", `{"label":"tea"}`, stranger, "Idempotency-Key", "k1").box(t); got.ID == first.box(t).ID {
		t.Error("another tenant's key was taken for mine")
	}
}

// Who repeats a request whose answer was lost is told what it did, once.
func TestRepetitionAfterALostAnswer(t *testing.T) {
	b := start(t, Hooks[newBox, boxChange, box]{})
	b.answers.forget.Store(true)
	for _, path := range []string{"/v1/boxes", "/v1/crates"} {
		first := b.send("POST", path, `{"label":"tea"}`, writer, "Idempotency-Key", "made").box(t)
		if again := b.send("POST", path, `{"label":"tea"}`, writer, "Idempotency-Key", "made").box(t); again != first {
			t.Errorf("%s: made %+v, again %+v", path, first, again)
		}
		at := path + "/" + first.ID
		for range 2 {
			got := b.send("PATCH", at, `{"label":"mate"}`, writer, "Idempotency-Key", "changed", "If-Match", `"1"`).box(t)
			if got.Label != "mate" || got.Version != 2 {
				t.Errorf("%s: changed to %+v", at, got)
			}
		}
		if got := b.send("PATCH", at, `{"label":"cocoa"}`, writer, "Idempotency-Key", "another", "If-Match", `"1"`); got.status != 412 {
			t.Errorf("%s: a change of a past version: %d %s", at, got.status, got.text)
		}
	}
}

// Properties 6 and 19: what comes before comes before, what comes after comes
// after, and nothing comes after what failed.
func TestProperties6And19Hooks(t *testing.T) {
	var b *bed
	var order []string
	note := func(what string) { order = append(order, what) }
	there := func() int {
		n, err := boxes(Hooks[newBox, boxChange, box]{}).Kind.Count(context.Background(), b.store.Read(repo.Scope{Tenant: "acme"}), boxLabels())
		if err != nil {
			t.Error(err)
		}
		return int(n)
	}
	b = start(t, Hooks[newBox, boxChange, box]{
		BeforeCreate: func(_ context.Context, in *newBox) error {
			note(fmt.Sprint("before create ", in.Label, " ", there()))
			if in.Label == "bad" {
				return fault.New(fault.Unprocessable, "bad").WithCode("bad_label")
			}
			in.Label = strings.ToUpper(in.Label)
			return nil
		},
		AfterCreate:  func(_ context.Context, a *box) { note(fmt.Sprint("after create ", a.Label, " ", there())) },
		BeforeChange: func(_ context.Context, in *boxChange) error { note("before change"); return nil },
		AfterChange:  func(_ context.Context, a *box) { note("after change " + a.Label) },
		BeforeDelete: func(context.Context, string) error { note(fmt.Sprint("before delete ", there())); return nil },
		AfterDelete:  func(context.Context, string) { note(fmt.Sprint("after delete ", there())) },
	})
	if got := b.send("POST", "/v1/boxes", `{"label":"bad"}`, writer); got.status != 422 || got.code(t) != "bad_label" {
		t.Errorf("%d %s", got.status, got.text)
	}
	v := b.send("POST", "/v1/boxes", `{"label":"tea"}`, writer).box(t)
	path := "/v1/boxes/" + v.ID
	b.send("PATCH", path, `{"label":"mate"}`, writer, "If-Match", `"9"`)
	b.send("PATCH", path, `{"label":"mate"}`, writer, "If-Match", `"1"`).box(t)
	b.send("DELETE", path, "", writer, "If-Match", "*")
	want := []string{"before create bad 0", "before create tea 0", "after create TEA 1", "before change", "before change", "after change mate", "before delete 1", "after delete 0"}
	if d := cmp.Diff(want, order); d != "" {
		t.Error(d)
	}
}
