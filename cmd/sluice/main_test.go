package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake answers like the API does, in little.
func fake(t *testing.T) string {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/models/{model}/predictions", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.PathValue("model") == "broken":
			fmt.Fprint(w, `{"id":"","status":"failed","error":{"code":"internal","message":"it broke"}}`)
		case r.PathValue("model") == "none":
			w.WriteHeader(404)
			fmt.Fprint(w, `{"title":"No such model","status":404,"code":"model_not_found","detail":"there is no model none"}`)
		case r.Header.Get("Accept") == "text/event-stream":
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "event: output\nid: s-1\ndata: {\"step\":1}\n\nevent: error\nid: s-2\ndata: {\"code\":\"draining\",\"message\":\"the server stops\"}\n\n")
		case r.Header.Get("Prefer") != "":
			fmt.Fprintf(w, `{"id":"pred_1","status":"queued %s%s","output_url":"/v1/predictions/pred_1/output"}`, r.Header.Get("Prefer"), r.Header.Get("Cancel-After"))
		default:
			fmt.Fprintf(w, `{"status":"succeeded","output":%s}`, body)
		}
	})
	mux.HandleFunc("GET /v1/predictions", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer sk_1" {
			w.WriteHeader(401)
			return
		}
		if r.URL.Query().Get("model") == "many" { // of which the latest are asked for
			fmt.Fprintf(w, `{"data":[{"id":"pred_3","model":%q},{"id":"pred_2"}],"has_more":true,"next_cursor":"c"}`, r.URL.RawQuery)
			return
		}
		fmt.Fprintf(w, `{"data":[{"id":"pred_1","status":"failed","model":"iris","client_ref":"\u001b[2J","attempts":2,"error":{"code":"poison"}}],"has_more":false,"q":%q}`, r.URL.RawQuery)
	})
	mux.HandleFunc("GET /v1/predictions/pred_1/events", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "event: prediction.failed\nid: e-1\ndata: {\"subject\":\"pred_1\",\"time\":\"T\",\"data\":{\"status\":\"failed\"}}\n\nevent: end\nid: e-1\ndata: {}\n\n")
	})
	mux.HandleFunc("GET /v1/predictions/pred_1/output", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "content") })
	mux.HandleFunc("GET /v1/predictions/pred_1", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"id":"pred_1","status":"succeeded","output":{"outputs":[]}}`)
	})
	mux.HandleFunc("GET /v2/models/iris/versions/2", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"inputs":[{"name":"x","shape":[-1,4]}],"outputs":[{"name":"y"},{"name":"z"}]}`)
	})
	mux.HandleFunc("POST /v2/repository/index", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"name":"iris","version":"2","state":"READY","reason":""}]`)
	})
	uploads(mux)
	batches(mux)
	versions(mux)
	exports(mux)
	mux.HandleFunc("POST /v1/models/iris/evaluations", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), `"source":{"arm":"a","hours":6}`) || !strings.Contains(string(body), `"segment_by":["arm"]`) {
			t.Errorf("%s", body)
		}
		fmt.Fprint(w, `{"id":"eval_1","status":"queued"}`)
	})
	mux.HandleFunc("GET /v1/evaluations/eval_1", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"id":"eval_1","status":"completed","model":"iris","candidate":{"version":"3"},"result":{"rows":9,"flips":1,"flip_rate":0.11,"segments":[{"by":"arm","values":[{"value":"b","rows":4,"flips":1}]}]},"diff":{"url":"/v1/evaluations/eval_1/diff"}}`)
	})
	mux.HandleFunc("GET /v1/evaluations/eval_1/diff", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the rows") })
	mux.HandleFunc("GET /v1/evaluations/eval_2", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"id":"eval_2","status":"failed","error":{"code":"evaluation_timeout","message":"too long"}}`)
	})
	releases(mux)
	costs(mux)
	schedules(mux)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

// schedules shows what it was asked for.
func schedules(mux *http.ServeMux) {
	mux.HandleFunc("/v1/export-schedules/esc_1", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			w.WriteHeader(204)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"id":"esc_1","name":%q,"next_runs":["T1","T2"]}`, r.Header.Get("If-Match")+string(body))
	})
	mux.HandleFunc("POST /v1/export-schedules", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"id":"esc_1","made":%s}`, body)
	})
}

// uploads takes any content in one piece.
func uploads(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/uploads", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"id":"upl_1","state":"open","offset":0}`)
	})
	mux.HandleFunc("GET /v1/uploads/upl_1", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"id":"upl_1","state":"open","offset":0}`)
	})
	mux.HandleFunc("PATCH /v1/uploads/upl_1", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, `{"id":"upl_1","state":"complete"}`)
	})
}

// batches has one that ends when it is looked at twice, or fails at once.
func batches(mux *http.ServeMux) {
	looks := 0
	mux.HandleFunc("POST /v1/batches", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"id":"batch_1","status":"validating","model":%q}`, body)
	})
	mux.HandleFunc("GET /v1/batches/{id}", func(w http.ResponseWriter, r *http.Request) {
		looks++
		switch {
		case r.PathValue("id") == "batch_2":
			fmt.Fprint(w, `{"id":"batch_2","status":"failed","row_counts":{"total":0},"error":{"code":"model_gone","message":"the model is gone"}}`)
		case looks == 1:
			fmt.Fprint(w, `{"id":"batch_1","status":"in_progress","waiting":{"code":"storage_full","message":"the disk is full"},"row_counts":{"total":4,"pending":2,"succeeded":2}}`)
		default:
			fmt.Fprint(w, `{"id":"batch_1","status":"completed","row_counts":{"total":3000000,"pending":0,"succeeded":3000000},"progress":{"percent":100}}`)
		}
	})
	mux.HandleFunc("POST /v1/batches/batch_1/{act}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"id":"batch_1","status":"after %s"}`, r.PathValue("act"))
	})
	mux.HandleFunc("GET /v1/batches/batch_1/{what}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.TrimPrefix(r.URL.RequestURI(), "/v1/batches/batch_1/"))
	})
}

// versions has an alias of iris, and none of others.
func versions(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"data":[{"name":"iris","versions":2,"latest":{"number":3,"stage":"ready","labels":{"team":"a"}},"aliases":{"champion":2},"updated_at":"limit= %s"}]}`, r.URL.RawQuery)
	})
	mux.HandleFunc("POST /v1/models/{model}/versions", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"model":%q,"number":3}`, body)
	})
	mux.HandleFunc("GET /v1/models/{model}/aliases/{alias}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) })
	mux.HandleFunc("GET /v1/models/iris/aliases/champion", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"7"`)
		fmt.Fprint(w, `{}`)
	})
	mux.HandleFunc("PUT /v1/models/{model}/aliases/{alias}", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.PathValue("alias") == "safe" {
			w.WriteHeader(http.StatusAccepted)
		}
		fmt.Fprintf(w, `{"model":%q,"alias":%q,"version":"2"}`, r.Header.Get("If-None-Match"), string(body)+r.Header.Get("If-Match"))
	})
}

// exports has one of two files, which is done when it is looked at twice.
func exports(mux *http.ServeMux) {
	looks := 0
	mux.HandleFunc("POST /v1/exports", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"id":"exp_1","status":"queued"}`) })
	mux.HandleFunc("POST /v1/exports/preview", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"columns":[{"name":"a"}],"rows":[{"a":%q}]}`, body)
	})
	mux.HandleFunc("GET /v1/exports/exp_1", func(w http.ResponseWriter, r *http.Request) {
		if looks++; looks == 1 {
			fmt.Fprint(w, `{"id":"exp_1","status":"running","progress":{"rows_scanned":1,"rows_total":2}}`)
			return
		}
		fmt.Fprint(w, `{"id":"exp_1","status":"completed","rows":2,"parts":[{"url":"/v1/exports/exp_1/content?part=1"},{"url":"/v1/exports/exp_1/content?part=2"}]}`)
	})
	mux.HandleFunc("GET /v1/exports/exp_1/content", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "part "+r.URL.Query().Get("part")) })
	mux.HandleFunc("POST /v1/exports/exp_3/cancel", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":"exp_3","status":"cancelled"}`) })
	mux.HandleFunc("DELETE /v1/exports/exp_3", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /v1/exports/exp_2", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"id":"exp_2","status":"expired"}`) })
}

// releases has one, which can be acted on as it is.
func releases(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/releases", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"id":"rel_1","model":%q}`, body)
	})
	mux.HandleFunc("GET /v1/releases/rel_1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"4"`)
		fmt.Fprint(w, `{"id":"rel_1","status":"running"}`)
	})
	mux.HandleFunc("POST /v1/releases/rel_1/{act}", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"id":"rel_1","status":%q}`, r.PathValue("act")+r.Header.Get("If-Match")+string(body))
	})
}

// sluice runs a command, and returns what it says and its exit code.
func sluice(t *testing.T, input string, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, []string{"SLUICE_CLIENT_URL=" + fake(t), "SLUICE_CLIENT_KEY=sk_1"}, terminal{strings.NewReader(input), &o, &e, true})
	http.DefaultClient.CloseIdleConnections()
	return o.String(), e.String(), code
}

func TestCommands(t *testing.T) {
	rows := filepath.Join(t.TempDir(), "rows.json")
	if err := os.WriteFile(rows, []byte("\xef\xbb\xbf"+`{"rows":[{"x":1}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		line, input string
		code        int
		out, errs   string // parts of them
	}{
		{line: `predict iris --row {"x":1}`, out: `{"rows":[{"x":1}]}`},
		{line: `predict iris -f ` + rows + ` --client-ref me`, out: `{"client_ref":"me","rows":[{"x":1}]}`},
		{line: `predict iris -f -`, input: `{"inputs":[]}`, out: `{"inputs":[]}`},
		{line: `predict iris --row {"x":1} --async`, out: "pred_1 queued respond-async /v1/predictions/pred_1/output"},
		{line: `predict iris --row {"x":1} --async --cancel-after 30s`, out: "pred_1 queued respond-async30s"},
		{line: `predict iris --row {"x":1} --wait 5 -o json`, out: `"status":"queued wait=5"`},
		{line: `predict iris --row {"x":1} --stream`, code: exitFailed, out: `s-1  output  {"step":1}`, errs: "the server stops (draining)"},
		{line: `predict broken --row {"x":1}`, code: exitFailed, errs: "the prediction failed: it broke (internal)"},
		{line: `predict none --row {"x":1}`, code: exitRefused, errs: "there is no model none (404 model_not_found)"},
		{line: `predict iris --row x`, code: exitUsage, errs: "--row x is no JSON"},
		{line: `predict iris -f ` + rows + `.none`, code: exitUsage, errs: "no such file"},
		{line: `predict iris`, code: exitUsage, errs: "row file"},
		{line: `predict iris --row {} --async --stream`, code: exitUsage, errs: "async"},
		{line: `predict`, code: exitUsage, errs: "the name of a model"},
		{line: `jobs list`, out: "pred_1  failed  iris   -        ·[2J  2"},
		{line: `jobs list --model many --limit 1`, out: "pred_3  -       limit=2&model=many&order=desc", errs: "the latest 1, and there are more"},
		{line: `jobs list --limit -1`, code: exitUsage, errs: "--limit"},
		{line: `jobs list -o json`, out: `"client_ref":"\u001b[2J"`},
		{line: `jobs get pred_1 --wait 3s`, out: `{"outputs":[]}`},
		{line: `jobs tail pred_1`, out: "e-1  T  pred_1  prediction.failed  {\"status\":\"failed\"}\ne-1  end  {}\n"},
		{line: `jobs tail pred_1 -o json`, out: `{"data":{"subject":"pred_1","time":"T","data":{"status":"failed"}},"id":"e-1","type":"prediction.failed"}`},
		{line: `jobs tail pred_1 --model x`, code: exitUsage, errs: "or neither"},
		{line: `models served`, out: "iris  2        READY"},
		{line: `models list`, out: `iris  2         3       ready  {"champion":2}  {"team":"a"}  limit=`},
		{line: `models list --search IR --stage ready --label team=a:b --created-from T --limit 7`, out: "created_from=T&label=team%3Aa%3Ab&limit=7&search=IR&stage=ready"},
		{line: `models list -o json`, out: `{"name":"iris"`},
		{line: `models list --label team`, code: exitUsage, errs: "NAME=VALUE"},
		{line: `models list iris`, code: exitUsage, errs: "no arguments"},
		{line: `download /v1/predictions/pred_1/output`, out: "content"},
		{line: `download v1`, code: exitUsage, errs: "begins with /"},
		{line: `get /v1/predictions`, out: `"has_more":false`},
		{line: `upload ` + rows, out: "upl_1\n", errs: "rows.json [##############################] 100 %"},
		{line: `batch submit ` + rows + ` -m iris --format csv --columns x`, code: exitUsage, errs: "INPUT=COLUMN"},
		{line: `batch submit ` + rows, code: exitUsage, errs: "model"},
		{line: `batch submit ` + rows + ` -m iris --format csv --columns input=a,b --row-id id --include a,b -o json`,
			out: `{\"columns\":{\"input\":[\"a\",\"b\"]},\"format\":\"csv\",\"input\":{\"upload_id\":\"upl_1\"},\"model\":\"iris\",\"output\":{\"include_input\":[\"a\",\"b\"]},\"row_id\":\"id\"}`},
		{line: `batch submit ` + rows + ` -m iris --format csv --watch`, out: "batch_1  completed  -      -        3000000  3000000", errs: "the disk is full (storage_full)"},
		{line: `batch submit ` + rows + ` -m iris --format csv --delimiter \t --quote none --header=false --decimal , --encoding windows-1252 --metadata a=b=c -o json`,
			out: `{\"csv\":{\"decimal\":\",\",\"delimiter\":\"\\t\",\"header\":false,\"quote\":\"none\"},\"encoding\":\"windows-1252\",\"format\":\"csv\",\"input\":{\"upload_id\":\"upl_1\"},\"metadata\":{\"a\":\"b=c\"},\"model\":\"iris\"}`},
		{line: `batch submit ` + rows + ` -m iris --format xlsx --sheet s --header --results parquet,xlsx --on-row-error stop --max-error-ratio 0.5 --deadline 2031-01-02T03:04:05Z -o json`,
			out: `{\"csv\":{\"header\":true},\"deadline_at\":\"2031-01-02T03:04:05Z\",\"format\":\"xlsx\",\"input\":{\"upload_id\":\"upl_1\"},\"max_error_ratio\":0.5,\"model\":\"iris\",\"on_row_error\":\"stop\",\"output\":{\"formats\":[\"parquet\",\"xlsx\"]},\"sheet\":\"s\"}`},
		{line: `batch submit ` + rows + ` -m iris --max-error-ratio 0 -o json`, out: `\"max_error_ratio\":0,`},
		{line: `batch submit ` + rows + ` -m iris --deadline 90m -o json`, out: `\"deadline_at\":\"2`},
		{line: `batch submit ` + rows + ` -m iris --deadline -5m`, code: exitUsage, errs: "such as 90m"},
		{line: `batch submit ` + rows + ` -m iris --deadline tomorrow`, code: exitUsage, errs: "such as 90m"},
		{line: `batch submit ` + rows + ` -m iris --format pdf`, code: exitUsage, errs: "--format is one of csv, jsonl, parquet, arrow, xlsx"},
		{line: `batch submit ` + rows + ` -m iris --encoding utf8`, code: exitUsage, errs: "--encoding is one of utf-8"},
		{line: `batch submit ` + rows + ` -m iris --on-row-error skip`, code: exitUsage, errs: "continue, stop"},
		{line: `batch submit ` + rows + ` -m iris --results csv,arrow`, code: exitUsage, errs: "--results is one of"},
		{line: `batch submit ` + rows + ` -m iris --results csv --out r.xlsx`, code: exitUsage, errs: "none of --results"},
		{line: `batch submit ` + rows + ` -m iris --max-error-ratio 1.5`, code: exitUsage, errs: "from 0 to 1"},
		{line: `batch submit ` + rows + ` -m iris --max-error-ratio NaN`, code: exitUsage, errs: "from 0 to 1"},
		{line: `batch submit ` + rows + ` -m iris --metadata a`, code: exitUsage, errs: "--metadata is NAME=VALUE"},
		{line: `batch watch batch_2`, code: exitFailed, out: "batch_2  failed", errs: "the model is gone (model_gone)"},
		{line: `batch results batch_1`, out: "results"},
		{line: `batch results batch_1 --format parquet`, out: "results?format=parquet"},
		{line: `batch results batch_1 --format arrow`, code: exitUsage, errs: "--format is one of csv"},
		{line: `batch results batch_1 --format csv --errors`, code: exitUsage, errs: "format"},
		{line: `batch pause batch_1`, out: "after pause"},
		{line: `batch results batch_1 --errors`, out: "errors"},
		{line: `models register new ` + rows + ` --label a=b --hold`, out: `{"files":[{"name":"rows.json","upload_id":"upl_1"}],"hold":true,"labels":{"a":"b"}}`},
		{line: `models register new`, code: exitUsage, errs: "at least one file"},
		{line: `models promote iris 2`, out: `{"version":"2"}"7"`},
		{line: `models promote other 2 --protect`, out: `{"protected":true,"version":"2"}`},
		{line: `models promote iris 2 --alias safe`, errs: "somebody else has to approve"},
		{line: `models evaluate iris`, code: exitUsage, errs: "--candidate"},
		{line: `models evaluate iris --candidate 3 --hours 6 --arm a --segment-by arm`, out: "arm  b        4     1"},
		{line: `models evaluations get eval_1 -`, out: "the rows"},
		{line: `models evaluations get eval_2`, code: exitFailed, errs: "too long"},
		{line: `export usage`, code: exitUsage, errs: "--format is needed"},
		{line: `export usage --format csv`, out: "exp_1  completed  -        -       2", errs: " 50 %"},
		{line: `export predictions --preview --columns a,b --where n>=3 --where s!=x=y --from T --time-zone UTC`,
			out: `{"columns":["a","b"],"dataset":"predictions","filters":[{"column":"n","op":"ge","value":3},{"column":"s","op":"ne","value":"x=y"}],"format":"jsonl","from":"T","options":{"time_zone":"UTC"}}`},
		{line: `export jobs --preview --name n --where a=null --where b!=null --bom --delimiter \t --decimal , --null NA --formula-guard=false --sheet-rows 9 --format csv`,
			out: `"filters":[{"column":"a","op":"is_null"},{"column":"b","op":"not_null"}],"format":"csv","name":"n","options":{"bom":true,"decimal":",","delimiter":"\\t","formula_guard":false,"null":"NA","sheet_rows":9}}`},
		{line: `export cancel exp_3`, out: "cancelled"},
		{line: `export delete exp_3`},
		{line: `export delete exp_4`, code: exitRefused},
		{line: `export jobs --preview --sort=-a,b`, out: `"sort":[{"column":"a","descending":true},{"column":"b","descending":false}]`},
		{line: `export schedules create jobs --cron @daily --zone UTC --window --format csv -o json`, out: `"made":{"cron":"@daily","export":{"dataset":"jobs","format":"csv"},"time_zone":"UTC","window":true}`},
		{line: `export schedules create jobs --format csv`, code: exitUsage, errs: "cron"},
		{line: `export schedules pause esc_1`, out: `*{"paused":true}`},
		{line: `export schedules get esc_1`, out: "T1"},
		{line: `export schedules delete esc_1`},
		{line: `export x --format csv --where =3`, code: exitUsage, errs: "COLUMN=VALUE"},
		{line: `export get exp_2`, code: exitFailed, errs: "the export exp_2 is expired"},
		{line: `releases start -f ` + rows, out: `{"rows":[{"x":1}]}`},
		{line: `releases get rel_1`, out: "rel_1  running"},
		{line: `releases pause rel_1 --reason late`, out: `pause"4"{"reason":"late"}`},
		{line: `upload ` + rows + `.none`, code: exitUsage, errs: "no such file"},
		{line: `audit verify`, code: exitFailed, errs: "takes one folder"},
		{line: `--output xml models list`, code: exitUsage, errs: "--output is table or json"},
		{line: `--url nowhere models list`, code: exitUsage, errs: "no address of a server"},
		{line: `--nonsense`, code: exitUsage, errs: "unknown flag"},
		{line: `frob`, code: exitUsage, errs: "unknown command"},
		{line: `__complete batch submit x --encoding w`, out: "windows-1252\n"},
		{line: `__complete batch results x --format p`, out: "parquet\n"},
		{line: `__complete export x --delimiter=`, out: "|\n"},
		{line: `completion bash`, out: "bash completion"},
		{line: `help predict`, out: "--row"},
	} {
		t.Run(tc.line, func(t *testing.T) {
			out, errs, code := sluice(t, tc.input, strings.Fields(tc.line)...)
			if code != tc.code || !strings.Contains(out, tc.out) || !strings.Contains(errs, tc.errs) {
				t.Errorf("exit %d, wants %d\nout: %s\nerr: %s", code, tc.code, out, errs)
			}
		})
	}
}

// What a model takes comes before what it gives, whenever it is asked.
func TestInputsComeFirst(t *testing.T) {
	for range 8 {
		out, errs, code := sluice(t, "", "models", "get", "iris:2")
		if x, y, z := strings.Index(out, "input   x"), strings.Index(out, "output  y"), strings.Index(out, "output  z"); code != exitOK || x < 0 || y < x || z < y {
			t.Fatalf("exit %d, %s%s", code, out, errs)
		}
	}
}

// A download appears as a whole or not at all.
func TestDownloadToAFile(t *testing.T) {
	folder := t.TempDir()
	out := filepath.Join(folder, "out")
	if _, errs, code := sluice(t, "", "download", "/v1/predictions/pred_1/output", "--out", out); code != exitOK {
		t.Fatal(errs)
	}
	if b, err := os.ReadFile(out); string(b) != "content" {
		t.Errorf("%q, %v", b, err)
	}
	if _, _, code := sluice(t, "", "download", "/v1/none", "--out", out+"2"); code != exitRefused {
		t.Errorf("exit %d", code)
	}
	if left, err := os.ReadDir(folder); len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}

// The files of an export are numbered.
func TestExportOfSeveralFiles(t *testing.T) {
	folder := t.TempDir()
	if _, errs, code := sluice(t, "", "export", "usage", "--out", filepath.Join(folder, "u.csv")); code != exitOK {
		t.Fatal(errs)
	}
	for i, name := range []string{"u-1.csv", "u-2.csv"} {
		if b, err := os.ReadFile(filepath.Join(folder, name)); string(b) != fmt.Sprintf("part %d", i+1) {
			t.Errorf("%s has %q, %v", name, b, err)
		}
	}
}

func TestInterruption(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var o, e bytes.Buffer
	if code := run(ctx, []string{"models", "list"}, []string{"SLUICE_CLIENT_URL=" + fake(t)}, terminal{nil, &o, &e, false}); code != exitCanceled {
		t.Errorf("exit %d: %s", code, e.String())
	}
}

func TestBar(t *testing.T) {
	var e bytes.Buffer
	p := &program{terminal: terminal{err: &e, live: true}}
	b := p.bar("a\x1b", 2048)
	b.set(0)
	b.set(2048)
	b.end()
	if got := e.String(); !strings.Contains(got, "a· ["+strings.Repeat("#", barWidth)+"] 100 %") || !strings.HasSuffix(got, "\n") {
		t.Errorf("%q", got)
	}
	e.Reset()
	unknown := p.bar("x", -1)
	unknown.of(5<<20, -1)
	if got := e.String(); !strings.Contains(got, "x  5.0 MiB  ") {
		t.Errorf("%q", got)
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 3 << 40: "3.0 TiB"} {
		if got := size(n); got != want {
			t.Errorf("%d is %s", n, got)
		}
	}
}
