package ingest

import (
	"fmt"
	"os"
	"testing"
)

// Files of other programs, with what the library that this package uses does not write: 16-bit floats, and levels
// that are filled far beyond the last value. testdata/README.md says how they were made.
func TestWriters(t *testing.T) {
	read := func(name string, s *Spec) []seen {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return readMeant(t, data, Parquet, s)
	}
	shown := []string{"0.5", "-0", "", "65504", "5.9604645e-08", "+Inf"}
	got := read("halves.parquet", &Spec{Inputs: []Input{{Name: "x", Type: "FP64", Width: 2, Columns: []string{"halves"}}}, Keep: []string{"half"}})
	for i, want := range shown {
		if g := got[i]; g.Code != "" || g.Kept[0] != want || fmt.Sprint(floatsOf(g.Data[0])) != fmt.Sprint([]float64{1.5, float64(i)}) {
			t.Errorf("half %d: %+v, want %s", i, g, want)
		}
	}
	got = read("duckdb.parquet", &Spec{Inputs: []Input{{Name: "x", Type: "FP64", Width: 2, Columns: []string{"list"}}}, Keep: []string{"n", "word"}})
	if len(got) != 61 {
		t.Fatalf("%d rows", len(got))
	}
	for i, g := range got {
		n, word := fmt.Sprint(i), []string{"a", "bb", "c"}[i%3]
		if i%7 == 3 {
			n = ""
		}
		if i%5 == 1 {
			word = ""
		}
		if g.Code != "" || fmt.Sprintf("%q", g.Kept) != fmt.Sprintf("%q", []string{n, word}) || fmt.Sprint(floatsOf(g.Data[0])) != fmt.Sprint([]float64{float64(i), -float64(i)}) {
			t.Errorf("row %d: %+v", i, g)
		}
	}
}
