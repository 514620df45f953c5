//go:build office

package xlsx

import (
	"bytes"
	"encoding/csv"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice/internal/batch/table"
	"sluice/internal/batch/table/tabletest"
)

// LibreOffice opens a workbook of two sheets, and reads the rows that were written. It is
// run by make test-office, and fails where soffice is not there.
func TestLibreOffice(t *testing.T) {
	var out bytes.Buffer
	w, c := NewWriter(&out, tabletest.Plain, Options{SheetRows: 600}), table.NewChunk(tabletest.Plain)
	tabletest.FillPlain(c, 0, 1000)
	if w.Write(c) != nil || w.Close() != nil {
		t.Fatal("it cannot be written")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "book.xlsx"), out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	const everySheet = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false,false,-1"
	cmd := exec.CommandContext(t.Context(), "soffice", "-env:UserInstallation=file://"+dir+"/profile", "--headless", "--convert-to", everySheet, "--outdir", dir, filepath.Join(dir, "book.xlsx"))
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	var ids []string
	for _, sheet := range []string{"data_1", "data_2"} {
		text, err := os.ReadFile(filepath.Join(dir, "book-"+sheet+".csv"))
		if err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
		if err != nil || strings.Join(rows[0], ",") != "id,model,version,created_at,latency_ms,score,rows,cached,country,amount" {
			t.Fatalf("%v, %v", rows[0], err)
		}
		for _, row := range rows[1:] {
			ids = append(ids, row[0])
		}
	}
	if len(ids) != 1000 {
		t.Fatalf("%d rows", len(ids))
	}
	for i, id := range ids {
		if want := string(c.Column(0).Text(i)); id != want {
			t.Fatalf("row %d is %s, want %s", i, id, want)
		}
	}
}
