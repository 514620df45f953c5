package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
)

// Event is one of a stream of server-sent events.
type Event struct {
	ID   string
	Type string
	Data string
}

const (
	// maxEvent bounds one line of a stream, in bytes.
	maxEvent = 16 << 20
	// maxRest is the longest wait between two connections that fail.
	maxRest = 30 * time.Second
	// silence is after how long without a sign of life a connection is given up;
	// servers send one every 15 s.
	silence = time.Minute
	forever = time.Duration(1<<63 - 1)
)

// Events follows a stream of events behind a cursor, "" for what comes from now on
// or as the stream has it. Where the connection ends it connects again behind the
// last event; the sequence ends with ctx, with an event "end", and with a refusal
// that is not for now only. Its own cursor is the last event's ID. A stream that a
// POST has begun is not begun again: it ends with its connection, which is an error
// before its end.
func (c *Client) Events(ctx context.Context, r Request, after string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		s := &following{c: c, r: r, after: after, rest: time.Second}
		for ctx.Err() == nil {
			more, err := s.connect(ctx, yield)
			if ctx.Err() != nil || !more && err == nil {
				return
			}
			if err == nil && s.r.Method == http.MethodPost {
				err = fault.New(fault.Unavailable, "the stream broke off before its end")
			}
			if err != nil && !s.again(err) {
				yield(Event{}, err)
				return
			}
			pause.For(ctx, min(s.rest<<min(s.failures, 5), maxRest))
		}
	}
}

// following is a stream that is followed over several connections.
type following struct {
	c        *Client
	r        Request
	after    string
	rest     time.Duration // before the next connection
	began    bool          // something has come
	failures int
}

// again reports whether an error may pass by itself. A stream that a POST has begun
// cannot be begun again.
func (s *following) again(err error) bool {
	if s.r.Method == http.MethodPost {
		return false
	}
	p, refused := errors.AsType[*Problem](err)
	if refused && !p.Retryable && p.Status != http.StatusTooManyRequests && p.Status != http.StatusServiceUnavailable {
		return false
	}
	if !s.began && !refused {
		return false // the address may be wrong
	}
	s.failures++
	return true
}

// connect hands on what one connection brings. It returns false where the stream is
// over or nobody wants more.
func (s *following) connect(ctx context.Context, yield func(Event, error) bool) (more bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := s.c.request(ctx, s.r)
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept", "text/event-stream")
	if s.after != "" {
		req.Header.Set("Last-Event-ID", s.after)
	}
	watch := time.AfterFunc(silence, cancel) // while nothing comes; what is handed on may take its time
	defer watch.Stop()
	resp, err := s.c.open.Do(req)
	if err != nil {
		return true, unreachable(err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNoContent:
		return false, nil
	case resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream"):
		_, err := answer(resp)
		if err == nil {
			err = fault.New(fault.Internal, "the server did not answer with events")
		}
		return true, err
	}
	s.began, s.failures = true, 0
	return s.read(resp.Body, func(d time.Duration) { watch.Reset(d) }, yield)
}

// read parses events (HTML Standard §9.2).
func (s *following) read(body io.Reader, alive func(time.Duration), yield func(Event, error) bool) (more bool, err error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 64<<10), maxEvent)
	var e Event
	var data []string
	for lines.Scan() {
		alive(silence)
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			e.Type = value
		case "data":
			data = append(data, value)
		case "id":
			e.ID = value
		case "retry":
			if ms, err := strconv.Atoi(value); err == nil && ms >= 0 {
				s.rest = min(time.Duration(ms)*time.Millisecond, maxRest)
			}
		}
		if lines.Text() != "" || e.Type == "" && data == nil {
			continue
		}
		e.Data = strings.Join(data, "\n")
		if e.ID != "" {
			s.after = e.ID // not before: what is torn comes again
		}
		alive(forever)
		wants := yield(e, nil)
		alive(silence)
		if !wants || e.Type == "end" {
			return false, nil
		}
		if e.Type == "error" && s.r.Method == http.MethodPost {
			return false, nil
		}
		e, data = Event{}, nil
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return false, fault.New(fault.TooLarge, "an event is longer than %d bytes", maxEvent)
	}
	return true, nil // cut off: what is half there comes again
}
