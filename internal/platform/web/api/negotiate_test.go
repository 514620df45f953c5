package api

import (
	"strings"
	"testing"
)

func TestAcceptable(t *testing.T) {
	for accept, want := range map[string]bool{
		"application/json": true, "*/*": true, "*": true, "application/*": true, "text/html, */*;q=0.1": true, "APPLICATION/JSON": true,
		"application/json; charset=utf-8": true, "text/csv": false, "application/json;q=0": false, "*/*;q=0": false, "": false,
		"application/json;q=0, */*": false, "application/*;q=0, application/json;q=0.2": true, "application/json;q=banana": false,
	} {
		if got := acceptable([]string{accept}, []string{"application/json"}); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
	if !acceptable(nil, []string{"application/json"}) || !acceptable([]string{"text/csv"}, []string{"application/json", "text/csv"}) {
		t.Error("refused")
	}
}

func TestPreferred(t *testing.T) {
	const lines, table = "application/jsonl", "text/csv; charset=utf-8; header=present"
	for accept, want := range map[string]string{
		"*/*": lines, "text/csv": table, "Text/CSV; charset=utf-8": table, "text/*": table, "text/csv;q=0.5, application/jsonl": lines, "text/csv, application/jsonl": lines,
		"text/csv, */*;q=0.1": table, "text/csv;q=0.1, application/*;q=0.2": lines, "application/jsonl;q=0, */*": table, "text/html": "", "text/csv;q=0": "", "": "",
	} {
		if got := Preferred([]string{accept}, []string{lines, table}); got != want {
			t.Errorf("%q: %q", accept, got)
		}
	}
	if Preferred(nil, []string{lines, table}) != lines || Preferred(nil, nil) != "" {
		t.Error("who says nothing has a preference")
	}
}

func FuzzAcceptable(f *testing.F) {
	for _, s := range []string{"*/*", "a/b;q=1", ";;q=,", "application/json;q=0.5;x=1,,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := acceptable([]string{s}, []string{"application/json"})
		if got && !strings.Contains(s, "*") && !strings.Contains(strings.ToLower(s), "application/json") {
			t.Errorf("%q accepts JSON", s)
		}
	})
}

func TestNames(t *testing.T) {
	for accept, want := range map[string]bool{"": false, "*/*": false, "text/*": false, "text/event-stream": true, "application/json, Text/Event-Stream;q=0.5": true, "text/event-stream;q=0": false} {
		if got := names([]string{accept}, "text/event-stream"); got != want {
			t.Errorf("%q: %t", accept, got)
		}
	}
}
