package record

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"sluice/internal/inference/evidence/drift"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// asked and given are what a model of two inputs and an output takes and gives.
var (
	asked = []tensor.Tensor{{Name: "x", Datatype: tensor.Uint8, Shape: tensor.Shape{2, 3}, Data: []byte{1, 2, 3, 4, 5, 6}}, {Name: "who", Datatype: tensor.Bytes, Shape: tensor.Shape{1, 2}, Data: texts("Ann", "Bob")}}
	given = []tensor.Tensor{{Name: "y", Datatype: tensor.Uint8, Shape: tensor.Shape{1}, Data: []byte{9}}}
)

func texts(all ...string) (data []byte) {
	for _, s := range all {
		data = tensor.AppendBytes(data, s)
	}
	return data
}

func policy(t testing.TB, text string) *ContentPolicy {
	t.Helper()
	p, err := ParseContentPolicy(text)
	if err == nil {
		err = p.Fit(asked, given)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// show writes the tensors of content.
func show(content []byte) string {
	var out []string
	for side, t := range Tensors(content) {
		data := string(t.Data)
		if t.Datatype == tensor.Bytes {
			data = strings.Join(slices.Collect(func(yield func(string) bool) {
				for e := range tensor.Elements(t.Data) {
					if !yield(string(e)) {
						return
					}
				}
			}), ",")
		}
		out = append(out, map[Side]string{Input: "in ", Output: "out "}[side]+t.Name+t.Shape.String()+" "+data)
	}
	return strings.Join(out, "; ")
}

func key(tenant string) []byte { return []byte("key of " + tenant) }

// What rules are about is never kept as it was.
func TestRedaction(t *testing.T) {
	for rules, want := range map[string]string{
		``:                             "in x[2,3] \x01\x02\x03\x04\x05\x06; in who[1,2] Ann,Bob; out y[1] \x09",
		`,"inputs":["x"],"outputs":[]`: "in x[2,3] \x01\x02\x03\x04\x05\x06",
		`,"inputs":[]`:                 "out y[1] \x09",
		`,"redact":[{"tensor":"x","do":"drop"},{"tensor":"y","do":"mask"}]`:                                 "in who[1,2] Ann,Bob; out y[1] \x00",
		`,"redact":[{"tensor":"x","columns":[0,2],"do":"mask"},{"tensor":"who","columns":[1],"do":"mask"}]`: "in x[2,3] \x00\x02\x00\x00\x05\x00; in who[1,2] Ann,; out y[1] \x09",
		`,"inputs":["who"],"outputs":[],"redact":[{"tensor":"who","columns":[0],"do":"hash"}]`:              "in who[1,2] HASH,Bob",
	} {
		e := &Entry{Tenant: "acme", At: time.Unix(1000, 0)}
		p := policy(t, `{"sample":1,"tenants":["*"],"keep":"2h"`+rules+`}`)
		if !e.Take(p, asked, given) {
			t.Fatal("it is not taken")
		}
		e.settle(key)
		inputs, outputs := Altered(e.Content)
		if inputs != (strings.Contains(rules, `"mask"`) && strings.Contains(rules, "columns") || strings.Contains(rules, "hash")) || outputs != strings.Contains(rules, `"y","do":"mask"`) {
			t.Errorf("%s: altered inputs %t, outputs %t", rules, inputs, outputs)
		}
		got := show(e.Content)
		if strings.Contains(want, "HASH") {
			ann := strings.TrimSuffix(strings.TrimPrefix(got, "in who[1,2] "), ",Bob")
			if len(ann) != 32 || strings.Contains(ann, "Ann") {
				t.Errorf("hashed: %q", got)
			}
			want = strings.Replace(want, "HASH", ann, 1)
		}
		if got != want || !e.ContentUntil.Equal(e.At.Add(2*time.Hour)) || CheckContent(e.Content) != nil {
			t.Errorf("%s:\n got %q\nwant %q", rules, got, want)
		}
	}
	p := policy(t, `{"sample":1,"tenants":["*"],"inputs":["who"],"outputs":[],"redact":[{"tensor":"who","do":"hash"}]}`)
	of := func(tenant string, key func(string) []byte) string {
		e := &Entry{Tenant: tenant}
		e.Take(p, asked, given)
		e.settle(key)
		return show(e.Content)
	}
	if a, b := of("a", key), of("a", key); a != b || a == of("b", key) || strings.Contains(a, "Ann") {
		t.Errorf("of one tenant %q and %q, of another %q", a, b, of("b", key))
	}
	if got := of("a", nil); got != "" {
		t.Errorf("without a key %q is kept", got)
	}
}

// Times of features are those of an input, and not it: what a rule does to it is not done
// to them, but they are not kept without it.
func TestTimesAreNotRedacted(t *testing.T) {
	since := []tensor.Tensor{{Name: "x", Datatype: tensor.Int64, Shape: tensor.Shape{2, 1}, Data: bytes.Repeat([]byte{7}, 16)}, {Name: "who", Datatype: tensor.Int64, Shape: tensor.Shape{1, 1}, Data: bytes.Repeat([]byte{8}, 8)}}
	for rules, want := range map[string][]string{
		`{"tensor":"x","columns":[0],"do":"mask"},{"tensor":"who","do":"hash"}`: {"x", "who"},
		`{"tensor":"x","do":"drop"},{"tensor":"who","columns":[0],"do":"mask"}`: {"who"},
	} {
		e := &Entry{Tenant: "acme"}
		p := policy(t, `{"sample":1,"tenants":["*"],"redact":[`+rules+`]}`)
		if !e.Take(p, asked, given) {
			t.Fatal("it is not taken")
		}
		e.TakeTimes(p, since)
		e.settle(key)
		if inputs, outputs := Altered(e.Content); !inputs || outputs {
			t.Errorf("%s: altered inputs %t, outputs %t", rules, inputs, outputs)
		}
		var kept []string
		for side, got := range Tensors(e.Content) {
			if side == Feature {
				kept = append(kept, got.Name)
				if i := slices.IndexFunc(since, func(s tensor.Tensor) bool { return s.Name == got.Name }); !bytes.Equal(got.Data, since[i].Data) {
					t.Errorf("%s: the times of %s are %v", rules, got.Name, got.Data)
				}
			}
		}
		if !slices.Equal(kept, want) {
			t.Errorf("%s: times of %v are kept, want %v", rules, kept, want)
		}
	}
}

// Mistakes in a policy are told: one that protects nothing is none.
func TestPoliciesWithMistakes(t *testing.T) {
	for _, text := range []string{
		``, `{}`, `[]`, `{"sample":0}`, `{"sample":1.1}`, `{"sample":-1}`, `{"sample":1}{"sample":1}`, `{"sample":1,"x":1}`, `{"sample":1,"keep":"x"}`, `{"sample":1,"keep":"1s"}`, `{"sample":1,"max_bytes":-1}`,
		`{"sample":1,"max_bytes":99999999}`, `{"sample":1,"inputs":["z"]}`, `{"sample":1,"outputs":["x"]}`, `{"sample":1,"redact":[{"tensor":"x","do":"burn"}]}`, `{"sample":1,"redact":[{"tensor":"X","do":"drop"}]}`,
		`{"sample":1,"redact":[{"tensor":"x","do":"hash"}]}`, `{"sample":1,"redact":[{"tensor":"x","columns":[3],"do":"mask"}]}`, `{"sample":1,"redact":[{"tensor":"y","columns":[0],"do":"mask"}]}`,
		`{"sample":1,"redact":[{"tensor":"x","columns":[0],"do":"drop"}]}`, `{"sample":1,"redact":[{"tensor":"x","columns":[-1],"do":"mask"}]}`, `{"sample":1,"keep":"` + strings.Repeat("1", maxPolicyText) + `"}`,
	} {
		p, err := ParseContentPolicy(text)
		if err == nil {
			err = p.Fit(asked, given)
		}
		if fault.CodeOf(err) != "log_policy_invalid" || !fault.Is(err, fault.Invalid) {
			t.Errorf("%.80s: %v", text, err)
		}
	}
}

// A share of the predictions is taken, of tenants that have agreed.
func TestSampling(t *testing.T) {
	taken := func(p *ContentPolicy, tenant string) (n int) {
		for range 100_000 {
			if p.Takes(tenant) {
				n++
			}
		}
		return n
	}
	p := policy(t, `{"sample":0.1,"tenants":["acme"]}`)
	if n := taken(p, "acme"); n < 9000 || n > 11_000 {
		t.Errorf("%d of 100000 were taken, want 10000", n)
	}
	if n := taken(p, "other") + taken(policy(t, `{"sample":1}`), "acme"); n != 0 {
		t.Errorf("%d were taken of who has not agreed", n)
	}
	if n := taken(policy(t, `{"sample":1,"tenants":["*"]}`), "acme"); n != 100_000 {
		t.Errorf("%d were taken, want all", n)
	}
}

// Whatever is read as content, it is content or refused.
func FuzzContent(f *testing.F) {
	e := new(Entry)
	e.Take(policy(f, `{"sample":1,"tenants":["*"]}`), asked, given)
	e.settle(key)
	f.Add(e.Content)
	f.Fuzz(func(t *testing.T, b []byte) {
		shapesOf(&Entry{Content: b})
		if CheckContent(b) != nil {
			return
		}
		var again []byte
		for side, tensor := range Tensors(b) {
			again = AppendTensor(again, side, &tensor)
		}
		if CheckContent(again) != nil || show(again) != show(b) {
			t.Errorf("%x came back as %x", b, again)
		}
	})
}

// keeping keeps what is appended.
type keeping struct{ entries []Entry }

func (c *keeping) Append(_ context.Context, entries []*Entry) error {
	for _, e := range entries {
		kept := *e
		kept.Content = bytes.Clone(e.Content)
		c.entries = append(c.entries, kept)
	}
	return nil
}

// Too much waits without its tensors, what is too large has none, and what an entry is
// used for again shows nothing of before.
func TestTensorsThatWaitAreBounded(t *testing.T) {
	to := new(keeping)
	l, err := NewLog(to, LogConfig{Content: 100, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	p, small := policy(t, `{"sample":1,"tenants":["*"]}`), policy(t, `{"sample":1,"tenants":["*"],"max_bytes":20}`)
	size := 0
	for round := range 3 {
		for i := range 4 {
			e := l.Entry()
			e.ID, e.At, e.Tenant = NewID(time.Now()), time.Now(), "acme"
			switch i {
			case 0, 1:
				if !e.Take(p, asked, given) {
					t.Fatal("it is not taken")
				}
				size = len(e.raw)
			case 2:
				if e.Take(small, asked, given) {
					t.Fatal("it is taken")
				}
			}
			l.Record(e)
		}
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, with := range []bool{true, 2*size <= 100, false, false} {
			if e := to.entries[4*round+i]; (len(e.Content) > 0) != with {
				t.Errorf("round %d, entry %d of %d bytes: %q", round, i, size, e.Content)
			}
		}
	}
	if got := testutil.ToFloat64(l.metrics.bare); got != 6 || l.holds.Load() != 0 {
		t.Errorf("%g entries were counted as bare, want 6; %d bytes are held", got, l.holds.Load())
	}
}

func shapesOf(e *Entry) map[ShapeOf]*drift.Sketch {
	sums := map[ShapeOf]*drift.Sketch{}
	CountShapes(sums, e)
	return sums
}

// Whatever is kept of numbers, as many of them are counted.
func TestShapesCountAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.SampledFrom([]tensor.Datatype{tensor.Bool, tensor.Int8, tensor.Uint16, tensor.Int32, tensor.Uint64, tensor.FP16, tensor.BF16, tensor.FP32, tensor.FP64}).Draw(t, "type")
		rows, width := rapid.IntRange(0, 20).Draw(t, "rows"), rapid.IntRange(1, 40).Draw(t, "columns")
		one := tensor.Tensor{Name: "x", Datatype: d, Shape: tensor.Shape{int64(rows), int64(width)}, Data: rapid.SliceOfN(rapid.Byte(), rows*width*d.Size(), rows*width*d.Size()).Draw(t, "data")}
		sums := shapesOf(&Entry{Content: AppendTensor(nil, Output, &one)})
		total, want := int64(0), 1
		if width > 1 && width <= maxShapeColumns {
			want = width
		}
		for of, s := range sums {
			if total += s.Total(); !IsOutput(of.Name) || s.Samples() != int64(min(rows, 1)) {
				t.Errorf("%s", of.Name)
			}
		}
		if total != int64(rows*width) || len(sums) != want {
			t.Errorf("%d numbers of %s are counted in %d shapes, want %d in %d", total, one.Shape, len(sums), rows*width, want)
		}
	})
}

// Taking nothing costs nothing, and what is taken no allocation.
func BenchmarkTake(b *testing.B) {
	for name, text := range map[string]string{"not sampled": `{"sample":1e-9,"tenants":["*"]}`, "sampled": `{"sample":1,"tenants":["*"]}`} {
		b.Run(name, func(b *testing.B) {
			p, e := policy(b, text), &Entry{Tenant: "acme"}
			b.ReportAllocs()
			for b.Loop() {
				if p.Takes(e.Tenant) {
					e.Take(p, asked, given)
				}
			}
		})
	}
}
