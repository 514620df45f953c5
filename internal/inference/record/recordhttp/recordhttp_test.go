package recordhttp

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/inference/record/sqliterecord"
	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/api"
)

func newStore(t *testing.T) record.Store {
	t.Helper()
	s, err := sqliterecord.Open(t.Context(), filepath.Join(t.TempDir(), "log.db"), sqliterecord.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Groups add up to the whole, whatever is told apart.
func TestGroupsAddUp(t *testing.T) {
	store := newStore(t)
	ctx := access.With(t.Context(), &access.Principal{Tenant: "acme"})
	from := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	var entries []*record.Entry
	for i := range 300 {
		at := from.Add(time.Duration(i) * 30 * time.Second)
		e := &record.Entry{ID: record.NewID(at), At: at, Tenant: "acme", Model: "m", Version: []string{"1", "2"}[i%2], Outcome: record.Outcome(i % 5), Rows: 1, Bulk: i%3 == 0, Latency: record.Latency{Total: time.Duration(i) * time.Millisecond},
			Choice: record.Choice{Experiment: "exp", Arm: []string{"a", "b", "c"}[i%3], ByRule: i%4 == 0, Shadow: i%7 == 0}}
		entries = append(entries, e)
	}
	if err := store.Append(ctx, entries); err != nil {
		t.Fatal(err)
	}
	h := handler{store: store}
	for by, groups := range map[string]int{"": 1, "version": 2, "arm": 3, "assignment": 2, "mode": 3, "minute": 150, "hour": 3, "day": 1} {
		in := &statisticsIn{Model: "m", From: "2026-01-02T00:00:00Z", To: "2026-01-03T00:00:00Z"}
		if by != "" {
			in.GroupBy = []string{by}
		}
		out, err := h.statistics(ctx, in)
		if err != nil || len(out.Body.Data) != groups {
			t.Errorf("by %q: %d groups, %v, want %d", by, len(out.Body.Data), err, groups)
			continue
		}
		sum := int64(0)
		for _, g := range out.Body.Data {
			if g.Requests != g.Succeeded+g.Failed+g.Refused+g.Invalid+g.Cancelled || (g.Latency == nil) != (g.Succeeded == 0) {
				t.Errorf("by %q: %+v", by, g)
			}
			sum += g.Requests
		}
		want := int64(300 - 43) // but for shadow runs
		if by == "mode" {
			want = 300
		}
		if sum != want {
			t.Errorf("by %q: the groups have %d requests", by, sum)
		}
	}
}

func TestRefusals(t *testing.T) {
	h := handler{store: newStore(t)}
	ctx := access.With(t.Context(), &access.Principal{Tenant: "acme"})
	if _, err := h.statistics(t.Context(), &statisticsIn{}); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("nobody: %v", err)
	}
	if _, err := (handler{}).list(ctx, &logIn{}); fault.CodeOf(err) != "record_off" {
		t.Errorf("no log: %v", err)
	}
	if _, err := h.statistics(ctx, &statisticsIn{Model: "m", From: "1970-01-01T00:00:00Z"}); fault.CodeOf(err) != "statistics_too_large" {
		t.Errorf("the statistics of all time: %v", err)
	}
	for code, in := range map[string]*logIn{
		"time_invalid": {To: "0000-01-01T00:00:00Z"}, "cursor_invalid": {PageQuery: api.PageQuery{Cursor: "AAAA"}}, "invalid_id": {ID: "job_1"},
	} {
		in.Limit = 1
		if _, err := h.list(ctx, in); fault.CodeOf(err) != code {
			t.Errorf("%s: %v", code, err)
		}
	}
}

// An id that no prediction has is no label of an unnamed one.
func TestLabelOfNoPrediction(t *testing.T) {
	for _, id := range []string{"", "pred_00000000000000000000000000000000"} {
		_, err := label(fmt.Appendf(nil, `{"prediction_id":%q,"label":1}`, id))
		if !fault.Is(err, fault.Invalid) || fault.CodeOf(err) != "feedback_invalid" || !strings.Contains(err.Error(), "prediction_id") {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// Whatever is sent as a label is taken or refused in words, and what is taken is
// within bounds.
func FuzzLabel(f *testing.F) {
	for _, text := range []string{`{"client_ref":"a","label":1}`, `{"prediction_id":"pred_01900000000070008000000000000000","label":"x","score":-1e12,"observed_at":"2026-01-02T03:04:05Z"}`, `{"client_ref":"a","label":null}`, `[]`, `{"client_ref":"a","label":1}{}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := label(text)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		if l.ID.IsZero() == (l.ClientRef == "") || l.Name == "" || len(l.Name) > record.MaxLabelName || len(l.Value) > record.MaxLabelValue || (l.Value == nil && l.Score == nil) || (l.Score != nil && !(*l.Score >= -maxScore && *l.Score <= maxScore)) {
			t.Fatalf("%q became %+v", text, l)
		}
	})
}
