package ingest

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/xuri/excelize/v2"
)

// longTail is a workbook with two rows, behind which its sheet goes on for a long time.
func longTail(t *testing.T) []byte {
	t.Helper()
	data := bookOf(t, func(f *excelize.File) { set(t, f, "Sheet1", "A1", "t", "A2", "x") })
	from, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 4*bookStep)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = 'a' + byte(random.IntN(26))
	}
	var out bytes.Buffer
	to := zip.NewWriter(&out)
	for _, part := range from.File {
		r, err := part.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		w, err := to.Create(part.Name)
		if err != nil {
			t.Fatal(err)
		}
		said := strings.Replace(string(text), "</sheetData>", "</sheetData><!--"+string(noise)+"-->", 1)
		if _, err := io.WriteString(w, said); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A store that is away behind the last row is not the end of the file, whose checksum is not
// known yet.
func TestStoreAwayBehindRows(t *testing.T) {
	of, spec := &store{data: longTail(t)}, &Spec{Keep: []string{"t"}}
	f, err := Inspect(t.Context(), of, File{}, spec, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), of, f, spec, f.First, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, one := new(Chunk), Limit{Rows: 1, Bytes: 1 << 20}
	if err := r.Read(c, one); err != nil || c.Rows != 1 {
		t.Fatal(c.Rows, err)
	}
	of.fails = of.reads + 1
	if err := r.Read(c, one); !errors.Is(err, errStore) {
		t.Errorf("read %d of %d: %v", of.fails, of.reads, err)
	}
}
