package ingest

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/xuri/excelize/v2"

	"sluice/internal/platform/fault"
)

// rowsIn reads a file chunk by chunk; reopened, with another reader for each. It returns
// an error where the file is refused.
func rowsIn(t testing.TB, data []byte, format Format, s *Spec, l Limit, reopened bool) (all []seen, err error) {
	t.Helper()
	f, err := Inspect(t.Context(), file(data), File{Format: format}, s, Options{})
	if err != nil {
		return nil, err
	}
	r, err := Open(t.Context(), file(data), f, s, f.First, Options{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	for c := new(Chunk); ; {
		if at := r.Position(); reopened {
			_ = r.Close()
			if r, err = Open(t.Context(), file(data), f, s, at, Options{}); err != nil {
				return all, err
			}
		}
		if err := r.Read(c, l); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return all, err
		}
		if len(c.Lines) == 0 {
			c.Lines = make([]int64, c.Rows)
		}
		if all = append(all, rowsOf(t, c, s, l)...); len(all) > 4000 {
			return all, errEndless
		}
	}
}

// errEndless ends a file that says that it has more rows than any of these.
var errEndless = errors.New("more rows than there were")

// alike reads a file by readers that go on and by others that begin anew, which must
// come to the same rows: who takes over from a worker that died goes on in the middle.
func alike(t testing.TB, what string, data []byte, format Format, s *Spec) ([]seen, error) {
	t.Helper()
	var rows []seen
	var failed error
	for _, n := range []int{1000, 7, 3} {
		l := Limit{Rows: n, Bytes: 1 << 40}
		on, err1 := rowsIn(t, data, format, s, l, false)
		anew, err2 := rowsIn(t, data, format, s, l, true)
		if !reflect.DeepEqual(on, anew) || fmt.Sprint(err1) != fmt.Sprint(err2) {
			t.Fatalf("%s: chunks of %d rows: %d rows, %v; begun anew %d, %v", what, n, len(on), err1, len(anew), err2)
		}
		rows, failed = on, err1
	}
	return rows, failed
}

// A byte that is wrong costs the rows of its group, at most: those of the others are what
// they were, and all are counted.
func TestParquetDamageCostsItsGroup(t *testing.T) {
	const n, group = 40, 10
	rows := make([]parquetRow, n)
	for i := range rows {
		a := float32(i)
		rows[i] = parquetRow{ID: fmt.Sprintf("r%d", i), A: &a, B: int64(i), List: []float64{1, 2, float64(i)}, Note: "note"}
	}
	var b bytes.Buffer
	w := parquet.NewGenericWriter[parquetRow](&b, parquet.MaxRowsPerRowGroup(group), parquet.PageBufferSize(64), parquet.Compression(&parquet.Zstd))
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	good := b.Bytes()
	opened, err := parquet.OpenFile(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	var begins []int64 // of the groups
	for _, g := range opened.Metadata().RowGroups {
		begins = append(begins, g.FileOffset)
	}
	for _, cut := range []int{1, 9, len(good) / 2, len(good) - 9} {
		if _, err := alike(t, fmt.Sprint("cut off by ", cut), good[:len(good)-cut], Parquet, ofParquet); fault.CodeOf(err) != codeDamaged || !strings.Contains(err.Error(), "upload the whole file again") {
			t.Errorf("without %d bytes: %v", cut, err)
		}
	}
	want, err := alike(t, "whole", good, Parquet, ofParquet)
	if err != nil || len(want) != n || len(begins) != n/group {
		t.Fatalf("%d rows, %v, groups at %v", len(want), err, begins)
	}
	footer := int64(len(good)) - 8 - int64(binary.LittleEndian.Uint32(good[len(good)-8:]))
	lost := 0
	for i := int64(4); i < footer; i += 61 {
		hurt := 0
		for hurt+1 < len(begins) && begins[hurt+1] <= i {
			hurt++
		}
		data := bytes.Clone(good)
		data[i] ^= 0xff
		got, err := alike(t, fmt.Sprint("byte ", i), data, Parquet, ofParquet)
		if err != nil || len(got) != n {
			if i < begins[len(begins)-1] && err == nil {
				t.Errorf("byte %d: %d rows, %v", i, len(got), err)
			}
			continue // page headers that say impossible sizes
		}
		for j := range got {
			switch {
			case got[j].Code == CodeLost:
				lost++
				fallthrough
			case j/group == hurt:
				continue
			}
			if !reflect.DeepEqual(got[j], want[j]) {
				t.Errorf("byte %d, of group %d: row %d is %+v, was %+v", i, hurt, j, got[j], want[j])
			}
		}
	}
	if lost == 0 {
		t.Error("no byte has cost a row: does the test hurt anything?")
	}
}

// So it is with record batches. What is behind a message that cannot be read is one row.
func TestArrowDamageCostsItsBatch(t *testing.T) {
	const n, batch = 24, 6
	rows := make([]arrowRow, n)
	for i := range rows {
		rows[i] = arrowRow{a: new(float32(i)), n: new(uint64(i)), word: new("w"), list: []float64{1, 2, 3}, pair: []int16{1, 2}, yes: new(true)}
	}
	for _, whole := range []bool{false, true} {
		good := arrowOf(t, rows, batch, whole, codecs["zstd"]...)
		want, err := alike(t, "whole", good, Arrow, ofArrow)
		if err != nil || len(want) != n {
			t.Fatalf("%d rows, %v", len(want), err)
		}
		lost, rest, alone := 0, 0, 0 // a dictionary costs the rows of all batches
		for i := 0; i < len(good); i += 41 {
			data := bytes.Clone(good)
			data[i] ^= 0xff
			got, _ := alike(t, fmt.Sprint("byte ", i), data, Arrow, ofArrow)
			hurt := map[int]bool{}
			for j := range got {
				switch got[j].Code {
				case CodeLost:
					lost++
					hurt[j/batch] = true
				case CodeRest:
					rest++
				}
			}
			if len(hurt) == 1 && len(got) == n {
				alone++
			}
		}
		for cut := len(good) / 2; cut < len(good); cut += 89 {
			got, err := alike(t, fmt.Sprint("cut at ", cut), good[:cut], Arrow, ofArrow)
			if err != nil {
				continue
			}
			for j := range got {
				if got[j].Code == "" && !reflect.DeepEqual(got[j], want[j]) {
					t.Errorf("cut at %d: row %d is %+v, was %+v", cut, j, got[j], want[j])
				}
			}
		}
		if lost == 0 || rest == 0 || alone == 0 {
			t.Errorf("%d rows were lost, %d files ended early, and in %d one batch was hurt: does the test hurt anything?", lost, rest, alone)
		}
	}
}

// An Arrow file that ends, or seems to, behind one of its batches does not pass for one that has
// no more of them. A stream may end there.
func TestArrowEndsBetweenBatches(t *testing.T) {
	const n, batch = 24, 6
	rows := make([]arrowRow, n)
	for i := range rows {
		rows[i] = arrowRow{a: new(float32(i)), n: new(uint64(i)), word: new("w"), list: []float64{1, 2, 3}, pair: []int16{1, 2}, yes: new(true)}
	}
	for _, whole := range []bool{false, true} {
		good := arrowOf(t, rows, batch, whole)
		opened, err := openArrowFile(t.Context(), file(good), Options{})
		if err != nil || len(opened.batches) != n/batch || opened.broken != nil {
			t.Fatalf("%d batches, %v, %v", len(opened.batches), err, opened.broken)
		}
		for i, p := range opened.batches[1:] {
			zeros := bytes.Clone(good)
			clear(zeros[p.at+4 : p.at+8]) // of which one says that there are no more messages
			for what, data := range map[string][]byte{"cut": good[:p.at], "a footer of another": append(bytes.Clone(good[:p.at]), "\xff\xff\xff\x7fARROW1"...), "ended": zeros} {
				got, err := alike(t, what, data, Arrow, ofArrow)
				answered := (i + 1) * batch
				if !whole {
					if what == "cut" && (err != nil || len(got) != answered) {
						t.Errorf("a stream that is cut behind batch %d: %d rows, %v", i, len(got), err)
					}
					continue
				}
				if err != nil || len(got) != answered+1 || got[answered-1].Code != "" || got[answered].Code != CodeRest {
					t.Errorf("%s behind batch %d: %d rows, %v", what, i, len(got), err)
				}
			}
		}
		first := opened.batches[0].at
		if _, err := Inspect(t.Context(), file(good[:first]), File{Format: Arrow}, ofArrow, Options{}); whole && (fault.CodeOf(err) != codeDamaged || !strings.Contains(err.Error(), "close its writer")) {
			t.Errorf("cut before the first batch: %v", err)
		}
	}
}

// A workbook is read up to where it is damaged; that it is shows also where it can be
// read to its end, by its checksum.
func TestBookDamage(t *testing.T) {
	const n = 3000
	good := bookOf(t, func(f *excelize.File) {
		set(t, f, "Sheet1", "A1", "id", "B1", "a", "C1", "b", "D1", "note")
		for i := range n {
			set(t, f, "Sheet1", fmt.Sprintf("A%d", i+2), fmt.Sprintf("r%d", i), fmt.Sprintf("B%d", i+2), i*i, fmt.Sprintf("C%d", i+2), i, fmt.Sprintf("D%d", i+2), fmt.Sprint("n", i*7919%1000))
		}
	})
	archive, err := zip.NewReader(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	var begin, size int64
	for _, part := range archive.File {
		if part.Name == sheetPart {
			if begin, err = part.DataOffset(); err != nil {
				t.Fatal(err)
			}
			size = int64(part.CompressedSize64)
		}
	}
	early := 0
	for i := begin + size/3; i < begin+size-8; i += size / 9 {
		data := bytes.Clone(good)
		data[i] ^= 0x10
		l := Limit{Rows: 700, Bytes: 1 << 40}
		on, err1 := rowsIn(t, data, XLSX, two, l, false)
		anew, err2 := rowsIn(t, data, XLSX, two, l, true)
		last := len(on) - 1
		if err1 != nil || err2 != nil || !reflect.DeepEqual(on, anew) || last < n/4 || on[last].Code != CodeRest || on[last].Line == 0 {
			t.Fatalf("byte %d: %d rows, %v; begun anew %d, %v", i, len(on), err1, len(anew), err2)
		}
		if on[0].ID != "r0" || on[0].Code != "" {
			t.Errorf("byte %d: the first row is %+v", i, on[0])
		}
		if last < n {
			early++
		}
	}
	if early == 0 {
		t.Error("no byte has cost a row: does the test hurt anything?")
	}
}
