package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

func testVersion() *version {
	return &version{Name: "m", Batches: true, Signature: model.Signature{Inputs: []model.Port{
		{Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{-1, 2}},
		{Name: "n", Datatype: tensor.Int64, Shape: tensor.Shape{-1, 1}},
		{Name: "text", Datatype: tensor.Bytes, Shape: tensor.Shape{-1, -1}},
	}}}
}

func rows(t *testing.T, text string) []Row {
	t.Helper()
	var r []Row
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTensors(t *testing.T) {
	got, err := tensors(testVersion(), rows(t, `[{"x":[1,2.5],"n":7,"text":["a","b\"]"]},{"x":[ 3 , -4e3 ],"n":[8],"text":["c","d"]}]`))
	want := `[{"name":"x","datatype":"FP32","shape":[2,2],"data":[1,2.5,3,-4e3]},{"name":"n","datatype":"INT64","shape":[2,1],"data":[7,8]},` +
		`{"name":"text","datatype":"BYTES","shape":[2,2],"data":["a","b\"]","c","d"]}]`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
}

// A value alone stands for a list of it, also where the list's length is open.
func TestValueForAList(t *testing.T) {
	got, err := tensors(testVersion(), rows(t, `[{"x":[1,2],"n":7,"text":"a"},{"x":[1,2],"n":7,"text":["b"]}]`))
	if err != nil || !strings.HasSuffix(string(got), `"shape":[2,1],"data":["a","b"]}]`) {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestWrongRows(t *testing.T) {
	for name, tc := range map[string]struct {
		rows string
		want []string
	}{
		"missing":      {`[{"x":[1,2],"text":["a"]}]`, []string{"/rows/0/n missing"}},
		"unknown":      {`[{"x":[1,2],"n":1,"text":["a"],"y":1}]`, []string{"/rows/0/y unknown_input"}},
		"too long":     {`[{"x":[1,2,3],"n":1,"text":["a"]}]`, []string{"/rows/0/x invalid_value"}},
		"too deep":     {`[{"x":[[1,2]],"n":1,"text":["a"]}]`, []string{"/rows/0/x invalid_value"}},
		"ragged":       {`[{"x":[1,2],"n":1,"text":["a"]},{"x":[1,2],"n":1,"text":["a","b"]}]`, []string{"/rows/1/text invalid_value"}},
		"an object":    {`[{"x":{},"n":1,"text":["a"]}]`, []string{"/rows/0/x invalid_value"}},
		"several rows": {`[{"x":1,"n":1,"text":["a"]},{"x":[1,2],"n":1,"text":["a"]},{"x":[],"n":1,"text":["a"]}]`, []string{"/rows/0/x invalid_value", "/rows/2/x invalid_value"}},
	} {
		_, err := tensors(testVersion(), rows(t, tc.rows))
		var got []string
		if err != nil {
			for _, d := range fault.Of(err).Details {
				got = append(got, d.Pointer+" "+d.Code)
			}
		}
		if d := cmp.Diff(tc.want, got); d != "" || !fault.Is(err, fault.Unprocessable) {
			t.Errorf("%s: %v %s", name, err, d)
		}
	}
	many := make([]Row, 1000)
	if _, err := tensors(testVersion(), many); len(fault.Of(err).Details) != maxWrong {
		t.Errorf("%d details", len(fault.Of(err).Details))
	}
	v := testVersion()
	v.Batches = false
	if _, err := tensors(v, make([]Row, 1)); fault.CodeOf(err) != "rows_invalid" {
		t.Error(err)
	}
}

// Whatever lists are nested, flattening keeps every value in its order, or says
// that the lists are no tensor.
func TestFlatten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.SliceOfN(rapid.IntRange(0, 4), 0, 4).Draw(t, "shape")
		n := 0
		var build func(shape []int) string
		var want []string
		build = func(shape []int) string {
			if len(shape) == 0 {
				n++
				want = append(want, fmt.Sprint(n))
				return fmt.Sprint(n)
			}
			var parts []string
			for range shape[0] {
				parts = append(parts, build(shape[1:]))
			}
			return "[" + strings.Join(parts, ", ") + "]"
		}
		text := build(shape)
		flat, got, err := flatten(json.RawMessage(text))
		if err != nil || string(flat) != strings.Join(want, ",") {
			t.Fatalf("%s: %q, %v", text, flat, err)
		}
		for d := range got { // below an empty list nothing is known
			if got[d] != shape[d] {
				t.Fatalf("%s: %v, want %v", text, got, shape)
			}
		}
	})
}

func TestTarget(t *testing.T) {
	for text, want := range map[string][2]string{"iris": {"iris", ""}, "iris:2": {"iris", "2"}, "iris@champion": {"iris", "champion"}, ":1": {":1", ""}, "a:b:3": {"a:b", "3"}} {
		if m, v := target(text); [2]string{m, v} != want {
			t.Errorf("%s: %q %q", text, m, v)
		}
	}
}
