package main

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	chproto "github.com/ClickHouse/ch-go/proto"
	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// front answers HTTP requests from the engine.
type front struct {
	idle          chan *connection
	version, zone string
}

// request is what one asks for.
type request struct {
	sql      string
	body     []byte // of an INSERT
	database string
	format   string
	named    map[string]string // parameters of the query
	settings url.Values
	packed   bool // the answer is to be compressed
}

// maxBody bounds what is sent at once.
const maxBody = 1 << 30

// control are parameters of the address that are no settings of the engine.
var control = map[string]bool{"database": true, "default_format": true, "client_protocol_version": true, "query": true, "query_id": true, "quota_key": true, "session_id": true,
	"user": true, "password": true, "compress": true, "decompress": true, "wait_end_of_query": true, "buffer_size": true, "role": true}

func read(r *http.Request) (*request, error) {
	p := r.URL.Query()
	var in io.Reader = io.LimitReader(r.Body, maxBody)
	if p.Get("decompress") == "1" {
		in = compress.NewReader(in)
	}
	body, err := io.ReadAll(in)
	if err != nil && !errors.Is(err, io.EOF) { // the reader wraps the end of its input
		return nil, err
	}
	q := &request{sql: p.Get("query"), body: body, database: p.Get("database"), format: p.Get("default_format"), named: map[string]string{}, settings: url.Values{}, packed: p.Get("compress") == "1"}
	if q.sql == "" {
		q.sql, q.body = string(body), nil
	}
	if h := r.Header.Get("X-ClickHouse-Format"); h != "" {
		q.format = h
	}
	if q.format == "" {
		q.format = "TabSeparated"
	}
	for k := range p {
		if name, ok := strings.CutPrefix(k, "param_"); ok {
			q.named[name] = p.Get(k)
		} else if !control[k] {
			q.settings[k] = p[k]
		}
	}
	return q, nil
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-ClickHouse-Server-Display-Name", "chdb")
	w.Header().Set("X-ClickHouse-Timezone", f.zone)
	if r.URL.Path == "/ping" {
		_, _ = io.WriteString(w, "Ok.\n")
		return
	}
	q, err := read(r)
	if err != nil {
		refuse(w, err)
		return
	}
	out, err := f.answer(q)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("X-ClickHouse-Format", q.format)
	if q.packed {
		pack(w, out)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(out)))
	_, _ = w.Write(out)
}

func (f *front) answer(q *request) ([]byte, error) {
	if strings.TrimSpace(q.sql) == "SELECT displayName(), version(), revision(), timezone()" {
		return f.hello()
	}
	c := <-f.idle
	defer func() { f.idle <- c }()
	return c.do(q)
}

// hello is the answer to the driver's first question. It decodes that one at its
// own revision of the protocol, and all later ones at the revision that this one
// tells: 0 is the plain Native format, which is what the engine writes.
func (f *front) hello() ([]byte, error) {
	b := proto.Block{ServerContext: &column.ServerContext{}}
	for _, c := range [][2]string{{"displayName()", "String"}, {"version()", "String"}, {"revision()", "UInt32"}, {"timezone()", "String"}} {
		if err := b.AddColumn(c[0], column.Type(c[1])); err != nil {
			return nil, err
		}
	}
	if err := b.Append("chdb", f.version, uint32(0), f.zone); err != nil {
		return nil, err
	}
	var out chproto.Buffer
	err := b.Encode(&out, clickhouse.ClientTCPProtocolVersion)
	return out.Buf, err
}

// pack writes an answer in the driver's blocks.
func pack(w io.Writer, b []byte) {
	c := compress.NewWriter(compress.LevelZero, compress.LZ4)
	for chunk := range slices.Chunk(b, 1<<20) {
		if err := c.Compress(chunk); err != nil {
			return
		}
		if _, err := w.Write(c.Data); err != nil {
			return
		}
	}
}

var code = regexp.MustCompile(`Code: (\d+)\.`)

// refuse writes an error as the server does.
func refuse(w http.ResponseWriter, err error) {
	number := "1002" // unknown
	if m := code.FindStringSubmatch(err.Error()); m != nil {
		number = m[1]
	}
	w.Header().Set("X-ClickHouse-Exception-Code", number)
	http.Error(w, err.Error(), http.StatusInternalServerError)
}
