package exporthttp

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/export"
	"sluice/internal/batch/table"
	"sluice/internal/platform/web/api"
)

// What was asked for is shown as it was asked for.
func TestRequestsAreShownAsTheyWere(t *testing.T) {
	for name, text := range map[string]string{
		"least": `{"dataset":"usage","format":"csv","options":{}}`,
		"most": `{"dataset":"usage","columns":["hour","rows"],"filters":[{"column":"rows","op":"ge","value":9007199254740993},{"column":"version","op":"is_null"}],
			"from":"2026-01-01T00:00:00.000Z","to":"2026-02-01T00:00:00.000Z","as_of":"2026-03-01T00:00:00.000Z","sort":[{"column":"hour","descending":true},{"column":"rows"}],"format":"csv",
			"options":{"compression":"gzip","time_zone":"Europe/Berlin","bom":true,"delimiter":";","decimal":",","null":"NULL","formula_guard":false,"sheet_rows":5}}`,
	} {
		var asked NewExport
		if err := json.Unmarshal([]byte(text), &asked); err != nil {
			t.Fatal(err)
		}
		r := asked.request()
		if diff := cmp.Diff(asked, requested(&r)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestView(t *testing.T) {
	e := &edge{prefix: "/v1"}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	x := &export.Export{Status: export.Failed, Failure: &export.Failure{Code: "c", Message: "m"}, Request: export.Request{Dataset: "usage", Format: encode.CSV, AsOf: at},
		Progress: export.Progress{Total: 200, Scanned: 50, Rows: 40, Bytes: 9}}
	x.ID = "exp_1"
	total := int64(200)
	want := Export{ID: "exp_1", Object: "export", Status: "failed", Request: NewExport{Dataset: "usage", Format: "csv", AsOf: &api.Time{Time: at}},
		Progress: Progress{Percent: 25, RowsScanned: 50, RowsWritten: 40, RowsTotal: &total, Bytes: 9}, Error: &ExportError{"c", "m"},
		URLs: ExportURLs{"/v1/exports/exp_1", "/v1/exports/exp_1/content", "/v1/exports/exp_1/manifest", "/v1/exports/exp_1/cancel"}}
	if diff := cmp.Diff(want, e.view(x, at)); diff != "" {
		t.Error(diff)
	}
	x.Status, x.Failure, x.Due = export.Completed, nil, at.Add(time.Hour)
	x.Parts = []export.Part{{Name: "usage-00001.csv", Object: "secret", Rows: 40, Bytes: 9, SHA256: "ab"}}
	v := e.view(x, at)
	if v.Status != "completed" || *v.Rows != 40 || v.SHA256 != "ab" || v.Progress.Percent != 100 ||
		!cmp.Equal(v.Parts, []Part{{"/v1/exports/exp_1/content", "usage-00001.csv", 40, 9, "ab"}}) {
		t.Errorf("%+v", v)
	}
	x.Parts = append(x.Parts, x.Parts[0])
	if v = e.view(x, at); v.Parts[1].URL != "/v1/exports/exp_1/content?part=2" || v.SHA256 != "" {
		t.Errorf("%+v", v.Parts)
	}
	if v = e.view(x, at.Add(time.Hour)); v.Status != "expired" {
		t.Errorf("an hour later it is %s", v.Status)
	}
}

func TestRowsOf(t *testing.T) {
	c := table.NewChunk(table.Schema{{Name: "a", Type: table.String}, {Name: "b", Type: table.Int}})
	c.Column(0).AppendString("two\nlines")
	c.Column(0).AppendNull()
	c.Column(1).AppendInt(1)
	c.Column(1).AppendInt(2)
	rows, err := rowsOf(c)
	if err != nil || len(rows) != 2 || string(rows[0]) != `{"a":"two\nlines","b":1}` || string(rows[1]) != `{"a":null,"b":2}` {
		t.Errorf("%s, %v", rows, err)
	}
}
