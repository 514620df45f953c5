package main

import (
	"testing"

	"golang.org/x/text/encoding/unicode"
)

// A NUL costs its row, wherever in the file it is, and a file is taken in the encoding that
// is said, also where it has no mark.
func TestBatchOfTextWithNULs(t *testing.T) {
	a, _ := startApp(t)
	base := "http://" + a.http.Addr()
	const rows = "id,a,b,c,d\nx,5.1,3.5,1.4,0.2\ny,6.1,2.9,4.7,1.4\n"
	wide, err := unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewEncoder().String(rows)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		content, more string
		failed        int
	}{
		"a NUL":  {rows + "z,5.1\x00,3.5,1.4,0.2\n", ``, 1},
		"UTF-16": {wide, `,"encoding":"utf-16le"`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			upload := uploaded(t, base, []byte(tt.content))
			location := submitted(t, base, `{"input":{"upload_id":"`+upload+`"},"model":"iris","format":"csv","row_id":"id"`+tt.more+`}`)
			b := until(t, base+location, shownBatch.final)
			if b.Status != "completed" || b.RowCounts["succeeded"] != 2 || b.RowCounts["failed"] != tt.failed || len(b.Errors) != tt.failed {
				t.Fatalf("%+v", b)
			}
			for _, e := range b.Errors {
				if e.Line != 4 || e.Code != "row_encoding" {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}
