package evaluations

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"sluice/internal/inference/evaluation"
	"sluice/internal/platform/fault"
)

func evaluated(rows int64, outputs ...string) *evaluation.Evaluation {
	x := &evaluation.Evaluation{Request: evaluation.Request{By: []string{"arm", "in/x"}}}
	x.ID, x.Done.Diff = "eval_1", evaluation.Diff{Rows: rows, Outputs: outputs}
	return x
}

// Numbers are as they were written, and a text that a spreadsheet would run is disarmed.
func TestCSV(t *testing.T) {
	lines := `{"name":"pred_1","row":2,"at":"2026-01-02T03:04:05.006Z","segments":{"arm":"=1+1","in/x":"-3"},"output":"y","distance":0.1,"baseline":{"y":[9223372036854775807],"z":[1,-2.5]},"candidate":{"y":[-0.5],"z":[]}}
{"name":"-1+2","row":0,"segments":{"arm":"","in/x":"a,b"},"distance":0,"error":{"code":"run_failed","message":"@it \"broke\"\nhere"},"baseline":{"y":["=cmd|' /C calc'!A0"],"z":[true]}}
`
	want := strings.Join([]string{
		"name,row,at,segment/arm,segment/in/x,output,distance,error_code,error_message,baseline/y,candidate/y,baseline/z,candidate/z",
		`pred_1,2,2026-01-02T03:04:05.006000Z,"'=1+1",-3,y,0.1,,,9223372036854775807,-0.5,"[1,-2.5]",[]`,
		`"'-1+2",0,,"","a,b",,0,run_failed,"'@it ""broke""` + "\n" + `here","'=cmd|' /C calc'!A0",,true,`, ""}, "\r\n")
	var got bytes.Buffer
	if err := CSV(&got, evaluated(2, "y", "z"), strings.NewReader(lines)); err != nil || got.String() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, &got, want)
	}
	got.Reset()
	if err := CSV(&got, evaluated(0), strings.NewReader("")); err != nil || strings.Count(got.String(), "\r\n") != 1 {
		t.Errorf("%v %q", err, got.String())
	}
}

// Whatever texts lines have, each is a record with as many cells, in order.
func TestEveryLineIsARecord(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		texts := rapid.SliceOfN(rapid.String(), 1, 20).Draw(rt, "texts")
		var lines bytes.Buffer
		for i, text := range texts {
			fmt.Fprintf(&lines, "{\"name\":%s,\"row\":%d,\"baseline\":{\"y\":[%s]}}\n", quoted(text), i, quoted(text))
		}
		var got bytes.Buffer
		if err := CSV(&got, evaluated(int64(len(texts)), "y"), &lines); err != nil {
			rt.Fatal(err)
		}
		rows, err := csv.NewReader(&got).ReadAll()
		if err != nil || len(rows) != len(texts)+1 {
			rt.Fatalf("%v: %q", err, rows)
		}
		for i, text := range texts {
			text = strings.ReplaceAll(text, "\r\n", "\n") // as the reader has it
			if row := rows[i+1]; strings.TrimPrefix(row[0], "'") != strings.TrimPrefix(text, "'") || row[1] != fmt.Sprint(i) || row[9] != row[0] {
				rt.Fatalf("%q of %q", row, text)
			}
		}
	})
}

func quoted(text string) []byte {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return b
}

// What is damaged, cut off or cannot be told is an error, and never a table that looks whole.
func TestCSVOfDamage(t *testing.T) {
	const line = `{"name":"a","row":0,"baseline":{"y":[1]}}` + "\n"
	for name, c := range map[string]struct {
		of    *evaluation.Evaluation
		lines io.Reader
	}{
		"cut off":       {evaluated(2, "y"), strings.NewReader(line + line[:9])},
		"a row less":    {evaluated(2, "y"), strings.NewReader(line)},
		"a row more":    {evaluated(1, "y"), strings.NewReader(line + line)},
		"unreadable":    {evaluated(1, "y"), io.MultiReader(strings.NewReader(line), iotest.ErrReader(io.ErrClosedPipe))},
		"no time":       {evaluated(1, "y"), strings.NewReader(`{"at":"noon"}`)},
		"no answer":     {evaluated(1, "y"), strings.NewReader(`{"baseline":{"y":1}}`)},
		"of before":     {evaluated(1), strings.NewReader(line)},
		"columns twice": {evaluated(1, "y", "y"), strings.NewReader(line)},
	} {
		if err := CSV(io.Discard, c.of, c.lines); err == nil || name == "of before" && fault.CodeOf(err) != "evaluation_no_diff" {
			t.Errorf("%s: %v", name, err)
		}
	}
	full := writerFunc(func([]byte) (int, error) { return 0, io.ErrShortWrite })
	if err := CSV(full, evaluated(1, "y"), strings.NewReader(line)); err == nil {
		t.Error("what could not be written was")
	}
}

// A table is written while its lines are read, and not held.
func TestCSVStreams(t *testing.T) {
	const rows = 20_000
	line := fmt.Sprintf(`{"name":"a","row":0,"baseline":{"y":[%s1]}}`+"\n", strings.Repeat("1,", 99))
	read, behind := 0, 0
	lines := readerFunc(func(b []byte) (int, error) {
		if read == rows {
			return 0, io.EOF
		}
		read++
		return copy(b, line), nil
	})
	written := 0
	out := writerFunc(func(b []byte) (int, error) {
		behind = max(behind, read*len(line)-written)
		written += len(b)
		return len(b), nil
	})
	if err := CSV(out, evaluated(rows, "y"), lines); err != nil || behind > 4*chunkBytes {
		t.Errorf("%v: %d bytes were held", err, behind)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
