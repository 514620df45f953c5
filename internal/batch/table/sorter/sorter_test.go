package sorter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/internal/batch/table"
	"sluice/internal/batch/table/tabletest"
	"sluice/internal/platform/fault"
)

var schema = table.Schema{{Name: "n", Type: table.Int}, {Name: "text", Type: table.String}, {Name: "f", Type: table.Float}, {Name: "f32", Type: table.Float32},
	{Name: "b", Type: table.Bool}, {Name: "at", Type: table.Time}, {Name: "json", Type: table.JSON}}

// cell is a number as a cell of the column, so that numbers and cells have the same
// order; a negative one is null.
func cell(c *table.Column, v int) {
	switch {
	case v < 0:
		c.AppendNull()
	case c.Type == table.String || c.Type == table.JSON:
		c.AppendString(fmt.Sprintf("%04d", v))
	case c.Type == table.Float || c.Type == table.Float32:
		c.AppendFloat(float64(v) / 8)
	case c.Type == table.Bool:
		c.AppendBool(v > 0)
	default:
		c.AppendInt(int64(v) - 2)
	}
}

// sorted reads all that a sorter has.
func sorted(s *Sorter, schema table.Schema) (rows [][]any, err error) {
	for c := table.NewChunk(schema); ; {
		if err := s.Read(c); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return rows, err
		}
		if err := c.Check(); err != nil {
			return nil, err
		}
		rows = append(rows, tabletest.Rows(c)...)
	}
}

// However little memory there is, the result is that of a stable sort.
func TestSort(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 1200).Draw(rt, "rows")
		values := rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(-1, 4), len(schema), len(schema)), 1, 40).Draw(rt, "values")
		keys := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Key {
			return Key{rapid.IntRange(0, len(schema)-1).Draw(t, "column"), rapid.Bool().Draw(t, "descending")}
		}), 0, 3).Draw(rt, "keys")
		s := New(schema, keys, Config{Memory: rapid.SampledFrom([]int{1, 700, 50_000, 1 << 20}).Draw(rt, "memory"), Dir: dir})
		defer s.Close()
		c := table.NewChunk(schema)
		rows, numbers := [][]any{}, [][]int{}
		for i := range n {
			row := values[(i*i+i/7)%len(values)]
			for k := range schema {
				cell(c.Column(k), row[k])
			}
			if numbers = append(numbers, append(slices.Clone(row), i)); c.Rows() == 13 || i == n-1 {
				rows = append(rows, tabletest.Rows(c)...)
				if err := s.Add(t.Context(), c); err != nil {
					rt.Fatal(err)
				}
				c.Reset()
			}
		}
		slices.SortStableFunc(numbers, func(a, b []int) int {
			for _, k := range keys {
				x, y := a[k.Column], b[k.Column]
				if schema[k.Column].Type == table.Bool {
					x, y = min(x, 1), min(y, 1)
				}
				switch {
				case x == y:
				case x < 0:
					return 1
				case y < 0:
					return -1
				case k.Descending:
					return cmp.Compare(y, x)
				default:
					return cmp.Compare(x, y)
				}
			}
			return 0
		})
		want := [][]any{}
		for _, row := range numbers {
			want = append(want, rows[row[len(schema)]])
		}
		got, err := sorted(s, schema)
		if diff := gocmp.Diff(want, append([][]any{}, got...)); err != nil || diff != "" {
			rt.Fatalf("%v, %s", err, diff)
		}
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v files are left, %v", left, err)
	}
}

// Runs of runs: more than are merged at a time, and no more files than a level has.
func TestManyRuns(t *testing.T) {
	s := New(schema[:1], []Key{{0, true}}, Config{Memory: 1, Dir: t.TempDir()})
	defer s.Close()
	c := table.NewChunk(schema[:1])
	const n = fan*fan + 100
	for i := range n {
		c.Reset()
		c.Column(0).AppendInt(int64(i * 7919 % n))
		if err := s.Add(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if len(s.runs) > 3*fan {
			t.Fatalf("%d files", len(s.runs))
		}
	}
	rows, err := sorted(s, schema[:1])
	if err != nil || len(rows) != n {
		t.Fatal(len(rows), err)
	}
	for i, row := range rows {
		if row[0] != int64(n-1-i) {
			t.Fatalf("row %d is %v", i, row)
		}
	}
}

func TestBounds(t *testing.T) {
	s := New(schema[1:2], []Key{{0, false}}, Config{Memory: 1000, Disk: 5000, Dir: t.TempDir()})
	defer s.Close()
	c := table.NewChunk(schema[1:2])
	for range 20 {
		c.Column(0).AppendString("0123456789012345678901234567890123456789")
	}
	var err error
	for range 20 {
		if err = s.Add(t.Context(), c); err != nil {
			break
		}
	}
	if fault.CodeOf(err) != "sort_too_large" || !fault.Is(err, fault.Unprocessable) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(schema[1:2], nil, Config{Memory: 1, Dir: t.TempDir()}).Add(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("it goes on when nobody wants it: %v", err)
	}
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	broken := New(schema[1:2], nil, Config{Memory: 1, Dir: file + "/below"})
	defer broken.Close()
	if err := broken.Add(t.Context(), c); fault.CodeOf(err) != "sort_disk" {
		t.Error(err)
	}
}

func BenchmarkSort(b *testing.B) {
	const rows = 1_000_000
	for b.Loop() {
		s := New(tabletest.Plain, []Key{{tabletest.Plain.Index("score"), false}}, Config{Dir: b.TempDir()})
		c := table.NewChunk(tabletest.Plain)
		for i := 0; i < rows; i += 2000 {
			tabletest.FillPlain(c, i, 2000)
			if err := s.Add(b.Context(), c); err != nil {
				b.Fatal(err)
			}
		}
		n := 0
		for s.Read(c) == nil {
			n += c.Rows()
		}
		s.Close()
		if n != rows {
			b.Fatal(n)
		}
	}
	b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
}
