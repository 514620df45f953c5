package typo

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNearest(t *testing.T) {
	known := []string{"name", "size", "material", "max_batch_size", "http", "http.max_body", "http.addr", "intra_threads", "inter_threads"}
	for name, want := range map[string]string{
		"neme": "name", "Name": "name", "siez": "size", "nme": "name", "materiel": "material", "maxBatchSize": "max_batch_size",
		"max_batch": "max_batch_size", "max_body": "http.max_body", "http.max_boddy": "http.max_body", "htpp": "http",
		"colour": "", "": "", "n": "", "body": "", "http.zzz": "", "threads": "", strings.Repeat("name", 100): "",
	} {
		if got := Nearest(name, known); got != want {
			t.Errorf("%.20q: %q, want %q", name, got, want)
		}
	}
	if got := Nearest("b", []string{"aa", "a", "c"}); got != "a" {
		t.Errorf("of equally near names %q is returned, not the first", got)
	}
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"", "abc", 3}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}} {
		if got := Distance(tc.a, tc.b); got != tc.want {
			t.Errorf("Distance(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		a, b := rapid.String().Draw(rt, "a"), rapid.String().Draw(rt, "b")
		if d := Distance(a, b); d != Distance(b, a) || (d == 0) != (a == b) || d > max(len(a), len(b)) {
			rt.Fatalf("Distance(%q, %q) = %d", a, b, d)
		}
	})
}
