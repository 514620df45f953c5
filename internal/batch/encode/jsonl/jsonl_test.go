package jsonl

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/internal/batch/table"
	"sluice/internal/batch/table/tabletest"
	"sluice/internal/platform/fault"
)

// Every line is one object that the standard library reads as it was written.
func TestReadsBack(t *testing.T) {
	zone, err := time.LoadLocation("Asia/Kathmandu")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		schema := tabletest.Schema(t)
		c := table.NewChunk(schema)
		var out bytes.Buffer
		w := NewWriter(&out, schema, rapid.SampledFrom([]*time.Location{nil, zone}).Draw(t, "zone"))
		var want [][]any
		for range 3 {
			tabletest.Fill(t, c, 5)
			want = append(want, tabletest.Rows(c)...)
			if err := w.Write(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(out.String(), "\n")
		if len(lines) != len(want)+1 || lines[len(want)] != "" {
			t.Fatalf("%d lines, want %d: %q", len(lines)-1, len(want), out.String())
		}
		for r, row := range want {
			d := json.NewDecoder(strings.NewReader(lines[r]))
			d.UseNumber()
			if _, err := d.Token(); err != nil {
				t.Fatal(err)
			}
			for i, f := range schema {
				if name, err := d.Token(); err != nil || name != f.Name {
					t.Fatalf("member %v, want %q: %v", name, f.Name, err)
				}
				var got json.RawMessage
				if err := d.Decode(&got); err != nil {
					t.Fatalf("%v in %q", err, lines[r])
				}
				if !same(t, got, row[i]) {
					t.Fatalf("row %d, column %q is %s, want %v", r, f.Name, got, row[i])
				}
			}
		}
	})
}

// same compares a value with what was read, by the standard library's means.
func same(t *rapid.T, got json.RawMessage, want any) bool {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(got))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	switch want := want.(type) {
	case string:
		return v == strings.ToValidUTF8(want, "\ufffd")
	case json.RawMessage:
		var w any
		d := json.NewDecoder(bytes.NewReader(want))
		d.UseNumber()
		return d.Decode(&w) == nil && cmp.Equal(v, w)
	case int64:
		return v == json.Number(strconv.FormatInt(want, 10))
	case float64:
		return number(v, want, 64)
	case float32:
		return number(v, float64(want), 32)
	case time.Time:
		at, err := time.Parse(time.RFC3339Nano, v.(string))
		return err == nil && at.Equal(want)
	default:
		return v == want
	}
}

func number(v any, want float64, bits int) bool {
	text, quoted := v.(string)
	if !quoted {
		text = string(v.(json.Number))
	}
	f, err := strconv.ParseFloat(text, bits)
	if math.IsNaN(want) {
		return quoted && text == "NaN"
	}
	return err == nil && f == want && quoted == math.IsInf(want, 0)
}

func TestWhatCannotBeSaid(t *testing.T) {
	for _, f := range []table.Field{{Name: "j", Type: table.JSON}, {Name: "t", Type: table.Time}} {
		c := table.NewChunk(table.Schema{f})
		if f.Type == table.JSON {
			c.Column(0).AppendString("{")
		} else {
			c.Column(0).AppendInt(math.MinInt64)
		}
		w := NewWriter(io.Discard, c.Schema(), nil)
		if err := w.Write(c); fault.Of(err).Kind != fault.Internal && fault.CodeOf(err) != "time_out_of_range" || err == nil {
			t.Errorf("%s: %v", f.Name, err)
		}
		if w.Close() == nil {
			t.Errorf("%s: closes as if nothing were wrong", f.Name)
		}
	}
}

func TestInvalidUTF8IsReplaced(t *testing.T) {
	c := table.NewChunk(table.Schema{{Name: "s", Type: table.String}})
	c.Column(0).AppendString("a\xffb\u2028")
	var out bytes.Buffer
	w := NewWriter(&out, c.Schema(), nil)
	if err := errors.Join(w.Write(c), w.Close()); err != nil {
		t.Fatal(err)
	}
	if want := `{"s":"a\ufffdb\u2028"}` + "\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
