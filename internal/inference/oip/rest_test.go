package oip

import (
	"context"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
)

func TestServerMetadata(t *testing.T) {
	s := testServer(t, testModels(), Config{ServerName: "sluice", ServerVersion: "1.2.3"})
	var got struct {
		Name, Version string
		Extensions    []string
	}
	get(t, s, "/v2").decode(t, &got)
	if got.Name != "sluice" || got.Version != "1.2.3" || !slices.Equal(got.Extensions, Extensions()) {
		t.Errorf("got %+v", got)
	}
}

func TestHealth(t *testing.T) {
	m := testModels()
	s := testServer(t, m, Config{})
	get(t, s, "/v2/health/live").wantBody(t, `{"live":true}`)
	get(t, s, "/v2/health/ready").wantBody(t, `{"ready":true}`)
	m.notReady = true
	if a := get(t, s, "/v2/health/ready"); a.status != 400 || string(a.body) != `{"ready":false}` {
		t.Errorf("got %d %s", a.status, a.body)
	}
	get(t, s, "/v2/health/live").wantBody(t, `{"live":true}`)
	get(t, s, "/v2/models/m/ready").wantBody(t, `{"name":"m","ready":true}`+"\n")
	get(t, s, "/v2/models/none/ready").wantError(t, 400, "Model version not ready")
	get(t, s, "/v2/models/m/versions/2/ready").wantError(t, 400, "Model version not ready")
}

func TestModelMetadata(t *testing.T) {
	m := testModels()
	m.versions[1].SHA256 = "ab12"
	s := testServer(t, m, Config{})
	get(t, s, "/v2/models/m").wantBody(t, `{"name":"m","versions":["1","3"],"platform":"onnxruntime_onnx",`+
		`"inputs":[{"name":"x","datatype":"FP32","shape":[-1,-1]}],"outputs":[{"name":"x_OUT","datatype":"FP32","shape":[-1,-1]}],`+
		`"properties":{"batching":"across requests","sha256":"ab12"}}`+"\n")
	m.versions[1].CrossRequest, m.versions[1].Invariance = false, "row 2 changed"
	if a := get(t, s, "/v2/models/m"); !strings.Contains(string(a.body), `"batch_invariance":"row 2 changed","batching":"within one request"`) {
		t.Errorf("got %s", a.body)
	}
	if a := get(t, s, "/v2/models/m/config"); a.status != 200 || strings.Contains(string(a.body), "dynamic_batching") {
		t.Errorf("got %s", a.body)
	}
	get(t, s, "/v2/models/none").wantError(t, 404, "Request for unknown model: 'none' is not found")
	get(t, s, "/v2/models/none/config").wantError(t, 404, "'none'")
}

func TestUnsupportedExtensions(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	for _, route := range []string{
		"GET /v2/systemsharedmemory/status", "GET /v2/cudasharedmemory/region/r/status", "POST /v2/systemsharedmemory/region/r/register",
		"POST /v2/cudasharedmemory/region/r/unregister", "POST /v2/systemsharedmemory/unregister", "GET /v2/trace/setting", "POST /v2/trace/setting",
		"GET /v2/models/m/trace/setting", "GET /v2/logging", "POST /v2/logging",
	} {
		method, path, _ := strings.Cut(route, " ")
		send(t, s, method, path, nil).wantError(t, 501, "not supported")
	}
}

func TestRequestParametersArrive(t *testing.T) {
	m := testModels()
	s := testServer(t, m, Config{})
	var got serve.Request
	m.run = func(_ context.Context, req *serve.Request) error { got = *req; return nil }
	body := `{"parameters":{"sequence_id":0,"sequence_start":false,"priority":2,"timeout":1500000,"custom":"a","n":1.5,"b":true},` + jsonRequest[1:]
	post(t, s, "/v2/models/m/infer", body).wantBody(t, jsonResponse)
	if got.Priority != 2 || got.Timeout != 1500*time.Millisecond {
		t.Errorf("got %+v", got)
	}
	body = `{"parameters":{"sequence_id":"","priority":18446744073709551615,"timeout":18446744073709551615},"id":"a\u00e9\n",` + jsonRequest[1:]
	post(t, s, "/v2/models/m/infer", body).wantBody(t, strings.Replace(jsonResponse, `{`, `{"id":"aé\n",`, 1))
	if got.Priority != math.MaxInt32 || got.Timeout < math.MaxInt64-time.Millisecond || got.ID != "aé\n" {
		t.Errorf("got %+v", got)
	}
}

func TestOutputs(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	inputs := `{"inputs":[{"name":"b","shape":[1,2],"datatype":"INT32","data":[3,4]},{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,2]}]`
	const (
		head  = `{"model_name":"two","model_version":"1","outputs":[`
		aJSON = `{"name":"a_OUT","datatype":"FP32","shape":[1,2],"data":[1.0,2.0]}`
		bJSON = `{"name":"b_OUT","datatype":"INT32","shape":[1,2],"data":[3,4]}`
		aBin  = `{"name":"a_OUT","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}`
		bBin  = `{"name":"b_OUT","datatype":"INT32","shape":[1,2],"parameters":{"binary_data_size":8}}`
	)
	a, b := floats(1, 2), "\x03\x00\x00\x00\x04\x00\x00\x00"
	for _, c := range []struct{ rest, text, data string }{
		{`}`, aJSON + "," + bJSON, ""},
		{`,"outputs":[]}`, aJSON + "," + bJSON, ""},
		{`,"outputs":[{"name":"b_OUT"}]}`, bJSON, ""},
		{`,"outputs":[{"name":"b_OUT"},{"name":"a_OUT"}]}`, bJSON + "," + aJSON, ""},
		{`,"parameters":{"binary_data_output":true}}`, aBin + "," + bBin, a + b},
		{`,"outputs":[{"name":"b_OUT","parameters":{"binary_data":true}},{"name":"a_OUT","parameters":{"binary_data":true}}]}`, bBin + "," + aBin, b + a},
		{`,"outputs":[{"name":"a_OUT","parameters":{"binary_data":false}},{"name":"b_OUT"}],"parameters":{"binary_data_output":true}}`, aJSON + "," + bBin, b},
		{`,"outputs":[{"parameters":{"binary_data":true,"other":1},"name":"a_OUT"}]}`, aBin, a},
	} {
		got := post(t, s, "/v2/models/two/infer", inputs+c.rest)
		if c.data == "" {
			got.wantBody(t, head+c.text+"]}")
			continue
		}
		if text, data := got.split(t); text != head+c.text+"]}" || data != c.data {
			t.Errorf("%s: got %s %x", c.rest, text, data)
		}
	}
}

func TestClassification(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	ask := func(parameters string) answer {
		return post(t, s, "/v2/models/scores/infer", `{"inputs":[{"name":"s","shape":[2,3],"datatype":"FP32","data":[1,3,2,0.5,NaN,0.5]}],"outputs":[{"name":"s_OUT","parameters":{`+parameters+`}}]}`)
	}
	head := `{"model_name":"scores","model_version":"1","outputs":[{"name":"s_OUT","datatype":"BYTES","shape":`
	ask(`"classification":2`).wantBody(t, head+`[2,2],"data":["3.000000:1:dog","2.000000:2","0.500000:0:cat","0.500000:2"]}]}`)
	ask(`"classification":1`).wantBody(t, head+`[2,1],"data":["3.000000:1:dog","0.500000:0:cat"]}]}`)
	if a := ask(`"classification":99`); !strings.Contains(string(a.body), `"shape":[2,3]`) {
		t.Errorf("got %s", a.body)
	}
	text, data := ask(`"classification":1,"binary_data":true`).split(t)
	want := string(tensor.AppendBytes(tensor.AppendBytes(nil, "3.000000:1:dog"), "0.500000:0:cat"))
	if text != head+`[2,1],"parameters":{"binary_data_size":`+strconv.Itoa(len(want))+`}}]}` || data != want {
		t.Errorf("got %s %q", text, data)
	}
}

func TestAllDatatypesBinary(t *testing.T) {
	v := allTypes()
	s := testServer(t, testModels(), Config{})
	var specs []string
	var data string
	for _, p := range v.Signature.Inputs {
		one := strings.Repeat("\x01", p.Datatype.Size())
		if p.Datatype == tensor.Bytes {
			one = string(tensor.AppendBytes(nil, "a"))
		}
		data += one
		specs = append(specs, `{"name":"`+p.Name+`","datatype":"`+p.Name+`","shape":[1,1],"parameters":{"binary_data_size":`+strconv.Itoa(len(one))+`}}`)
	}
	text := `{"parameters":{"binary_data_output":true},"inputs":[` + strings.Join(specs, ",") + `]}`
	if _, got := post(t, s, "/v2/models/types/infer", text+data, HeaderLength, strconv.Itoa(len(text))).split(t); got != data {
		t.Errorf("got %x, want %x", got, data)
	}
}

func TestServerTiming(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	a := post(t, s, "/v2/models/m/infer", jsonRequest)
	want := regexp.MustCompile(`^decode;dur=0\.001, queue;dur=2\.345, infer;dur=1000\.000, encode;dur=\d+\.\d{3}, total;dur=\d+\.\d{3}$`)
	if got := a.header.Get("Server-Timing"); !want.MatchString(got) {
		t.Errorf("got %q", got)
	}
	if a.header.Get("Content-Length") != strconv.Itoa(len(a.body)) {
		t.Errorf("Content-Length %q of %d", a.header.Get("Content-Length"), len(a.body))
	}
	longest := new(headerValues)
	huge := serve.Timing{Decode: math.MaxInt64, Queue: math.MaxInt64, Infer: math.MaxInt64, Encode: math.MaxInt64}
	longest.number(math.MaxInt)
	longest.timing(&huge, math.MaxInt64)
	if got := longest.number(math.MaxInt); got[0] != "9223372036854775807" || longest.n > len(longest.text) {
		t.Errorf("got %q of %d bytes", got, longest.n)
	}
}

func TestGenerate(t *testing.T) {
	m := testModels()
	s := testServer(t, m, Config{})
	var got serve.Request
	m.run = func(_ context.Context, req *serve.Request) error {
		got = serve.Request{Timeout: req.Timeout, Priority: req.Priority, ID: req.ID}
		return nil
	}
	post(t, s, "/v2/models/text/generate", `{"t":"hi \"there\"","stream":false}`).
		wantBody(t, `{"model_name":"text","model_version":"1","t_OUT":"hi \"there\""}`)
	post(t, s, "/v2/models/text/versions/1/generate", `{"id":"7","parameters":{"t":["x"],"timeout":5,"temperature":0.5},"priority":1}`).
		wantBody(t, `{"id":"7","model_name":"text","model_version":"1","t_OUT":"x"}`)
	if diff := cmp.Diff(serve.Request{ID: "7", Timeout: 5 * time.Microsecond, Priority: 1}, got); diff != "" {
		t.Error(diff)
	}
	post(t, s, "/v2/models/m/generate", `{"x":[1,NaN,3]}`).wantBody(t, `{"model_name":"m","model_version":"3","x_OUT":[1.0,NaN,3.0]}`)
	post(t, s, "/v2/models/m/generate", `{"x":1.5}`).wantBody(t, `{"model_name":"m","model_version":"3","x_OUT":1.5}`)
	post(t, s, "/v2/models/m/generate", `{"x":[]}`).wantBody(t, `{"model_name":"m","model_version":"3","x_OUT":[]}`)
	post(t, s, "/v2/models/alone/generate", `{"x":[1,2,3,4]}`).wantBody(t, `{"model_name":"alone","model_version":"7","x_OUT":[1.0,2.0,3.0,4.0]}`)
	post(t, s, "/v2/models/wide/generate", `{"w":[1,2,3,4]}`).wantBody(t, `{"model_name":"wide","model_version":"1","w_OUT":[1.0,2.0,3.0,4.0]}`)

	for _, c := range []struct{ path, body, want string }{
		{"alone", `{"x":[1,2,3]}`, "input 'x': 3 values do not fit its shape [2,-1]"},
		{"text", `{"t":["a","b"]}`, "input 't': 2 values do not fit its shape [-1,1]"},
		{"text", `{"t":1}`, "input 't': data[0]: "},
		{"text", `{"t":"a","t":"b"}`, "input 't' is given twice"},
		{"text", `{"t":"a","parameters":{"t":"b"}}`, "input 't' is given twice"},
		{"text", `{}`, "expected 1 inputs but got 0"},
		{"text", `{"t":"a"`, "the JSON text ends"},
		{"text", `{"t":"a"}}`, "expected the end"},
		{"text", `{"t":"a","other":[1]}`, "parameter 'other': expected a string"},
		{"text", `{"t":"a","sequence_id":3}`, "takes no sequences"},
		{"text", `{"t":"a","triton_x":3}`, "reserved"},
		{"half", `{"h":1}`, "sending FP16 data via JSON is not supported"},
		{"m", `{"x":[[1]]}`, "nested deeper"},
	} {
		for _, endpoint := range []string{"/generate", "/generate_stream"} {
			post(t, s, "/v2/models/"+c.path+endpoint, c.body).wantError(t, 400, c.want)
		}
	}
	post(t, s, "/v2/models/text/generate", `{"t":"a"}`, "Content-Encoding", "gzip").wantError(t, 400, "no compressed requests")
	post(t, s, "/v2/models/none/generate", `{"t":"a"}`).wantError(t, 404, "'none'")
}

func TestGenerateStream(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	a := post(t, s, "/v2/models/text/generate_stream", `{"t":"two\nlines"}`)
	a.wantBody(t, `data: {"model_name":"text","model_version":"1","t_OUT":"two\nlines"}`+"\n\n")
	if got := a.header.Get("Content-Type"); got != "text/event-stream; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
}

func TestChooseCoding(t *testing.T) {
	for accept, want := range map[string]string{
		"":                              "",
		"gzip":                          "gzip",
		"deflate":                       "deflate",
		"gzip, deflate":                 "gzip",
		"gzip;q=0.5, deflate;q=0.8":     "deflate",
		"GZIP ; q=0.5":                  "gzip",
		"gzip;q=0":                      "",
		"gzip;q=0, *":                   "deflate",
		"*":                             "gzip",
		"*;q=0":                         "",
		"br":                            "",
		"identity, gzip;q=0.5":          "",
		"identity;q=0.5, gzip":          "gzip",
		"gzip;q=nan":                    "",
		"gzip;q=2":                      "",
		"gzip;level=1":                  "",
		"br, deflate;q=0.1, gzip;q=.05": "deflate",
	} {
		got := ""
		if coding := chooseCoding([]string{accept}); coding != nil {
			got = coding[0]
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", accept, got, want)
		}
	}
}

func TestConfigIsValidated(t *testing.T) {
	for _, c := range []Config{{MaxBody: -1}, {BodyTimeout: -1}} {
		if err := Register(echo.New(), testModels(), c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

// Requests in flight share nothing: each gets its own data back.
func TestConcurrentRequests(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	errs := make(chan string, 16)
	for g := range cap(errs) {
		go func() {
			for i := range 50 {
				want := floats(float32(g), float32(i), float32(g*i))
				body, header := binaryRequest("x", "FP32", "[1,3]", want)
				req, _ := http.NewRequest("POST", s.URL+"/v2/models/m/infer", strings.NewReader(body))
				req.Header.Set(HeaderLength, header)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					errs <- err.Error()
					return
				}
				b := make([]byte, 4096)
				n := 0
				for {
					m, err := resp.Body.Read(b[n:])
					if n += m; err != nil {
						break
					}
				}
				_ = resp.Body.Close()
				if !strings.HasSuffix(string(b[:n]), want) || resp.Header.Get("Content-Length") != strconv.Itoa(n) {
					errs <- "wrong answer: " + string(b[:n])
					return
				}
			}
			errs <- ""
		}()
	}
	for range cap(errs) {
		if e := <-errs; e != "" {
			t.Error(e)
		}
	}
}
