package cql

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gocql/gocql"
)

// node is a node of a cluster as far as one session needs it, by the native protocol v4. It
// answers LIST with pages that are empty, as ScyllaDB does where it has gone past what is
// filtered or deleted, and a row behind them.
type node struct {
	net.Listener
	empty, rows int // pages before the rows
	mu          sync.Mutex
	asked       int
}

// The opcodes and types of the protocol that the node uses.
const (
	opStartup, opReady, opOptions, opSupported, opQuery, opResult, opRegister = 0x01, 0x02, 0x05, 0x06, 0x07, 0x08, 0x0b
	asText, asUUID, asInet                                                    = 0x0d, 0x0c, 0x10
)

func newNode(t *testing.T, empty, rows int) *node {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Listener: l, empty: empty, rows: rows}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { defer c.Close(); n.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return n
}

// serve answers the frames of a connection until it ends.
func (n *node) serve(c net.Conn) {
	for {
		head := make([]byte, 9) // version, flags, stream, opcode, length
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[5:]))
		if _, err := io.ReadFull(c, body); err != nil {
			return
		}
		op, answer := n.answer(head[4], body)
		frame := append([]byte{0x84, 0, head[2], head[3], op}, binary.BigEndian.AppendUint32(nil, uint32(len(answer)))...)
		if _, err := c.Write(append(frame, answer...)); err != nil {
			return
		}
	}
}

func (n *node) answer(op byte, body []byte) (byte, []byte) {
	switch op {
	case opOptions:
		return opSupported, []byte{0, 0}
	case opQuery:
		text := string(body[4 : 4+binary.BigEndian.Uint32(body)])
		switch {
		case strings.HasPrefix(text, "LIST"):
			return opResult, n.page()
		case strings.Contains(text, "system.local"):
			return opResult, page(nil, []column{{"data_center", asText, "dc"}, {"rack", asText, "r"}, {"release_version", asText, "4.0.0"},
				{"host_id", asUUID, "0123456789abcdef"}, {"rpc_address", asInet, "\x7f\x00\x00\x01"}, {"schema_version", asUUID, "0123456789abcdef"}}, 1)
		}
		return opResult, page(nil, []column{{"none", asText, ""}}, 0)
	}
	return opReady, nil // to STARTUP and REGISTER
}

// page is the next answer to LIST.
func (n *node) page() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	name := []column{{"name", asText, "there"}}
	if n.asked++; n.asked <= n.empty {
		return page([]byte("on"), name, 0)
	}
	return page(nil, name, n.rows)
}

type column struct {
	name  string
	is    uint16
	value string
}

// page encodes equal rows; more says that others follow, and where.
func page(more []byte, columns []column, rows int) []byte {
	number := func(b []byte, n int) []byte { return binary.BigEndian.AppendUint32(b, uint32(n)) }
	text := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	flags := 1 // the table is named once
	if more != nil {
		flags |= 2
	}
	b := number(number(number(nil, 2), flags), len(columns))
	if more != nil {
		b = append(number(b, len(more)), more...)
	}
	b = text(text(b, "k"), "t")
	for _, c := range columns {
		b = binary.BigEndian.AppendUint16(text(b, c.name), c.is)
	}
	b = number(b, rows)
	for range rows {
		for _, c := range columns {
			b = append(number(b, len(c.value)), c.value...)
		}
	}
	return b
}

// Pages without rows are not the end: the first row is found behind them, where Query.Scan
// finds none. Where no row follows there is none.
func TestFirstGoesPastEmptyPages(t *testing.T) {
	for name, c := range map[string]struct {
		empty, rows int
		found       bool
	}{
		"at once": {0, 1, true}, "behind empty pages": {2, 1, true}, "several": {1, 3, true}, "only empty pages": {2, 0, false}, "nothing": {0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, c.empty, c.rows)
			cluster := gocql.NewCluster(n.Addr().String())
			cluster.ProtoVersion, cluster.NumConns, cluster.DisableInitialHostLookup, cluster.Timeout = 4, 1, true, 20*time.Second
			cluster.Logger = logger{slog.New(slog.DiscardHandler)}
			session, err := cluster.CreateSession()
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			s := &Session{Session: session, now: time.Now}
			var got string
			if found, err := First(s.Repeat(t.Context(), `LIST t`), &got); err != nil || found != c.found || found && got != "there" {
				t.Errorf("found %t, %q, %v; want %t", found, got, err, c.found)
			}
		})
	}
	n := newNode(t, 0, 1)
	cluster := gocql.NewCluster(n.Addr().String())
	cluster.ProtoVersion, cluster.NumConns, cluster.DisableInitialHostLookup = 4, 1, true
	cluster.Logger = logger{slog.New(slog.DiscardHandler)}
	session, err := cluster.CreateSession()
	if err != nil {
		t.Fatal(err)
	}
	session.Close()
	var got string
	if found, err := First(session.Query(`LIST t`), &got); found || !errors.Is(err, gocql.ErrSessionClosed) {
		t.Errorf("of a closed session: %t, %v", found, err)
	}
}
