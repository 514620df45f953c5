package oip

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// The conformance checks of the Open Inference Protocol for REST, by number.

const (
	jsonRequest  = `{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2.5]}]}`
	jsonResponse = `{"model_name":"m","model_version":"3","outputs":[{"name":"x_OUT","datatype":"FP32","shape":[1,2],"data":[1.0,2.5]}]}`
)

func floats(values ...float32) string {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return string(b)
}

// binaryRequest is a request of one binary input, and its header's value.
func binaryRequest(input, datatype, shape, data string) (body, header string) {
	text := fmt.Sprintf(`{"inputs":[{"name":%q,"shape":%s,"datatype":%q,"parameters":{"binary_data_size":%d}}],"parameters":{"binary_data_output":true}}`, input, shape, datatype, len(data))
	return text + data, strconv.Itoa(len(text))
}

func Test01_ContentTypeIsOptional(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	for _, contentType := range []string{"", "application/json", "application/octet-stream", "x/y; charset=nonsense", "\t"} {
		a := post(t, s, "/v2/models/m/infer", jsonRequest, "Content-Type", contentType)
		a.wantBody(t, jsonResponse)
		if a.header.Get("Content-Type") != "application/json" || a.header.Get(HeaderLength) != "" {
			t.Errorf("header %v", a.header)
		}
	}
}

func Test02_HeaderLengthMayBeTheBodys(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	post(t, s, "/v2/models/m/infer", jsonRequest, HeaderLength, strconv.Itoa(len(jsonRequest))).wantBody(t, jsonResponse)
}

func Test03_RawRequest(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	text, data := post(t, s, "/v2/models/m/infer", floats(1, 2, 3), HeaderLength, "0").split(t)
	if want := `{"model_name":"m","model_version":"3","outputs":[{"name":"x_OUT","datatype":"FP32","shape":[1,3],"parameters":{"binary_data_size":12}}]}`; text != want || data != floats(1, 2, 3) {
		t.Errorf("got %s %x", text, data)
	}
	text, data = post(t, s, "/v2/models/text/infer", "free \xff text", HeaderLength, "0").split(t)
	if !strings.Contains(text, `"shape":[1,1]`) || data != "\x0b\x00\x00\x00free \xff text" {
		t.Errorf("got %s %q", text, data)
	}
	text, data = post(t, s, "/v2/models/alone/infer", floats(1, 2, 3, 4), HeaderLength, "0").split(t)
	if !strings.Contains(text, `"shape":[2,2]`) || data != floats(1, 2, 3, 4) {
		t.Errorf("got %s %q", text, data)
	}
	post(t, s, "/v2/models/two/infer", "12345678", HeaderLength, "0").wantError(t, 400, "model with one input, but model 'two' has 2")
	post(t, s, "/v2/models/wide/infer", "12345678", HeaderLength, "0").wantError(t, 400, "more than one variable dimension")
	post(t, s, "/v2/models/m/infer", "12345", HeaderLength, "0").wantError(t, 400, "needs 4 bytes, got 5")
}

func Test04_LeftoverBytes(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	body, header := binaryRequest("x", "FP32", "[1,2]", floats(1, 2))
	post(t, s, "/v2/models/m/infer", body+"!", HeaderLength, header).
		wantError(t, 400, "unexpected additional input data for model 'm'")
	post(t, s, "/v2/models/m/infer", body[:len(body)-3], HeaderLength, header).
		wantError(t, 400, "unexpected size for input 'x', expecting 3 additional bytes for model 'm'")
}

func Test05_Compression(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	data := strings.Repeat(floats(1), 2000)
	body, header := binaryRequest("x", "FP32", "[1,2000]", data)
	gz, zl := new(bytes.Buffer), new(bytes.Buffer)
	g, z := gzip.NewWriter(gz), zlib.NewWriter(zl)
	for _, w := range []io.WriteCloser{g, z} {
		_, _ = io.WriteString(w, body)
		_ = w.Close()
	}
	for range 2 { // the second round meets the pooled codecs
		for encoding, packed := range map[string][]byte{"gzip": gz.Bytes(), "deflate": zl.Bytes(), "identity": []byte(body)} {
			a := send(t, s, "POST", "/v2/models/m/infer", packed, HeaderLength, header, "Content-Encoding", encoding, "Accept-Encoding", encoding)
			got := a.body
			if encoding != "identity" {
				if a.header.Get("Content-Encoding") != encoding || len(got) > 500 {
					t.Fatalf("%s: answered with %d %v", encoding, a.status, a.header)
				}
				var r io.Reader
				var err error
				if r, err = gzip.NewReader(bytes.NewReader(got)); encoding == "deflate" {
					r, err = zlib.NewReader(bytes.NewReader(got))
				}
				if err != nil {
					t.Fatal(err)
				}
				if got, err = io.ReadAll(r); err != nil {
					t.Fatal(err)
				}
			}
			text, binary := (answer{a.status, a.header, got}).split(t)
			if !json.Valid([]byte(text)) || binary != data {
				t.Errorf("%s: got %s and %d bytes", encoding, text, len(binary))
			}
		}
	}
}

func Test06_NestedAndFlatInFlatOut(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	want := `{"model_name":"m","model_version":"3","outputs":[{"name":"x_OUT","datatype":"FP32","shape":[2,2],"data":[1.0,2.0,3.0,4.0]}]}`
	for _, data := range []string{`[1,2,3,4]`, `[[1,2],[3,4]]`, "[ [1 ,2 ]\n, [3,\t4]\r]"} {
		post(t, s, "/v2/models/m/infer", `{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":`+data+`}]}`).wantBody(t, want)
		post(t, s, "/v2/models/m/infer", `{"inputs":[{"data":`+data+`,"shape":[2,2],"datatype":"FP32","name":"x"}]}`).wantBody(t, want)
		post(t, s, "/v2/models/m/infer", `{"inputs":[{"shape":[2,2],"data":`+data+`,"parameters":{},"name":"x","datatype":"FP32"}]}`).wantBody(t, want)
	}
}

func Test07_NoParametersOnJSONOutputs(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	body, header := binaryRequest("x", "FP32", "[1,1]", floats(1))
	body = strings.Replace(body, `"binary_data_output":true`, `"binary_data_output":false`, 1)
	a := post(t, s, "/v2/models/m/infer", body, HeaderLength, strconv.Itoa(1+atoi(t, header)))
	if a.status != 200 || strings.Contains(string(a.body), "parameters") {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func Test08_NaNAndInfinity(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	a := post(t, s, "/v2/models/m/infer", `{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[NaN,Infinity,-Infinity]}]}`)
	if a.status != 200 || !strings.Contains(string(a.body), `"data":[NaN,Infinity,-Infinity]`) {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func Test09_BytesThatAreNotText(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	data := string(tensor.AppendBytes(nil, "\xff\x00\xfe"))
	body, header := binaryRequest("t", "BYTES", "[1,1]", data)
	if _, got := post(t, s, "/v2/models/text/infer", body, HeaderLength, header).split(t); got != data {
		t.Errorf("got %q", got)
	}
	body = strings.Replace(body, "true}", "false}", 1)
	post(t, s, "/v2/models/text/infer", body, HeaderLength, strconv.Itoa(atoi(t, header)+1)).wantError(t, 400, "ask for this output with binary_data true")
}

func Test10_NoElements(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	for _, data := range []string{`[]`, `[[]]`} {
		a := post(t, s, "/v2/models/m/infer", `{"inputs":[{"name":"x","shape":[1,0],"datatype":"FP32","data":`+data+`}]}`)
		if a.status != 200 || !strings.Contains(string(a.body), `"shape":[1,0],"data":[]`) {
			t.Errorf("got %d %s", a.status, a.body)
		}
	}
	body, header := binaryRequest("x", "FP32", "[1,0]", "")
	text, data := post(t, s, "/v2/models/m/infer", body, HeaderLength, header).split(t)
	if data != "" || !strings.Contains(text, `"shape":[1,0],"parameters":{"binary_data_size":0}`) {
		t.Errorf("got %s %q", text, data)
	}
}

func Test11_LoadAndUnloadAnswer200(t *testing.T) {
	m := testModels()
	s := testServer(t, m, Config{})
	post(t, s, "/v2/repository/models/m/load", `{"parameters":{"config":"{\"name\":\"m\"}","file:1/model.onnx":"AQID"}}`).wantBody(t, "{}\n")
	post(t, s, "/v2/repository/models/n/load", `{}`).wantBody(t, "{}\n")
	post(t, s, "/v2/repository/models/o%2Fp/load", ``).wantBody(t, "{}\n")
	want := map[string]serve.LoadOptions{
		"m": {ConfigJSON: `{"name":"m"}`, Files: map[string][]byte{"1/model.onnx": {1, 2, 3}}}, "n": {}, "o/p": {},
	}
	if diff := cmp.Diff(want, m.loads); diff != "" {
		t.Error(diff)
	}
	post(t, s, "/v2/repository/models/m/unload", `{"parameters":{"unload_dependents":false}}`).wantBody(t, "{}\n")
	post(t, s, "/v2/repository/models/n/unload", ``).wantBody(t, "{}\n")
	if diff := cmp.Diff([]string{"m", "n"}, m.unloads); diff != "" {
		t.Error(diff)
	}
	for body, text := range map[string]string{
		`{"parameters":{"config":1}}`:       "load parameter 'config' must be a string",
		`{"parameters":{"config":null}}`:    "load parameter 'config' must be a string",
		`{"parameters":{"file:a":"%"}}`:     "load parameter 'file:a' is not base64",
		`{"parameters":{"confg":"x"}}`:      "unknown load parameter 'confg'",
		`{"parameters":[]}`:                 "must be empty or JSON of the form",
		`nonsense`:                          "must be empty or JSON of the form",
		`{"parameters":{"config":"x"}} + 1`: "must be empty or JSON of the form",
	} {
		post(t, s, "/v2/repository/models/m/load", body).wantError(t, 400, text)
	}
	post(t, s, "/v2/repository/models/m/unload", `{"parameters":{"unload_dependents":"no"}}`).wantError(t, 400, "unload_dependents")
	post(t, s, "/v2/repository/other/models/m/load", ``).wantError(t, 501, "'repository_name' specification is not supported")
}

func Test12_ErrorShape(t *testing.T) {
	m := testModels()
	s := testServer(t, m, Config{MaxBody: 100, MaxBodyKey: "SLUICE_MAX_BODY"})
	get(t, s, "/v2/nothing").wantError(t, 404, "Not Found")
	get(t, s, "/elsewhere").wantError(t, 404, "Not Found")
	get(t, s, "/v2/models/m/infer").wantError(t, 405, "Method Not Allowed")
	post(t, s, "/v2", "").wantError(t, 405, "Method Not Allowed")
	post(t, s, "/v2/models/m/infer", strings.Repeat(" ", 101)).wantError(t, 413, "larger than the limit of 100 bytes: send less at once, or raise SLUICE_MAX_BODY")
	post(t, s, "/v2/models/unknown/infer", "{}").wantError(t, 404, "Request for unknown model: 'unknown' is not found")
	post(t, s, "/v2/models/m/versions/9/infer", "{}").wantError(t, 404, "version 9")
	for _, c := range []struct {
		err    error
		status int
		text   string
		retry  string
	}{
		{fault.New(fault.Exhausted, "quota").WithRetryAfter(1500 * time.Millisecond), 429, "quota", "2"},
		{fault.New(fault.Unavailable, "Exceeds maximum queue size").WithRetryAfter(time.Millisecond), 503, "Exceeds maximum queue size", "1"},
		{context.DeadlineExceeded, 503, "Request timeout expired", ""},
		{fault.New(fault.Conflict, "conflict"), 400, "conflict", ""},
		{fault.New(fault.Unsupported, "unsupported"), 501, "unsupported", ""},
		{fault.New(fault.Unauthenticated, "who"), 401, "who", ""},
		{fault.New(fault.PermissionDenied, "no"), 403, "no", ""},
		{fault.New(fault.Canceled, "gone"), 499, "gone", ""},
		{fmt.Errorf("secret"), 500, "internal error", ""},
		{fault.Wrap(fault.Internal, fmt.Errorf("secret"), "the engine failed"), 500, "the engine failed", ""},
	} {
		m.run = func(context.Context, *serve.Request) error { return c.err }
		a := post(t, s, "/v2/models/m/infer", jsonRequest)
		a.wantError(t, c.status, c.text)
		if strings.Contains(string(a.body), "secret") || a.header.Get("Retry-After") != c.retry {
			t.Errorf("got %s, Retry-After %q", a.body, a.header.Get("Retry-After"))
		}
	}
	m.run = func(context.Context, *serve.Request) error { panic("boom") }
	post(t, s, "/v2/models/m/infer", jsonRequest).wantError(t, 500, "internal error")
	m.run = func(context.Context, *serve.Request) error { return fault.New(fault.Invalid, "bad") }
	post(t, s, "/v2/models/m/infer", strings.Replace(jsonRequest, "{", `{"id":"r\"1",`, 1)).wantError(t, 400, `[request id: r"1] bad`)
}

func Test13_EmptyPostToIndex(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	var all, ready []indexEntry
	post(t, s, "/v2/repository/index", "").decode(t, &all)
	post(t, s, "/v2/repository/index", `{"ready":true}`).decode(t, &ready)
	if len(all) != 11 || len(ready) != 10 {
		t.Errorf("got %d and %d entries", len(all), len(ready))
	}
	if diff := cmp.Diff(indexEntry{Name: "broken", State: "UNAVAILABLE", Reason: "no version"}, all[0]); diff != "" {
		t.Error(diff)
	}
	post(t, s, "/v2/repository/index", `{"ready":"yes"}`).wantError(t, 400, `{"ready": true or false}`)
	post(t, s, "/v2/repository/other/index", "").wantError(t, 501, "'repository_name'")
}

func Test14_StatisticsHaveAllGroups(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	for n := range 4 {
		for _, path := range []string{"/v2/models/m/versions/3/stats", "/v2/models/m/stats", "/v2/models/stats"} {
			var got struct {
				ModelStats []map[string]any `json:"model_stats"`
			}
			get(t, s, path).decode(t, &got)
			for _, stats := range got.ModelStats {
				groups := stats["inference_stats"].(map[string]any)
				for _, group := range []string{"success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"} {
					counters := groups[group].(map[string]any)
					_ = counters["ns"].(float64)
					count := counters["count"].(float64)
					if stats["name"] == "m" && stats["version"] == "3" && (group == "success" || group == "queue" || strings.HasPrefix(group, "compute")) && count != float64(n) {
						t.Errorf("%s after %d requests: %s is %v", path, n, group, count)
					}
				}
				for _, key := range []string{"last_inference", "inference_count", "execution_count"} {
					_ = stats[key].(float64)
				}
				if len(stats["batch_stats"].([]any)) != 0 != (n > 0 && stats["name"] == "m" && stats["version"] == "3") {
					t.Errorf("%s: batch_stats %v", path, stats["batch_stats"])
				}
			}
		}
		post(t, s, "/v2/models/m/infer", jsonRequest).wantBody(t, jsonResponse)
	}
	get(t, s, "/v2/models/none/stats").wantError(t, 400, "requested model 'none' is not available")
	get(t, s, "/v2/models/m/versions/2/stats").wantError(t, 400, "requested model 'm' is not available")
}

func Test15_QueueCountGrows(t *testing.T) {
	m := testModels()
	s := testServer(t, m, Config{})
	before := m.versions[1].Stats.Queue.Count.Load()
	post(t, s, "/v2/models/m/infer", jsonRequest).wantBody(t, jsonResponse)
	var got struct {
		ModelStats []modelStats `json:"model_stats"`
	}
	get(t, s, "/v2/models/m/versions/3/stats").decode(t, &got)
	if n := got.ModelStats[0].InferenceStats.Queue.Count; n != before+1 {
		t.Errorf("queue.count is %d after %d", n, before)
	}
}

func Test16_LeadingDimensionFollowsMaxBatchSize(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	for path, want := range map[string]int64{"/v2/models/m": -1, "/v2/models/alone": 2} {
		var metadata struct {
			Name, Platform  string
			Versions        []string
			Inputs, Outputs []struct {
				Name, Datatype string
				Shape          []int64
			}
		}
		get(t, s, path).decode(t, &metadata)
		var config map[string]any
		get(t, s, path+"/config").decode(t, &config)
		if metadata.Inputs[0].Shape[0] != want || metadata.Outputs[0].Shape[0] != want || (config["max_batch_size"].(float64) > 0) != (want < 0) {
			t.Errorf("%s: %+v, max_batch_size %v", path, metadata, config["max_batch_size"])
		}
		if _, batches := config["dynamic_batching"]; batches != (want < 0) {
			t.Errorf("%s: dynamic_batching %t", path, batches)
		}
	}
}

func Test22_VersionsAreNumeric(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	var metadata struct{ Versions []string }
	get(t, s, "/v2/models/m").decode(t, &metadata)
	if diff := cmp.Diff([]string{"1", "3"}, metadata.Versions); diff != "" {
		t.Error(diff)
	}
	get(t, s, "/v2/models/m/versions/1").decode(t, &metadata)
	if diff := cmp.Diff([]string{"1"}, metadata.Versions); diff != "" {
		t.Error(diff)
	}
	post(t, s, "/v2/models/m/versions/1/infer", jsonRequest).wantBody(t, strings.Replace(jsonResponse, `"3"`, `"1"`, 1))
}

func Test23_PercentEncodedNames(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	for _, name := range []string{"a%20b%2Fc%25", "a%20b%2fc%25", "%61%20b%2Fc%25"} {
		a := post(t, s, "/v2/models/"+name+"/infer", jsonRequest)
		a.wantBody(t, strings.Replace(strings.Replace(jsonResponse, `"m"`, `"a b/c%"`, 1), `"3"`, `"1"`, 1))
		if a := get(t, s, "/v2/models/"+name+"/versions/1/ready"); a.status != 200 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	get(t, s, "/v2/models/a%2520b").wantError(t, 404, "'a%20b'")
}

func Test24_HalfFloatsAreBinaryOnly(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	body, header := binaryRequest("h", "FP16", "[1,2]", "\x00\x3c\x00\x40")
	if _, data := post(t, s, "/v2/models/half/infer", body, HeaderLength, header).split(t); data != "\x00\x3c\x00\x40" {
		t.Errorf("got %x", data)
	}
	post(t, s, "/v2/models/half/infer", `{"inputs":[{"name":"h","shape":[1,1],"datatype":"FP16","data":[1]}]}`).
		wantError(t, 400, "sending FP16 data via JSON is not supported")
	body = strings.Replace(body, "true}", "false}", 1)
	post(t, s, "/v2/models/half/infer", body, HeaderLength, strconv.Itoa(1+atoi(t, header))).
		wantError(t, 400, "sending FP16 data via JSON is not supported")
}
