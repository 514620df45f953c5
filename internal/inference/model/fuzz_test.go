package model

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/platform/fault"
)

// checkParse holds a parser to what every parser promises: an error of the
// caller's kind, or a configuration that keeps its own rules, the same each time.
func checkParse(t *testing.T, data []byte, parse func([]byte, string) (Config, error)) {
	c, err := parse(data, "f")
	if err != nil {
		if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
			t.Fatalf("%v is not the file's fault", err)
		}
		return
	}
	if err := c.check(); err != nil {
		t.Fatalf("accepted, but %v", err)
	}
	if c.Name != "" && ValidName(c.Name) != nil {
		t.Fatalf("accepted the name %q", c.Name)
	}
	for _, p := range append(c.Inputs, c.Outputs...) {
		for _, d := range p.Dims {
			if d == 0 || d < -1 {
				t.Fatalf("accepted dims %v", p.Dims)
			}
		}
	}
	again, err := parse(data, "f")
	if diff := cmp.Diff(c, again); err != nil || diff != "" {
		t.Fatalf("parsed differently the second time: %v %s", err, diff)
	}
}

func FuzzParsePBText(f *testing.F) {
	for _, s := range []string{fullPBText, "", "a: [", "name: 'x' \"\\377\"", "input { name: \"a\" dims: [-1, 0x7f] }", "parameters { key: 'a' value { string_value: 'b' } }", "a<b:<c{}>>", "-", "x:-inf"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkParse(t, data, ParsePBText) })
}

func FuzzParseYAML(f *testing.F) {
	for _, s := range []string{fullYAML, "", "a: &a [*a]", "batching: off", "? a\n: b", "<<: {a: b}", "---\n---\n", "labels: {a: 1}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkParse(t, data, ParseYAML) })
}

func FuzzParseTritonJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"name":"m","maxBatchSize":"8"}`, `{"input":[{"name":"x","dims":[1e0]}]}`, `{"parameters":{"a":{"string_value":"b"}}}`, `[[[[`, `{"a":`, "null"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkParse(t, data, ParseTritonJSON) })
}
