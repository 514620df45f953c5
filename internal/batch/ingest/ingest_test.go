package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// file is a Source in memory.
type file []byte

func (f file) Open(_ context.Context, offset int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(f[min(offset, int64(len(f))):])), nil
}

// seen is a row as a reader has it.
type seen struct {
	ID    string
	Kept  []string
	Data  [][]byte // nil for a bad one
	Code  string
	Line  int64
	Wrong string // the column
}

// collect reads a file chunk by chunk; reopened, with another reader for each chunk.
func collect(t testing.TB, src Source, f File, s *Spec, l Limit, reopened bool) ([]seen, error) {
	t.Helper()
	var all []seen
	at := f.First
	r, err := Open(t.Context(), src, f, s, at, Options{MaxRow: 1 << 10})
	if err != nil {
		return nil, err
	}
	defer func() { r.Close() }()
	for c := new(Chunk); ; {
		if at = r.Position(); at.Row != int64(len(all)) {
			t.Fatalf("the position says %d rows, %d were read", at.Row, len(all))
		}
		if reopened {
			r.Close()
			if r, err = Open(t.Context(), src, f, s, at, Options{MaxRow: 1 << 10}); err != nil {
				return all, err
			}
		}
		if err := r.Read(c, l); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return all, err
		}
		all = append(all, rowsOf(t, c, s, l)...)
	}
}

// rowsOf takes a chunk apart, and checks that its parts agree.
func rowsOf(t testing.TB, c *Chunk, s *Spec, l Limit) []seen {
	t.Helper()
	if c.Rows == 0 || c.Rows > l.Rows || len(c.Good)+len(c.Errors) != c.Rows || len(c.Lines) != c.Rows {
		t.Fatalf("%d rows, %d good, %d bad, %d lines, at most %d", c.Rows, len(c.Good), len(c.Errors), len(c.Lines), l.Rows)
	}
	out := make([]seen, c.Rows)
	for i := range out {
		if out[i].Line = c.Lines[i]; s.ID != "" {
			out[i].ID = string(c.IDs.Text(i))
		}
		for j := range c.Kept {
			out[i].Kept = append(out[i].Kept, string(c.Kept[j].Text(i)))
		}
	}
	for n, i := range c.Good {
		for j := range c.Tensors {
			out[i].Data = append(out[i].Data, bytes.Clone(c.Tensors[j].Slice(n, n+1)))
		}
	}
	for _, e := range c.Errors {
		if out[e.Row].Data != nil || out[e.Row].Code != "" || e.Code == "" || e.Message == "" {
			t.Fatalf("row %d is good, or has two errors: %+v", e.Row, e)
		}
		out[e.Row].Code, out[e.Row].Wrong = e.Code, e.Column
	}
	return out
}

var two = &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 2, Columns: []string{"a", "b"}}}, ID: "id", Keep: []string{"note"}}

func pair(a, b float32) string {
	out := binary.LittleEndian.AppendUint32(nil, math.Float32bits(a))
	return string(binary.LittleEndian.AppendUint32(out, math.Float32bits(b)))
}

func inspect(t testing.TB, text []byte, f File, s *Spec) File {
	t.Helper()
	f, err := Inspect(t.Context(), file(text), f, s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// What is wrong with a row costs that row, is said with its line, and no other row.
func TestBadRows(t *testing.T) {
	long := strings.Repeat("x", 2000)
	text := "id,a,b,note\nr1,1,2,n1\nr2,1,oops,n2\nr3,1\n\nr4,,2,n4\nr5,1e99,2,n5\n\"r6\",\"3\",4,\"two\nlines, \"\"quoted\"\"\"\nr7,1,2," + long +
		"\nr8,1,2,\"q\"x\nr9,1,2,nul\x00\nr10,1,2,\xff\n,1,2,n11\nr12,0x1p-2,2,n12\r\nr13,5,6,5\" pipe\nr14,7,8,"
	f := inspect(t, []byte(text), File{Format: CSV}, two)
	want := []struct{ id, code, column, note string }{
		{"r1", "", "", "n1"}, {"r2", CodeType, "b", "n2"}, {"", CodeRagged, "", ""}, {"r4", CodeMissing, "a", "n4"}, {"r5", CodeRange, "a", "n5"},
		{"r6", "", "", "two\nlines, \"quoted\""}, {"", CodeTooLarge, "", ""}, {"", CodeQuote, "", ""}, {"", CodeEncoding, "", ""}, {"", CodeEncoding, "", ""},
		{"", CodeID, "id", "n11"}, {"r12", CodeType, "a", "n12"}, {"r13", "", "", `5" pipe`}, {"r14", "", "", ""},
	}
	lines := []int64{2, 3, 4, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17}
	for _, reopened := range []bool{false, true} {
		got, err := collect(t, file(text), f, two, Limit{Rows: 3, Bytes: 1 << 20}, reopened)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d rows, %v", len(got), err)
		}
		for i, w := range want {
			if g := got[i]; g.ID != w.id || g.Code != w.code || g.Wrong != w.column || g.Kept[0] != w.note || g.Line != lines[i] {
				t.Errorf("row %d: %+v, want %+v in line %d", i, g, w, lines[i])
			}
		}
		if string(got[5].Data[0]) != pair(3, 4) || string(got[13].Data[0]) != pair(7, 8) {
			t.Errorf("% x, % x", got[5].Data, got[13].Data)
		}
	}
}

func TestBadLines(t *testing.T) {
	s := &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 2, Columns: []string{"x"}}, {Name: "s", Type: Bytes, Width: 1, Columns: []string{"s"}}, {Name: "n", Type: "INT8", Width: 1, Columns: []string{"n"}}}, ID: "id", Keep: []string{"k"}}
	text := strings.Join([]string{
		`{"id":"r1","x":[1,2],"s":"a\u00e9","n":-3,"k":{"deep":[1,{}]},"more":"}{"}`,
		`{"id":2, "x" : [[3],[4]], "s":"", "n":[127]}`,
		`{"id":"r3","x":[1],"s":"a","n":1}`, `{"id":"r4","x":[1,2,3],"s":"a","n":1}`, `{"id":"r5","x":[1,"2"],"s":"a","n":1}`,
		`{"id":"r6","x":[1,2],"s":5,"n":1}`, `{"id":"r7","x":[1,2],"s":"a","n":128}`, `{"id":"r8","x":[1,2],"s":"a"}`, `{"id":"r9","x":[1,2],"s":"a","n":null}`,
		`[1]`, `{"id":`, `{"id":{},"x":[1,2],"s":"a","n":1}`, `{"id":"a","id":"b"}`, `{"x":[1,2],"s":"a","n":1.5}`, `{"\u0069d":"r15","x":[5,6],"s":"b","n":0,"k":null}`,
	}, "\n")
	f := inspect(t, []byte(text), File{Format: JSONL}, s)
	want := []string{"", "", CodeShape, CodeShape, CodeType, CodeType, CodeRange, CodeMissing, CodeMissing, CodeNotJSON, CodeNotJSON, CodeID, CodeNotJSON, CodeID, ""}
	got, err := collect(t, file(text), f, s, Limit{Rows: 4, Bytes: 1 << 20}, true)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	for i, code := range want {
		if got[i].Code != code || got[i].Line != int64(i+1) {
			t.Errorf("row %d: %+v, want %q", i, got[i], code)
		}
	}
	if got[0].Kept[0] != `{"deep":[1,{}]}` || got[1].ID != "2" || got[14].ID != "r15" || string(got[1].Data[0]) != pair(3, 4) || string(got[0].Data[1]) != "\x03\x00\x00\x00aé" || got[0].Data[2][0] != 0xfd {
		t.Errorf("%+v", got)
	}
}

// Whatever rows there are, in whatever dialect and coding: every reader of them sees
// the same, wherever it begins, and what encoding/csv sees.
func TestCSVLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cell := rapid.StringMatching(`[a-z0-9 ,;"'|\n\t\x{e9}]{0,8}`)
		rows := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) []string {
			return []string{"i" + rapid.StringMatching(`[a-z0-9]{1,5}`).Draw(rt, "id"), strconv.FormatFloat(float64(rapid.Float32().Draw(rt, "a")), 'g', -1, 32), rapid.StringMatching(`-?[0-9]{1,3}`).Draw(rt, "b"), cell.Draw(rt, "note")}
		}), 1, 40).Draw(rt, "rows")
		delimiter := rapid.SampledFrom([]rune{',', ';', '\t', '|'}).Draw(rt, "delimiter")
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		w.Comma, w.UseCRLF = delimiter, rapid.Bool().Draw(rt, "crlf")
		if err := w.WriteAll(append([][]string{{"id", "a", "b", "note"}}, rows...)); err != nil {
			rt.Fatal(err)
		}
		text, known := wrap(rt, b.Bytes())
		f, err := Inspect(t.Context(), file(text), File{Format: CSV, Coding: Coding{Encoding: known}, Dialect: Dialect{Delimiter: string(delimiter)}}, two, Options{})
		if err != nil {
			rt.Fatal(err)
		}
		l := Limit{Rows: rapid.IntRange(1, 10).Draw(rt, "rows"), Bytes: rapid.Int64Range(1, 200).Draw(rt, "bytes")}
		got, err := collect(t, file(text), f, two, l, rapid.Bool().Draw(rt, "reopened"))
		if err != nil || len(got) != len(rows) {
			rt.Fatalf("%d rows of %d, %v", len(got), len(rows), err)
		}
		for i, row := range rows {
			a, _ := strconv.ParseFloat(row[1], 32)
			n, _ := strconv.ParseFloat(row[2], 32)
			note := row[3]
			if w.UseCRLF {
				note = strings.ReplaceAll(note, "\n", "\r\n")
			}
			if g := got[i]; g.Code != "" || g.ID != row[0] || g.Kept[0] != note || string(g.Data[0]) != pair(float32(a), float32(n)) {
				rt.Fatalf("row %d: %+v, want %q", i, g, row)
			}
		}
	})
}

// wrap compresses and encodes a text in one of the ways that are read.
func wrap(rt *rapid.T, text []byte) (wrapped []byte, known string) {
	switch rapid.SampledFrom([]string{"", "mark", "utf-16le", "utf-16be", "windows-1252"}).Draw(rt, "encoding") {
	case "mark":
		text = append([]byte("\ufeff"), text...)
	case "utf-16le":
		text, _ = unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().Bytes(text)
	case "utf-16be":
		text, _ = unicode.UTF16(unicode.BigEndian, unicode.UseBOM).NewEncoder().Bytes(text)
	case "windows-1252":
		known = "windows-1252"
		text, _ = charmap.Windows1252.NewEncoder().Bytes(text)
	}
	return compress(rapid.SampledFrom([]string{"", "gzip", "zstd"}).Draw(rt, "compression"), text), known
}

func compress(how string, text []byte) []byte {
	var b bytes.Buffer
	var w io.WriteCloser
	switch how {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zstd":
		w, _ = zstd.NewWriter(&b)
	default:
		return text
	}
	_, _ = w.Write(text)
	_ = w.Close()
	return b.Bytes()
}

func TestJSONLaw(t *testing.T) {
	s := &Spec{Inputs: []Input{{Name: "x", Type: "FP64", Width: 1, Columns: []string{"x"}}}, Keep: []string{"k"}}
	rapid.Check(t, func(rt *rapid.T) {
		var b bytes.Buffer
		type row struct {
			More map[string]any `json:"m"`
			X    float64        `json:"x"`
			K    any            `json:"k"`
		}
		rows := make([]row, rapid.IntRange(1, 20).Draw(rt, "n"))
		for i := range rows {
			text := rapid.String().Draw(rt, "text")
			rows[i] = row{map[string]any{text: []any{text, 1, nil}}, rapid.Float64().Draw(rt, "x"), map[string]any{"t": text}}
			if err := json.NewEncoder(&b).Encode(rows[i]); err != nil {
				rt.Fatal(err)
			}
		}
		text := compress(rapid.SampledFrom([]string{"", "zstd"}).Draw(rt, "compression"), b.Bytes())
		f, err := Inspect(t.Context(), file(text), File{Format: JSONL}, s, Options{})
		if err != nil {
			rt.Fatal(err)
		}
		got, err := collect(t, file(text), f, s, Limit{Rows: 3, Bytes: 100}, true)
		if err != nil || len(got) != len(rows) {
			rt.Fatalf("%d rows, %v", len(got), err)
		}
		for i := range rows {
			kept, _ := json.Marshal(rows[i].K)
			if x := math.Float64frombits(binary.LittleEndian.Uint64(got[i].Data[0])); x != rows[i].X || got[i].Kept[0] != string(kept) {
				rt.Fatalf("row %d: %v %s, want %v %s", i, x, got[i].Kept, rows[i].X, kept)
			}
		}
	})
}

func TestDialects(t *testing.T) {
	s := &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 2, Columns: []string{"a", "b"}}}}
	byPlace := &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 2, Columns: []string{"1", "2"}}}}
	for _, tt := range []struct {
		text string
		spec *Spec
		want string // delimiter, decimal sign
	}{
		{"a,b\n1.5,2\n", s, ",."}, {"a;b\n1,5;2\n", s, ";,"}, {"a\tb\n1.5\t2\n", s, "\t."}, {"a|b\n1.5|2\n", s, "|."}, {"a;b\n1.5;2\n", s, ";."},
		{"1.5,2\n", byPlace, ",."}, {"1,5;2\n", byPlace, ";,"}, {"a,b\r1.5,2\r", s, ",."}, {"a,b\r\n1.5,2", s, ",."}, {"x,a,b\n\"a;b;c\",1.5,2\n", s, ",."}, {"1,5;2,0\n", byPlace, ";,"},
	} {
		f := inspect(t, []byte(tt.text), File{Format: CSV}, tt.spec)
		got, err := collect(t, file(tt.text), f, tt.spec, Limit{Rows: 10, Bytes: 1 << 20}, false)
		if f.Dialect.Delimiter+f.Dialect.Decimal != tt.want || err != nil || len(got) != 1 || len(got[0].Data) != 1 || string(got[0].Data[0]) != pair(1.5, 2) {
			t.Errorf("%q: %+v, %+v, %v", tt.text, f.Dialect, got, err)
		}
	}
}

// What is wrong with a file as a whole is told so that it can be mended.
func TestBadFiles(t *testing.T) {
	good := []byte("id,a,b,note\n" + strings.Repeat("r,1,2,n\n", 5000))
	for name, tt := range map[string]struct {
		text []byte
		code string
	}{
		"empty":            {nil, "file_empty"},
		"blank":            {[]byte("\n\n"), "file_empty"},
		"no such columns":  {[]byte("id,a,c,note\n"), "columns_missing"},
		"twice":            {[]byte("id,a,b,a,note\n"), "columns_missing"},
		"unclosed":         {[]byte("id,a,b,note\nr,1,2,\"" + strings.Repeat("n\n", 10)), "csv_quote_unclosed"},
		"unclosed, large":  {[]byte("id,a,b,note\nr,1,2,\"" + strings.Repeat("n\n", 400_000)), "csv_quote_unclosed"},
		"truncated gzip":   {compress("gzip", good)[:60], "file_damaged"},
		"truncated zstd":   {compress("zstd", good)[:30], "file_damaged"},
		"damaged zstd":     {append(compress("zstd", good)[:20], "garbage"...), "file_damaged"},
		"a bomb":           {compress("zstd", append(good, make([]byte, 70<<20)...)), "file_inflates"},
		"only compression": {[]byte{0x1f, 0x8b}, "file_damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := Inspect(t.Context(), file(tt.text), File{Format: CSV}, two, Options{})
			if err == nil {
				_, err = collect(t, file(tt.text), f, two, Limit{Rows: 1000, Bytes: 1 << 20}, false)
			}
			if fault.CodeOf(err) != tt.code || !fault.Is(err, fault.Unprocessable) {
				t.Errorf("%v, code %s, expected %s", err, fault.CodeOf(err), tt.code)
			}
		})
	}
}

// endless is a file with a cell that never fits: it is skipped, and not held.
type endless struct{ size int64 }

func (e endless) Open(context.Context, int64) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader("id,a,b,note\nr1,1,2,\""), io.LimitReader(letters{}, e.size), strings.NewReader("\"\nr2,3,4,n\n"))), nil
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'y'
	}
	return len(p), nil
}

func TestHugeCell(t *testing.T) {
	src := endless{256 << 20}
	f := File{Format: CSV, Dialect: Dialect{Delimiter: ",", Quote: `"`, Decimal: ".", Header: new(true)}, Columns: []string{"id", "a", "b", "note"}}
	got, err := collect(t, src, f, two, Limit{Rows: 10, Bytes: 1 << 40}, false)
	if err != nil || len(got) != 3 || got[1].Code != CodeTooLarge || got[1].Line != 2 || got[2].ID != "r2" || got[2].Line != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("id,a,b,note\nr1,1,2,n\n\"r\"\"2\",3,4,\"x\ny\"\n"), false)
	f.Add([]byte(`{"id":"r1","a":1,"b":[2],"note":{"x":"}"}}`), true)
	f.Add([]byte("id;a;b;note\rr1;1,5;2;n\r"), false)
	f.Fuzz(func(t *testing.T, text []byte, lines bool) {
		text = text[:min(len(text), 2000)]
		want := File{Format: CSV}
		if lines {
			want.Format = JSONL
		}
		opened, err := Inspect(t.Context(), file(text), want, two, Options{})
		if err != nil {
			return
		}
		whole, err := collect(t, file(text), opened, two, Limit{Rows: 1000, Bytes: 1 << 20}, false)
		parts, again := collect(t, file(text), opened, two, Limit{Rows: 2, Bytes: 1 << 20}, true)
		if fault.CodeOf(err) != fault.CodeOf(again) {
			t.Fatalf("%v at once, %v in parts", err, again)
		}
		if got, want := fmt.Sprintf("%v", parts), fmt.Sprintf("%v", whole); err == nil && got != want {
			t.Fatalf("in parts:\n%s\nat once:\n%s", got, want)
		}
	})
}

// A first row of values is a row, however they are written.
func TestNoHeader(t *testing.T) {
	s := &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 2, Columns: []string{"1", "2"}}}}
	for _, text := range []string{" 1.5, 2.5\n3,4\n", "1,5;2,5\n3,5;4,5\n", "NA,NA\n1,2\n"} {
		if f := inspect(t, []byte(text), File{Format: CSV}, s); *f.Dialect.Header {
			t.Errorf("%q: the first row is taken for a header", text)
		}
	}
}

// Bytes that are no characters in the file's encoding cost their row.
func TestForeignBytes(t *testing.T) {
	for encoding, text := range map[string]string{
		"windows-1252": "id,a,b,note\nr1,1,2,x\nr2,1,2,\x81\nr3,1,2,\xe9\n",
		"utf-16le":     "i\x00d\x00,\x00a\x00,\x00b\x00,\x00n\x00o\x00t\x00e\x00\n\x00r\x001\x00,\x001\x00,\x002\x00,\x00x\x00\n\x00r\x002\x00,\x001\x00,\x002\x00,\x00\x00\xd8\n\x00r\x003\x00,\x001\x00,\x002\x00,\x00\xe9\x00\n\x00",
	} {
		f := inspect(t, []byte(text), File{Format: CSV, Coding: Coding{Encoding: encoding}}, two)
		got, err := collect(t, file(text), f, two, Limit{Rows: 10, Bytes: 1 << 20}, true)
		if err != nil || len(got) != 3 || got[0].Code != "" || got[1].Code != CodeEncoding || got[1].Line != 3 || got[2].Kept[0] != "é" {
			t.Errorf("%s: %+v, %v", encoding, got, err)
		}
	}
}

// What is behind damage is one bad row with its line, and the rows before it are as they
// are in the whole file.
func TestRowsBeforeDamage(t *testing.T) {
	var b strings.Builder
	b.WriteString("id,a,b,note\n")
	for i := range 60_000 {
		fmt.Fprintf(&b, "r%d,1,%d,n%x\n", i, i, i*7919)
	}
	for name, text := range map[string][]byte{
		"gzip": compress("gzip", []byte(b.String())), "zstd": compress("zstd", []byte(b.String())), "quote": []byte(b.String() + "r,1,2,\"never\nr,1,2,n\n"),
	} {
		if name != "quote" {
			text = text[:len(text)*3/4]
		}
		f := inspect(t, text, File{Format: CSV}, two)
		counts := map[int]bool{}
		for _, l := range []Limit{{Rows: 100_000, Bytes: 1 << 40}, {Rows: 777, Bytes: 1 << 12}} {
			got, err := collect(t, file(text), f, two, l, false)
			last := len(got) - 1
			if err != nil || last < 1000 || got[last].Code == "" || got[last].Line != int64(last+2) || got[last-1].ID != fmt.Sprintf("r%d", last-1) || got[last-1].Code != "" {
				t.Fatalf("%s: %d rows, %v: %+v", name, len(got), err, got[max(0, last-1):])
			}
			counts[len(got)] = true
		}
		if len(counts) != 1 {
			t.Errorf("%s: %v rows", name, counts)
		}
	}
}
