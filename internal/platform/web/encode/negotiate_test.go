package encode

import (
	"slices"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	for accept, want := range map[string]string{
		"": "", "gzip": Gzip, "gzip, deflate, br, zstd": Zstd, "gzip, br": Brotli, "GZIP": Gzip, "x-gzip": Gzip, "br;q=0.5, gzip;q=0.8": Gzip,
		"*": Zstd, "*;q=0.1": Zstd, "zstd;q=0, *": Brotli, "gzip;q=0": "", "identity": "", "identity, gzip;q=0.5": "", "identity;q=0.5, gzip;q=0.5": Gzip,
		"gzip;q=nonsense": "", "gzip;q=2": "", "deflate": "", ";;,,q=1": "", "gzip;q=0.001": Gzip,
	} {
		if got := Choose([]string{accept}); got != want {
			t.Errorf("%q: %q, want %q", accept, got, want)
		}
	}
	if got := Choose([]string{"gzip", "br"}); got != Brotli {
		t.Errorf("two lines: %q", got)
	}
}

func FuzzChoose(f *testing.F) {
	for _, s := range []string{"gzip", "*;q=0, br;q=1", "identity;q=0", ";q=,", "gzip;q=0.5;q=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Choose([]string{s})
		if got != "" && !slices.Contains(preference[:], got) {
			t.Errorf("%q: %q", s, got)
		}
		if got != "" && !strings.Contains(strings.ToLower(s), got) && !strings.Contains(s, "*") {
			t.Errorf("%q: %q was not asked for", s, got)
		}
		for item := range strings.SplitSeq(s, ",") {
			if _, q := Weight(item); !(q >= 0 && q <= 1) {
				t.Errorf("%q weighs %v", item, q)
			}
		}
	})
}
