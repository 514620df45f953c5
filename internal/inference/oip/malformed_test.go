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
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/inference/serve"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
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
		{"m", input(`"name":"x","shape":[1,99999999999999999999],"datatype":"FP32","data":[1,2]`), "shape: dimension 1 is 99999999999999999999, which does not fit a 64-bit integer"},
		{"m", input(`"name":"x","shape":[-99999999999999999999],"datatype":"FP32","data":[1,2]`), "which does not fit a 64-bit integer"},
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
		{"m", `{` + valid + `,"outputs":[{"name":"x_OUT","parameters":{"binary_data":1}}]}`, "output 'x_OUT': parameter 'binary_data': "},
		{"m", `{` + valid + `,"outputs":[{"name":"x_OUT","parameters":{"classification":-1}}]}`, "parameter 'classification': "},
		{"m", `{` + valid + `,"outputs":[{"name":"x_OUT","parameters":{"classification":0}}]}`, "parameter 'classification': expected a number of classes, at least 1"},
		{"m", `{` + valid + `,"outputs":[{"name":"x_OUT","parameters":{"classification":1,"classification":2}}]}`, `"classification" is given twice`},
		{"m", `{` + valid + `,"outputs":[{"name":"x_OUT","parameters":{"binary_data":true,"binary_data":true}}]}`, `"binary_data" is given twice`},
		{"text", `{"inputs":[{"name":"t","shape":[1,1],"datatype":"BYTES","data":["a"]}],"outputs":[{"name":"t_OUT","parameters":{"classification":1}}]}`, "class result not available for output 't_OUT' due to unsupported type 'BYTES'"},
		// parameters
		{"m", `{` + valid + `,"parameters":{"sequence_id":1}}`, "parameter 'sequence_id': model 'm' keeps no state between requests"},
		{"m", `{` + valid + `,"parameters":{"sequence_id":"a"}}`, "takes no sequences"},
		{"m", `{` + valid + `,"parameters":{"sequence_id":NaN}}`, "parameter 'sequence_id': "},
		{"m", `{` + valid + `,"parameters":{"sequence_start":true}}`, "takes no sequences"},
		{"m", `{` + valid + `,"parameters":{"timeout":1,"timeout":2}}`, `"timeout" is given twice`},
		{"m", `{` + valid + `,"parameters":{"priority":1,"\u0070riority":1}}`, `"priority" is given twice`},
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
		post(t, s, "/v2/models/"+c.model+"/infer", c.body, HeaderLength, strconv.Itoa(max(len(c.body), 1))).wantError(t, 400, "")
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
		if a := post(t, s, "/v2/models/m/infer", body[:n], HeaderLength, header); a.status != 400 {
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
		post(t, s, "/v2/models/m/infer", jsonRequest, HeaderLength, value).wantError(t, 400, HeaderLength)
	}
	post(t, s, "/v2/models/m/infer", jsonRequest, HeaderLength, "1000").
		wantError(t, 400, fmt.Sprintf("says that 1000 bytes are JSON, but the body has %d", len(jsonRequest)))
	for n := 1; n < len(jsonRequest); n++ { // too small: the JSON is cut
		if a := post(t, s, "/v2/models/m/infer", jsonRequest, HeaderLength, strconv.Itoa(n)); a.status != 400 {
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
		req.Header.Set(HeaderLength, header)
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
	post(t, s, "/v2/models/m/infer", body+"!", HeaderLength, header).wantError(t, 413, "limit")
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

// exchange sends text over a connection of its own and reads the answer.
func exchange(t *testing.T, address, text string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(conn, text) }() // the server may stop reading
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, body}
}

// What is wrong with a body's framing is told over a real connection to the
// platform's server, with all of its own limits.
func TestFramingOverASocket(t *testing.T) {
	var err error
	server, webErr := web.New(web.Config{
		Name: "http", Addr: "127.0.0.1:0", MaxBody: 100_000, MaxBodyKey: "http.max_body", MaxHeader: 64 << 10, MaxConnections: 10, MaxInFlight: 10,
		ReadHeaderTimeout: time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second,
		ErrorHandler: ErrorHandler,
	}, func(e *echo.Echo) {
		err = Register(e, testModels(), Config{MaxBody: 100_000, MaxBodyKey: "http.max_body"})
	})
	if err != nil || webErr != nil {
		t.Fatal(err, webErr)
	}
	if err := server.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	const head = "POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\n"
	const chunked = head + "Transfer-Encoding: chunked\r\n\r\n"
	packed := string(pack(t, "gzip", jsonRequest))
	for name, c := range map[string]struct {
		text   string
		status int
		want   string
	}{
		"a chunk's length is no number":    {chunked + "zz\r\nabc\r\n0\r\n\r\n", 400, "malformed"},
		"a chunk is longer than it says":   {chunked + "3\r\nabcdef\r\n0\r\n\r\n", 400, "malformed"},
		"a chunk's length is absurd":       {chunked + "fffffffffffffffffff\r\nabc\r\n0\r\n\r\n", 400, "malformed"},
		"chunks beyond the limit":          {chunked + strings.Repeat("10000\r\n"+strings.Repeat(" ", 0x10000)+"\r\n", 3) + "0\r\n\r\n", 413, "http.max_body"},
		"a length beyond the limit":        {head + "Content-Length: 100001\r\n\r\n", 413, "http.max_body"},
		"gzip that inflates beyond it":     {head + fmt.Sprintf("Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", len(pack(t, "gzip", strings.Repeat(" ", 1<<20))), pack(t, "gzip", strings.Repeat(" ", 1<<20))), 413, "http.max_body"},
		"gzip cut short":                   {head + fmt.Sprintf("Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", len(packed)-12, packed[:len(packed)-12]), 400, "is not gzip data"},
		"gzip cut short in chunks":         {chunked[:len(chunked)-2] + fmt.Sprintf("Content-Encoding: gzip\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(packed)-12, packed[:len(packed)-12]), 400, "is not gzip data"},
		"a path with room for a version":   {strings.Replace(head, "/infer", "/versions//infer", 1) + "Content-Length: 0\r\n\r\n", 404, "Not Found"},
		"an id of a megabyte is not all":   {chunked[:len(chunked)-2] + "\r\n" + longID(90_000), 400, "[request id: xxx"},
		"a model's name is not told whole": {strings.Replace(head, "models/m", "models/"+strings.Repeat("x", 50_000), 1) + "Content-Length: " + strconv.Itoa(len(jsonRequest)) + "\r\n\r\n" + jsonRequest, 404, "unknown model: 'xxx"},
	} {
		t.Run(name, func(t *testing.T) {
			a := exchange(t, server.Addr(), c.text)
			a.wantError(t, c.status, c.want)
			if len(a.body) > 5000 {
				t.Errorf("an error of %d bytes", len(a.body))
			}
		})
	}
}

// longID is a chunked body with an id of n bytes and no inputs.
func longID(n int) string {
	body := `{"id":"` + strings.Repeat("x", n) + `"}`
	return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
}

// A load that ends because the client went away is told, and logged, as that.
func TestAbandonedLoad(t *testing.T) {
	for _, verb := range []string{"load", "unload"} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		e := echo.New()
		var got error
		e.HTTPErrorHandler = func(err error, _ echo.Context) { got = err }
		if err := Register(e, &timeoutModels{testModels(), cancel}, Config{}); err != nil {
			t.Fatal(err)
		}
		e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "POST", "/v2/repository/models/m/"+verb, http.NoBody))
		if Status(got) != 499 || !strings.Contains(fault.Of(got).Message, "client went away") {
			t.Errorf("%s: %d %v", verb, Status(got), got)
		}
	}
}

// timeoutModels say that time ran out when it was the client that went.
type timeoutModels struct {
	*identityModels
	leave func()
}

func (m *timeoutModels) Load(context.Context, string, serve.LoadOptions) error {
	m.leave()
	return fault.New(fault.DeadlineExceeded, "the trial did not end within 1m")
}

func (m *timeoutModels) Unload(ctx context.Context, _ string) error {
	return m.Load(ctx, "", serve.LoadOptions{})
}
