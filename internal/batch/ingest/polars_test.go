package ingest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"testing"
)

// Files as Polars 2.1 writes them, whose schema is not before its batches as a message, but only in the footer, and
// whose texts are views. testdata/README.md says how they were made.
func TestPolars(t *testing.T) {
	keep := []string{"text", "at", "zoned", "day", "time", "price", "word", "n"}
	s := &Spec{Inputs: []Input{
		{Name: "x", Type: "FP32", Width: 1, Columns: []string{"x"}}, {Name: "a", Type: "FP32", Width: 3, Columns: []string{"array"}},
		{Name: "l", Type: "FP64", Width: 2, Columns: []string{"list"}}, {Name: "p", Type: "FP64", Width: 1, Columns: []string{"price"}},
	}, ID: "id", Keep: keep}
	for name, format := range map[string]Format{
		"polars.arrow": Arrow, "polars-lz4.arrow": Arrow, "polars-zstd.arrow": Arrow, "polars-stream.arrow": Arrow, "polars.parquet": Parquet,
	} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile("testdata/" + name)
			if err != nil {
				t.Fatal(err)
			}
			got := readMeant(t, data, format, s)
			if len(got) != 5 {
				t.Fatalf("%d rows", len(got))
			}
			want := [][]string{
				{"short", "2026-11-28T01:02:03.004", "2026-11-28T00:02:03Z", "2026-11-24", "12:30:00", "0.00", "a", "1"},
				{"a text that is longer than twelve bytes", "2026-11-28T01:02:03.004001", "2026-11-28T00:02:03Z", "2026-11-25", "12:30:01", "-1.25", "b", "2"},
				{"", "2026-11-28T01:02:03.004002", "2026-11-28T00:02:03Z", "2026-11-26", "12:30:02", "-2.50", "a", "3"},
				{"größe", "2026-11-28T01:02:03.004003", "2026-11-28T00:02:03Z", "2026-11-27", "12:30:03", "-3.75", "", "4"},
				{"another text that is longer than twelve", "2026-11-28T01:02:03.004004", "2026-11-28T00:02:03Z", "2026-11-28", "12:30:04", "-5.00", "b", "5"},
			}
			for i, g := range got {
				code := ""
				if i == 3 { // its x is null
					code = CodeMissing
				}
				if fmt.Sprintf("%q", g.Kept) != fmt.Sprintf("%q", want[i]) || g.ID != fmt.Sprintf("row %d", i) || g.Code != code {
					t.Errorf("row %d: %q %q %s, want %q", i, g.ID, g.Kept, g.Code, want[i])
				}
			}
		})
	}
}

// A footer that is not what was written makes no other file of it: batches that it lost are told, and one that
// cannot be read, or names a batch again, leaves the messages to be read as they follow each other.
func TestArrowFooters(t *testing.T) {
	const n, batch = 24, 6
	rows := make([]arrowRow, n)
	for i := range rows {
		rows[i] = arrowRow{a: new(float32(i)), n: new(uint64(i)), word: new("w"), list: []float64{1, 2, 3}, pair: []int16{1, 2}, yes: new(true)}
	}
	good := arrowOf(t, rows, batch, true)
	begin := len(good) - 10 - int(binary.LittleEndian.Uint32(good[len(good)-10:]))
	footer := fbRoot(good[begin : len(good)-10])
	blocks, count := footer.vector(10)
	if count != n/batch {
		t.Fatalf("the footer has %d batches", count)
	}
	at := begin + int(blocks)
	for what, c := range map[string]struct {
		edit   func(data []byte)
		answer int
	}{
		"the last batch is lost":   {func(data []byte) { data[at-4]-- }, n - batch},
		"the first batch is lost":  {func(data []byte) { copy(data[at:], data[at+24:at+24*count]); data[at-4]-- }, n - batch},
		"a batch is named twice":   {func(data []byte) { copy(data[at+24:at+48], data[at:]) }, n},
		"nothing can be read":      {func(data []byte) { clear(data[begin : len(data)-10]) }, n},
		"a batch is beyond itself": {func(data []byte) { data[at+24*(count-1)+6] = 1 }, n - batch},
	} {
		data := bytes.Clone(good)
		c.edit(data)
		got, err := alike(t, what, data, Arrow, ofArrow)
		if what == "the first batch is lost" { // as far as a reader can know, it was never there
			if err != nil || len(got) != c.answer {
				t.Errorf("%s: %d rows, %v", what, len(got), err)
			}
			continue
		}
		if err != nil || len(got) != c.answer+1 || got[c.answer-1].Code != "" || got[c.answer].Code != CodeRest {
			t.Errorf("%s: %d rows, %v", what, len(got), err)
		}
	}
}
