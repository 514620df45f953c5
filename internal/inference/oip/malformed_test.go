package oip

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/internal/inference/serve"
)

// Requests to infer that are wrong, and what they are told.
func TestMalformedRequests(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	input := func(members string) string { return `{"inputs":[{` + members + `}]}` }
	const (
		head  = `"name":"x","shape":[1,2],"datatype":"FP32"`
		valid = `"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]`
	)
	for _, c := range []struct{ model, body, want string }{
		// JSON
		{"m", ``, "the JSON text ends where an object was expected"},
		{"m", `[]`, "expected an object, got '['"},
		{"m", `{`, "the JSON text ends"},
		{"m", `{} x`, "expected the end of the JSON text"},
		{"m", `{"inputs":[],}`, "expected a string, got '}'"},
		{"m", `{"inputs" []}`, "expected ':' after a name"},
		{"m", `{"inputs":[{}] "id":1}`, `"name" is missing`},
		{"m", `{` + valid + ` "id":"1"}`, "expected ',' or '}'"},
		{"m", `{` + valid + `,"x":` + strings.Repeat("[", 100000) + `}`, "deeper than 100 levels"},
		{"m", `{` + valid + `,"x":` + strings.Repeat(`{"a":`, 100000) + `}`, "deeper than 100 levels"},
		{"m", input(head + `,"data":` + strings.Repeat("[", 100000)), "nested deeper than its shape"},
		{"m", "{\"\xff\":1," + valid + `}`, "not valid UTF-8"},
		{"m", `{` + valid + `,"x":01}`, "expected a value, got '0'"},
		// ids
		{"m", `{"id":NaN,` + valid + `}`, "id: at byte 6: expected a string, got 'N'"},
		{"m", `{"id":1,` + valid + `}`, "id: at byte 6: expected a string"},
		{"m", `{"id":null,` + valid + `}`, "expected a string"},
		// members
		{"m", `{}`, `"inputs" is missing`},
		{"m", `{"inputs":{}}`, "expected an array"},
		{"m", `{"inputs":[1]}`, "input 0: at byte 11: expected an object"},
		{"m", `{"inputs":[]}`, "expected 1 inputs but got 0 inputs for model 'm'"},
		{"m", `{"inputs":[` + strings.TrimSuffix(strings.Repeat(`{},`, 3), ",") + `]}`, `"name" is missing`},
		{"m", `{` + strings.Replace(valid, "]}]", "]},{},{}]", 1) + `}`, "expected 1 inputs but got 3 inputs for model 'm'"},
		{"m", `{` + valid + `,` + valid + `}`, `"inputs" is given twice`},
		{"m", input(head + `,"data":[1,2],"data":[1,2]`), `input 'x': "data" is given twice`},
		{"m", input(head + `,"name":"y","data":[1,2]`), `"name" is given twice`},
		{"m", input(head + `,"n\u0061me":"y","data":[1,2]`), `"name" is given twice`},
		{"m", input(`"shape":[1,2],"datatype":"FP32","data":[1,2]`), `input 0: "name" is missing`},
		{"m", input(`"name":"x","datatype":"FP32","data":[1,2]`), `input 'x': "shape" is missing`},
		{"m", input(`"name":"x","shape":[1,2],"data":[1,2]`), `input 'x': "datatype" is missing`},
		{"m", input(head), "expected exactly one of"},
		{"m", input(head + `,"data":[1,2],"parameters":{"binary_data_size":8}`), "expected exactly one of"},
		{"m", input(head + `,"parameters":{"binary_data_size":-8}`), "parameter 'binary_data_size': "},
		{"m", input(head + `,"parameters":{"binary_data_size":8.0}`), "parameter 'binary_data_size': "},
		{"m", input(head + `,"parameters":{"binary_data_size":18446744073709551615}`), "expecting 18446744073709551615 additional bytes"},
		{"m", input(head + `,"parameters":{"binary_data_size":18446744073709551616}`), "fits 64 bits"},
		{"m", input(head + `,"parameters":{"binary_data_size":8}`), "unexpected size for input 'x', expecting 8 additional bytes for model 'm'"},
		{"m", input(head + `,"parameters":{"custom":[1]},"data":[1,2]`), "parameter 'custom': expected a string, a number or a boolean"},
		// types and shapes
		{"m", input(`"name":"x","shape":[1,2],"datatype":"FP99","data":[1,2]`), `unknown datatype "FP99"`},
		{"m", input(`"name":"x","shape":[1,2],"datatype":32,"data":[1,2]`), "input 'x': at byte 48: expected a string"},
		{"m", input(`"name":"x","shape":[1,-2],"datatype":"FP32","data":[1,2]`), "shape: dimension 1 is -2; expected 0 or more"},
		{"m", input(`"name":"x","shape":[1,2.0],"datatype":"FP32","data":[1,2]`), "shape: at byte 34: expected an integer"},
		{"m", input(`"name":"x","shape":2,"datatype":"FP32","data":[1,2]`), "shape: at byte 31: expected an array"},
		{"m", input(`"name":"x","shape":[1,"2"],"datatype":"FP32","data":[1,2]`), "expected an integer"},
		{"m", input(`"name":"x","shape":[4294967296,4294967296],"datatype":"FP32","data":[1,2]`), "63 bits"},
		{"m", input(`"name":"x","shape":[9223372036854775807,0],"datatype":"FP32","data":[1]`), "more than the 0 values"},
		{"m", input(`"name":"x","shape":[9223372036854775807],"datatype":"FP32","data":[1,2]`), "the data has fewer"},
		{"m", input(`"name":"x","shape":[9223372036854775807],"datatype":"FP32","parameters":{"binary_data_size":0}`), "more bytes than fit in 63 bits"},
		{"m", input(`"name":"x","shape":[9223372036854775808],"datatype":"FP32","data":[1,2]`), "does not fit a 64-bit integer"},
		{"m", input(`"name":"x","shape":[1` + strings.Repeat(",1", 16) + `],"datatype":"FP32","data":[1]`), "more than 16 dimensions"},
		{"m", input(`"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2]`), "input 'x': at byte 4 of the data: got 2 values where shape [1,3] calls for 3"},
		{"m", input(`"name":"x","shape":[1,1],"datatype":"FP32","data":[1,2]`), "more than the 1 values"},
		{"m", input(head + `,"data":[1,"2"]`), "input 'x': data[1]: "},
		{"m", input(head + `,"data":[1,1e99]`), "data[1]: 1e99 is not a number that fits FP32"},
		{"m", input(head + `,"data":"12"`), "expected an array"},
		{"two", `{"inputs":[{"name":"b","shape":[1,2],"datatype":"INT32","data":[1,2147483648]},{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,2]}]}`, "input 'b': data[1]: 2147483648 is not an integer from -2147483648 to 2147483647"},
		{"text", `{"inputs":[{"name":"t","shape":[1,1],"datatype":"BYTES","data":[1]}]}`, "input 't': data[0]: "},
		// outputs
		{"m", `{` + valid + `,"outputs":[{"name":"y"}]}`, "unexpected inference output 'y' for model 'm'"},
		{"m", `{` + valid + `,"outputs":[{}]}`, `"name" is missing`},
		{"m", `{` + valid + `,"outputs":[{"name":"x_OUT"},{"name":"x_OUT"}]}`, "more outputs are asked for than the 1 of model 'm'"},
		{"two", `{"outputs":[{"name":"a_OUT"},{"name":"a_OUT"}],"inputs":[]}`, "output 'a_OUT' is asked for twice"},
		{"m", `{` + valid + `,"outputs":[{"name":"x_OUT","parameters":{"binary_data":1}}]}`, "output 'x_OUT': parameter 'binary_data': "},
		{"m", `{` + valid + `,"outputs":[{"name":"x_OUT","parameters":{"classification":-1}}]}`, "parameter 'classification': "},
		{"text", `{"inputs":[{"name":"t","shape":[1,1],"datatype":"BYTES","data":["a"]}],"outputs":[{"name":"t_OUT","parameters":{"classification":1}}]}`, "class result not available for output 't_OUT' due to unsupported type 'BYTES'"},
		// parameters
		{"m", `{` + valid + `,"parameters":{"sequence_id":1}}`, "parameter 'sequence_id': model 'm' keeps no state between requests"},
		{"m", `{` + valid + `,"parameters":{"sequence_id":"a"}}`, "takes no sequences"},
		{"m", `{` + valid + `,"parameters":{"sequence_id":NaN}}`, "parameter 'sequence_id': "},
		{"m", `{` + valid + `,"parameters":{"sequence_start":true}}`, "takes no sequences"},
		{"m", `{` + valid + `,"parameters":{"priority":-1}}`, "parameter 'priority': "},
		{"m", `{` + valid + `,"parameters":{"timeout":"1"}}`, "parameter 'timeout': "},
		{"m", `{` + valid + `,"parameters":{"timeout":1.5}}`, "parameter 'timeout': "},
		{"m", `{` + valid + `,"parameters":{"binary_data_output":1}}`, "parameter 'binary_data_output': "},
		{"m", `{` + valid + `,"parameters":{"triton_final":true}}`, "keys starting with 'triton_' are reserved"},
		{"m", `{` + valid + `,"parameters":{"custom":{}}}`, "parameter 'custom': expected a string, a number or a boolean"},
		{"m", `{` + valid + `,"parameters":{"custom":null}}`, "parameter 'custom'"},
		{"m", `{` + valid + `,"parameters":[]}`, "expected an object"},
	} {
		post(t, s, "/v2/models/"+c.model+"/infer", c.body).wantError(t, 400, c.want)
		// The same with the header, and an exactly sized buffer behind it.
		post(t, s, "/v2/models/"+c.model+"/infer", c.body, headerLength, strconv.Itoa(max(len(c.body), 1))).wantError(t, 400, "")
	}
	for _, body := range []string{
		input(head + `,"parameters":{"shared_memory_region":"r"}`),
		`{` + valid + `,"outputs":[{"name":"x_OUT","parameters":{"shared_memory_region":"r"}}]}`,
	} {
		post(t, s, "/v2/models/m/infer", body).wantError(t, 501, "shared memory is not supported")
	}
}

// Every request that is cut short is refused, at whatever byte.
func TestTruncatedRequests(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	body, header := binaryRequest("x", "FP32", "[1,2]", floats(1, 2))
	for n := range len(body) {
		if a := post(t, s, "/v2/models/m/infer", body[:n], headerLength, header); a.status != 400 {
			t.Errorf("%q: %d %s", body[:n], a.status, a.body)
		}
	}
	for n := range len(jsonRequest) {
		if a := post(t, s, "/v2/models/m/infer", jsonRequest[:n]); a.status != 400 {
			t.Errorf("%q: %d %s", jsonRequest[:n], a.status, a.body)
		}
	}
}

func TestLyingHeaderLength(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	for _, value := range []string{"-1", "x", "1.5", " 1 2", "9999999999999999999", "18446744073709551617", "0x10", "+1"} {
		post(t, s, "/v2/models/m/infer", jsonRequest, headerLength, value).wantError(t, 400, headerLength)
	}
	post(t, s, "/v2/models/m/infer", jsonRequest, headerLength, "1000").
		wantError(t, 400, fmt.Sprintf("says that 1000 bytes are JSON, but the body has %d", len(jsonRequest)))
	for n := 1; n < len(jsonRequest); n++ { // too small: the JSON is cut
		if a := post(t, s, "/v2/models/m/infer", jsonRequest, headerLength, strconv.Itoa(n)); a.status != 400 {
			t.Errorf("%d: %d %s", n, a.status, a.body)
		}
	}
}

func TestBodyLimits(t *testing.T) {
	s := testServer(t, testModels(), Config{MaxBody: 1 << 20})
	gigabyte, err := http.NewRequest("POST", s.URL+"/v2/models/m/infer", io.LimitReader(zeroReader{}, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	for _, length := range []int64{1 << 30, -1} { // stated, and chunked without end
		gigabyte.ContentLength = length
		gigabyte.Body = io.NopCloser(io.LimitReader(zeroReader{}, 1<<30))
		resp, err := http.DefaultClient.Do(gigabyte)
		if err != nil {
			continue // the server may close before it has read what it refused
		}
		if resp.StatusCode != 413 {
			t.Errorf("length %d: got %d", length, resp.StatusCode)
		}
		_ = resp.Body.Close()
	}

	bomb := new(bytes.Buffer)
	w := gzip.NewWriter(bomb)
	_, _ = io.CopyN(w, zeroReader{}, 8<<20)
	_ = w.Close()
	send(t, s, "POST", "/v2/models/m/infer", bomb.Bytes(), "Content-Encoding", "gzip").wantError(t, 413, "larger than the limit of 1048576 bytes")

	post(t, s, "/v2/models/m/infer", jsonRequest, "Content-Encoding", "gzip").wantError(t, 400, "is not gzip data")
	post(t, s, "/v2/models/m/infer", jsonRequest, "Content-Encoding", "deflate").wantError(t, 400, "is not deflate data")
	send(t, s, "POST", "/v2/models/m/infer", bomb.Bytes()[:bomb.Len()/2], "Content-Encoding", "gzip").wantError(t, 413, "")
	for _, encoding := range []string{"br", "gzip, gzip", "zstd"} {
		a := post(t, s, "/v2/models/m/infer", jsonRequest, "Content-Encoding", encoding)
		a.wantError(t, 501, encoding)
		if a.header.Get("Accept-Encoding") != "gzip, deflate" {
			t.Errorf("%s: Accept-Encoding %q", encoding, a.header.Get("Accept-Encoding"))
		}
	}
	// The pooled decompressors survived all that.
	gz := new(bytes.Buffer)
	w.Reset(gz)
	_, _ = io.WriteString(w, jsonRequest)
	_ = w.Close()
	send(t, s, "POST", "/v2/models/m/infer", gz.Bytes(), "Content-Encoding", "gzip").wantBody(t, jsonResponse)
	// A checksum that was cut off is missing, not passed.
	send(t, s, "POST", "/v2/models/m/infer", gz.Bytes()[:gz.Len()-4], "Content-Encoding", "gzip").wantError(t, 400, "is not gzip data")
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A body just at the limit passes, chunked or not, and larger than the first room.
func TestLargeBodies(t *testing.T) {
	const n = 1 << 20
	data := strings.Repeat(floats(1), n)
	body, header := binaryRequest("x", "FP32", fmt.Sprintf("[1,%d]", n), data)
	s := testServer(t, testModels(), Config{MaxBody: int64(len(body))})
	for _, r := range []io.Reader{strings.NewReader(body), io.MultiReader(strings.NewReader(body))} {
		req, err := http.NewRequest("POST", s.URL+"/v2/models/m/infer", r)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(headerLength, header)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !strings.HasSuffix(string(got), data) {
			t.Errorf("length %d: got %d, %d bytes, %v", req.ContentLength, resp.StatusCode, len(got), err)
		}
	}
	post(t, s, "/v2/models/m/infer", body+"!", headerLength, header).wantError(t, 413, "limit")
}

// A body that does not arrive is given up, and the client is told.
func TestSlowBody(t *testing.T) {
	s := testServer(t, testModels(), Config{BodyTimeout: 50 * time.Millisecond})
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	(answer{resp.StatusCode, resp.Header, body}).wantError(t, 408, "did not arrive within 50ms")
}

// The deadline for the body does not end a request whose model runs longer.
func TestBodyDeadlineEndsWithTheBody(t *testing.T) {
	m := testModels()
	s := testServer(t, m, Config{BodyTimeout: 100 * time.Millisecond})
	m.run = func(ctx context.Context, _ *serve.Request) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(300 * time.Millisecond):
			return nil
		}
	}
	post(t, s, "/v2/models/m/infer", jsonRequest+strings.Repeat(" ", smallBody)).wantBody(t, jsonResponse)
}

// A client that goes away cancels its request.
func TestDisconnectCancels(t *testing.T) {
	m := testModels()
	s := testServer(t, m, Config{})
	started, ended := make(chan struct{}), make(chan error, 1)
	m.run = func(ctx context.Context, _ *serve.Request) error {
		close(started)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	req, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/v2/models/m/infer", strings.NewReader(jsonRequest))
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Errorf("got an answer: %d", resp.StatusCode)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}
