package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Events returns n connections whose answers are events (text/event-stream, of
// the native API or of generate_stream). An answer is there with its last event;
// Answer.First says when the first was, and Body is how many there were. An event
// named error, or of that alone, fails the request.
func Events(addr string, n int) ([]Conn, error) {
	if err := loopback(addr); err != nil {
		return nil, err
	}
	conns := make([]Conn, n)
	for i := range conns {
		conns[i] = &eventConn{conn: conn{addr: addr}, reader: bufio.NewReaderSize(nil, 16<<10)}
	}
	return conns, nil
}

// eventConn reads events over a connection that is kept where the server keeps it.
type eventConn struct {
	conn
	reader *bufio.Reader
}

// maxEvent bounds one line of an event.
const maxEvent = 1 << 20

// Do sends a request and reads its events.
func (c *eventConn) Do(r *Request) (Answer, error) { return c.do(r.Wire, c.events) }

func (c *eventConn) events(wire []byte) (a Answer, err error) {
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if err := c.write(wire); err != nil {
		return Answer{}, err
	}
	c.reader.Reset(c.tcp)
	if _, err := c.reader.Peek(1); err != nil {
		return Answer{}, unanswered(err)
	}
	resp, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return Answer{}, fmt.Errorf("read: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxEvent))
		return Answer{Status: resp.StatusCode, HeaderLength: -1, Body: body}, err
	}
	a, err = readEvents(resp.Body)
	if err == nil && c.reader.Buffered() > 0 {
		err = fmt.Errorf("%d bytes follow the answer", c.reader.Buffered())
	}
	if err == nil && resp.Close {
		c.Close()
	}
	return a, err
}

// readEvents reads all events of an answer.
func readEvents(body io.Reader) (Answer, error) {
	a := Answer{Status: http.StatusOK, HeaderLength: -1}
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxEvent)
	count := 0
	for lines.Scan() {
		line := lines.Text()
		if name, ok := strings.CutPrefix(line, "event:"); ok && strings.TrimSpace(name) == "error" {
			lines.Scan()
			return Answer{}, fmt.Errorf("an event of an error: %.200s", lines.Text())
		}
		data, ok := strings.CutPrefix(line, "data:")
		if !ok {
			continue
		}
		if strings.HasPrefix(strings.TrimSpace(data), `{"error"`) {
			return Answer{}, fmt.Errorf("an event of an error: %.200s", data)
		}
		if count++; count == 1 {
			a.First = time.Now()
		}
	}
	if err := lines.Err(); err != nil {
		return Answer{}, fmt.Errorf("read: %w", err)
	}
	if count == 0 {
		return Answer{}, errors.New("the answer has no event")
	}
	a.Body = fmt.Appendf(nil, "%d", count)
	return a, nil
}
