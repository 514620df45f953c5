//go:build !race

// The race detector makes sync.Pool forget at random, so that counts of
// allocations mean nothing under it.

package oip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"sluice/internal/inference/tensor"
)

// wire is a client that costs next to nothing: one connection, one prepared
// request, and answers of a known size.
type wire struct {
	conn    net.Conn
	request []byte
	answer  []byte
}

func dial(t testing.TB, address, method, path string, body []byte, header string) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	w := &wire{conn: conn}
	w.request = fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n%s", method, path, len(body), header, body)
	w.answer = make([]byte, 64<<10)
	return w
}

// roundTrip sends the request and reads the answer up to its last byte.
func (w *wire) roundTrip(t testing.TB) {
	if _, err := w.conn.Write(w.request); err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		m, err := w.conn.Read(w.answer[n:])
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		n += m
		if head := bytes.Index(w.answer[:n], []byte("\r\n\r\n")); head >= 0 {
			at := bytes.Index(w.answer[:head], []byte("Content-Length: "))
			size := 0
			for _, c := range w.answer[at+len("Content-Length: ") : head] {
				if c < '0' || c > '9' {
					break
				}
				size = size*10 + int(c-'0')
			}
			if n == head+4+size {
				break
			}
		}
	}
	if !bytes.HasPrefix(w.answer[:n], []byte("HTTP/1.1 200 ")) {
		t.Fatalf("%s", w.answer[:n])
	}
}

// The codec itself allocates nothing once its pools are warm.
func TestCodecAllocations(t *testing.T) {
	m := testModels()
	jsonBody := []byte(`{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2.5,0.1234567,-3e-5]}],"outputs":[{"name":"x_OUT"}]}`)
	text, header := binaryRequest("x", "FP32", "[1,4]", floats(1, 2, 3, 4))
	for _, c := range []struct {
		name   string
		body   []byte
		header []string
	}{{"json", jsonBody, nil}, {"binary", []byte(text), []string{header}}} {
		n := testing.AllocsPerRun(200, func() {
			call := newInferCall(memory.Account(), "m", "1")
			call.body = tensor.GetSlab(len(c.body))
			call.body.B = append(call.body.B, c.body...)
			err := call.split(c.header)
			if err == nil {
				err = m.Predict(context.Background(), call)
			}
			if err != nil {
				t.Fatal(err)
			}
			call.free()
		})
		if n > 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

// A whole request, with all of net/http and Echo, allocates little.
func TestHTTPAllocations(t *testing.T) {
	s := testServer(t, testModels(), Config{})
	text, header := binaryRequest("x", "FP32", "[1,4]", floats(1, 2, 3, 4))
	for name, w := range map[string]*wire{
		"json":   dial(t, s.Listener.Addr().String(), "POST", "/v2/models/m/infer", []byte(jsonRequest), ""),
		"binary": dial(t, s.Listener.Addr().String(), "POST", "/v2/models/m/infer", []byte(text), HeaderLength+": "+header+"\r\n"),
		"no-op":  dial(t, s.Listener.Addr().String(), "GET", "/v2/health/live", nil, ""),
	} {
		n := testing.AllocsPerRun(300, func() { w.roundTrip(t) })
		t.Logf("%s: %v allocations", name, n)
		if n > 25 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// BenchmarkHTTP compares inference on a model that does nothing with the
// smallest answer that the server gives.
func BenchmarkHTTP(b *testing.B) {
	s := testServer(b, testModels(), Config{})
	text, header := binaryRequest("x", "FP32", "[1,4]", floats(1, 2, 3, 4))
	for _, c := range []struct {
		name, method, path, header string
		body                       []byte
	}{
		{"no-op", "GET", "/v2/health/live", "", nil},
		{"binary", "POST", "/v2/models/m/infer", HeaderLength + ": " + header + "\r\n", []byte(text)},
		{"json", "POST", "/v2/models/m/infer", "", []byte(jsonRequest)},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := dial(b, s.Listener.Addr().String(), c.method, c.path, c.body, c.header)
			b.ReportAllocs()
			for b.Loop() {
				w.roundTrip(b)
			}
		})
	}
}
