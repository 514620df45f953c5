package ingest

import (
	"strings"
	"testing"

	"sluice/internal/platform/fault"
)

// What is in a form that cannot be read is named, and what to do about it, whether the form is
// said or found out.
func TestFormsThatAreNotRead(t *testing.T) {
	parquet, arrow, book := "PAR1\x15\x04\x15\x10", string(goodArrow(t, true, "")), string(bookWith(t, "", nil))
	zip := func(how, text string) string { return string(compress(how, []byte(text))) }
	array := ` [` + "\n" + ` {"id": "1", "a": 1}, {"id": "2", "a": 2}` + "\n]"
	for name, tt := range map[string]struct {
		data string
		said []Format
		code string
		says string
	}{
		"Parquet as gzip":    {zip("gzip", parquet), []Format{"", Parquet, CSV}, "format_mismatch", "is parquet, which is read at any place: decompress it"},
		"Parquet as zstd":    {zip("zstd", parquet), []Format{"", Parquet, JSONL}, "format_mismatch", "is parquet, which is read at any place: decompress it"},
		"Arrow as gzip":      {zip("gzip", arrow), []Format{"", Arrow, CSV}, "format_mismatch", "is arrow, which is read at any place: decompress it"},
		"a workbook as gzip": {zip("gzip", book), []Format{"", XLSX, CSV}, "format_mismatch", "is xlsx, which is read at any place: decompress it"},
		"an array":           {array, []Format{"", JSONL}, "format_mismatch", "each object on a line of its own"},
		"an array, marked":   {"\ufeff" + array, []Format{"", JSONL}, "format_mismatch", "each object on a line of its own"},
		"an array as gzip":   {zip("gzip", array), []Format{"", JSONL}, "format_mismatch", "each object on a line of its own"},
		"any archive":        {string(archiveOf(t, 3)), []Format{"", XLSX}, "format_mismatch", "is a ZIP archive, and no workbook: upload what is in it"},
		"without its texts":  {string(bookWith(t, "xl/sharedStrings.xml", nil)), []Format{"", XLSX}, "columns_missing", "which is damaged: save it anew"},
	} {
		for _, said := range tt.said {
			_, err := Inspect(t.Context(), file(tt.data), File{Format: said}, two, Options{})
			if fault.CodeOf(err) != tt.code || !fault.Is(err, fault.Unprocessable) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s, said to be %q: %v", name, said, err)
			}
		}
	}
}

// Lists in brackets are no array of objects: they may be cells.
func TestBracketsInText(t *testing.T) {
	x := &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 2, Columns: []string{"1"}}}}
	for text, said := range map[string]Format{"[1,2];a\n[3,4];b\n": "", "[{];a\n": CSV} {
		if f, err := Inspect(t.Context(), file([]byte(text)), File{Format: said, Dialect: Dialect{Header: new(false)}}, x, Options{}); err != nil || f.Format != CSV {
			t.Errorf("%q: %s, %v", text, f.Format, err)
		}
	}
}
