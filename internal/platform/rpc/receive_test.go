package rpc

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"

	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// frames are received bytes, as a transport stream offers them: in pieces.
type frames struct {
	rest   []byte
	coding string
	piece  int
	end    error // behind the bytes
}

func (f *frames) RecvCompress() string { return f.coding }

func (f *frames) ReadMessageHeader(header []byte) error {
	if len(f.rest) == 0 {
		return f.end
	}
	n := copy(header, f.rest)
	if f.rest = f.rest[n:]; n < len(header) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (f *frames) Read(n int) (mem.BufferSlice, error) {
	var all mem.BufferSlice
	for n > 0 {
		if len(f.rest) == 0 {
			return nil, f.end
		}
		k := min(n, f.piece, len(f.rest))
		all = append(all, mem.Copy(f.rest[:k], buffers))
		f.rest, n = f.rest[k:], n-k
	}
	return all, nil
}

// frame is a message with its header.
func frame(format byte, data []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{format}, uint32(len(data))), data...)
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bytesCodec decodes into a *[]byte.
type bytesCodec struct{ encoding.CodecV2 }

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if len(data) != 1 {
		return errors.New("the message is in pieces")
	}
	*v.(*[]byte) = data.Materialize()
	return nil
}

func receiverOf(t *testing.T, memory *budget.Budget, w wire) *receiver {
	t.Helper()
	cfg, err := Config{Memory: memory, MaxMessageBytes: 4 << 20, Codec: bytesCodec{}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return &receiver{server: &Server{cfg: cfg}, wire: w}
}

// Messages arrive as they were sent, compressed or not, in whatever pieces.
func TestMessagesArriveWhole(t *testing.T) {
	random := rand.NewChaCha8([32]byte{})
	for _, size := range []int{0, 1, 5, 1023, 1024, 1025, 4 << 10, 70_000, step - 1, step, step + 1, 3*step + 7, 4 << 20} {
		data := make([]byte, size)
		_, _ = random.Read(data) // never fails
		for _, piece := range []int{1 << 30, 16 << 10} {
			for _, format := range []byte{0, 1} {
				sent := data
				if format == 1 {
					sent = gzipped(t, data)
				}
				if len(sent) > 4<<20 {
					continue // gzip makes random bytes more
				}
				memory := budget.New(64<<20, "k")
				account := memory.Account()
				r := receiverOf(t, memory, &frames{rest: frame(format, sent), coding: "gzip", piece: piece, end: io.EOF})
				var got []byte
				if err := r.only(&got, &account); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes, format %d: %d bytes, %v", size, format, len(got), err)
				}
				if account.Held() != int64(size) {
					t.Errorf("%d bytes, format %d: %d are held", size, format, account.Held())
				}
			}
		}
	}
}

// What is wrong with a message is told, and holds no more than was read of it.
func TestBadMessages(t *testing.T) {
	zeros := gzipped(t, make([]byte, 100_000))
	for name, c := range map[string]struct {
		bytes  []byte
		coding string
		end    error
		code   codes.Code
		text   string
	}{
		"no message":             {nil, "", io.EOF, codes.Internal, "no request message"},
		"two messages":           {append(frame(0, []byte("a")), frame(0, []byte("b"))...), "", io.EOF, codes.Internal, "more than one"},
		"half a header":          {frame(0, nil)[:3], "", io.EOF, codes.Internal, "ended early"},
		"half a message":         {frame(0, make([]byte, 100))[:50], "", io.EOF, codes.Internal, "ended early"},
		"half a large message":   {frame(0, make([]byte, 3*step))[:2*step], "", io.ErrUnexpectedEOF, codes.Internal, "ended early"},
		"a broken connection":    {frame(0, make([]byte, 3*step))[:2*step], "", errors.New("reset"), codes.Unavailable, "connection ended"},
		"too large":              {frame(0, make([]byte, 4<<20+1)), "", io.EOF, codes.ResourceExhausted, "larger than max"},
		"inflates to too large":  {frame(1, gzipped(t, make([]byte, 4<<20+1))), "gzip", io.EOF, codes.ResourceExhausted, "larger than max"},
		"a bomb":                 {frame(1, gzipped(t, make([]byte, 32<<20))), "gzip", io.EOF, codes.ResourceExhausted, "larger than max"},
		"gzip cut short":         {frame(1, zeros[:len(zeros)-8]), "gzip", io.EOF, codes.InvalidArgument, "not gzip data"},
		"gzip cut in the middle": {frame(1, zeros[:len(zeros)/2]), "gzip", io.EOF, codes.InvalidArgument, "not gzip data"},
		"no gzip":                {frame(1, []byte("abc")), "gzip", io.EOF, codes.InvalidArgument, "not gzip data"},
		"no deflate":             {frame(1, []byte("abcdefghij")), "deflate", io.EOF, codes.InvalidArgument, "not deflate data"},
		"empty gzip":             {frame(1, nil), "gzip", io.EOF, codes.InvalidArgument, "not gzip data"},
		"no coding":              {frame(1, []byte("abc")), "", io.EOF, codes.Internal, "grpc-encoding"},
		"unknown format":         {frame(2, nil), "", io.EOF, codes.Internal, "format 2"},
	} {
		t.Run(name, func(t *testing.T) {
			memory := budget.New(64<<20, "k")
			account := memory.Account()
			r := receiverOf(t, memory, &frames{rest: c.bytes, coding: c.coding, piece: 16 << 10, end: c.end})
			var got []byte
			st := Status(r.only(&got, &account))
			if st.Code() != c.code || !strings.Contains(st.Message(), c.text) {
				t.Errorf("got %v, want %s %q", st, c.code, c.text)
			}
			if account.Held() > 8<<20 {
				t.Errorf("%d bytes are held", account.Held())
			}
			account.Release()
			if memory.Held() != 0 {
				t.Errorf("%d bytes are left", memory.Held())
			}
		})
	}
}

// A message is refused as soon as it is more than the budget has left, and the
// rest of it is not read.
func TestRefusalStopsReading(t *testing.T) {
	for name, data := range map[string][]byte{
		"plain": frame(0, make([]byte, 4<<20)), "gzip": frame(1, gzipped(t, make([]byte, 4<<20))),
	} {
		memory := budget.New(2<<20, "grpc.max_held")
		other, account := memory.Account(), memory.Account()
		if err := other.Acquire(1 << 19); err != nil {
			t.Fatal(err)
		}
		f := &frames{rest: data, coding: "gzip", piece: 16 << 10, end: io.EOF}
		err := receiverOf(t, memory, f).only(new([]byte), &account)
		if !fault.Is(err, fault.Unavailable) || memory.Held() > 2<<20 || name == "plain" && len(f.rest) < 2<<20 {
			t.Errorf("%s: %v, %d bytes held, %d unread", name, err, memory.Held(), len(f.rest))
		}
	}
}

// Calls that are refused while they are received are told to the observers, and
// say when to retry.
func TestRefusedCallsAreObserved(t *testing.T) {
	memory := budget.New(1000, "grpc.max_held")
	other := memory.Account()
	if err := other.Acquire(1000); err != nil {
		t.Fatal(err)
	}
	seen := make(chan Call, 1)
	r := start(t, Config{Memory: memory, Observers: []Observer{func(_ context.Context, c Call) { seen <- c }}}, fine)
	req := &healthpb.HealthCheckRequest{Service: "something"}
	st := Status(r.conn.Invoke(t.Context(), "/test.Echo/Call", req, new(healthpb.HealthCheckResponse), grpc.UseCompressor("gzip")))
	if st.Code() != codes.Unavailable || len(st.Details()) != 2 || !strings.Contains(st.Message(), "grpc.max_held") {
		t.Errorf("%v %v", st, st.Details())
	}
	if c := <-seen; c.Method != "/test.Echo/Call" || c.Code != codes.Unavailable || c.RequestID == "" {
		t.Errorf("observed %+v", c)
	}
	other.Release()
	if err := r.conn.Invoke(t.Context(), "/test.Echo/Call", req, new(healthpb.HealthCheckResponse)); err != nil {
		t.Error(err)
	}
	<-seen
	if memory.Held() != 0 {
		t.Errorf("%d bytes are left", memory.Held())
	}
}
