package telemetry

import (
	"bytes"
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/secret"
)

// ShipConfig says where log lines are shipped to. Zero values mean the default,
// where there is one.
type ShipConfig struct {
	URL    string        // of Elasticsearch; required
	Index  string        // or data stream; "logs-sluice-default"
	APIKey secret.Text   // "id:key" in base64, as Elasticsearch gives it; empty sends none
	Run    string        // unique to this run of the program: the beginning of the lines' ids; required
	Buffer int           // bytes of lines kept until they are shipped; 0 means 8 MiB
	Batch  int           // bytes of lines sent at once; 0 means 1 MiB
	Every  time.Duration // at least how often lines are sent; 0 means 1s
}

// Shipper sends log lines to Elasticsearch's bulk API. It is an io.Writer for the
// JSON that NewLogger writes, one line for each call of Write, beside the standard
// error output. It never holds up who logs: what its buffer cannot take is dropped
// and counted. It does not log itself.
//
// A line has an id, so that one which is sent twice is kept once. Lines that
// Elasticsearch refuses for good are dropped, others are sent again. Lines of a
// process that is killed are lost.
type Shipper struct {
	cfg     ShipConfig
	client  *http.Client
	url     string
	outcome *prometheus.CounterVec
	wake    chan struct{} // a batch is full

	mu    sync.Mutex
	lines [][]byte // each as two lines of the bulk format
	size  int      // bytes of lines
	next  uint64   // number of the next line
}

// NewShipper returns a shipper that sends with the client, best resilience's.
// Nothing is sent before Run. fault.Invalid: URL or Run is missing.
func NewShipper(client *http.Client, cfg ShipConfig, metrics prometheus.Registerer) (*Shipper, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fault.New(fault.Invalid, "the address of Elasticsearch is not a URL such as https://localhost:9200; credentials do not belong into it")
	}
	if cfg.Run == "" {
		return nil, fault.New(fault.Invalid, "the shipper of logs needs a name for this run of the program")
	}
	cfg.Index = cmp.Or(cfg.Index, "logs-sluice-default")
	cfg.Buffer, cfg.Batch, cfg.Every = cmp.Or(cfg.Buffer, 8<<20), cmp.Or(cfg.Batch, 1<<20), cmp.Or(cfg.Every, time.Second)
	s := &Shipper{cfg: cfg, client: client, wake: make(chan struct{}, 1)}
	u = u.JoinPath(cfg.Index, "_bulk")
	u.RawQuery = "filter_path=errors,items.*.status"
	s.url = u.String()
	s.outcome = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_log_lines_total", Help: "Log lines by what became of them: shipped, dropped (the buffer was full), refused (by Elasticsearch), lost (at the end).",
	}, []string{"outcome"})
	if metrics != nil {
		if err := metrics.Register(s.outcome); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "the metrics of shipped logs cannot be registered")
		}
	}
	return s, nil
}

// Write takes a line over, or drops it.
func (s *Shipper) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size+len(line) > s.cfg.Buffer {
		s.count("dropped", 1)
		return len(line), nil
	}
	entry := make([]byte, 0, len(line)+len(s.cfg.Run)+48)
	entry = append(entry, `{"create":{"_id":`...)
	entry = strconv.AppendQuote(entry, s.cfg.Run+"-"+strconv.FormatUint(s.next, 36))
	entry = append(append(entry, "}}\n"...), bytes.TrimRight(line, "\n")...)
	s.add([][]byte{append(entry, '\n')})
	s.next++
	if s.size >= s.cfg.Batch {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return len(line), nil
}

func (s *Shipper) add(lines [][]byte) {
	s.lines = append(s.lines, lines...)
	for _, l := range lines {
		s.size += len(l)
	}
}

// Run ships until ctx ends. What is left then is for Stop.
func (s *Shipper) Run(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-tick.C:
		}
		for s.send(ctx) { // until the buffer is empty or Elasticsearch cannot take more
		}
	}
}

// Stop ships what is left, until ctx ends; the rest is lost and counted.
func (s *Shipper) Stop(ctx context.Context) error {
	for {
		for s.send(ctx) {
		}
		s.mu.Lock()
		left := len(s.lines)
		s.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			s.count("lost", left)
			return fault.Wrap(fault.Unavailable, ctx.Err(), "%d log lines could not be shipped", left)
		case <-time.After(s.cfg.Every):
		}
	}
}

// send ships one batch and says whether it was taken and there is more.
func (s *Shipper) send(ctx context.Context) bool {
	batch := s.take()
	if len(batch) == 0 {
		return false
	}
	again, ok := batch, false
	if statuses, err := s.post(ctx, batch); err == nil {
		again = s.settle(batch, statuses)
		ok = len(again) == 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	newer := s.lines
	s.lines, s.size = nil, 0
	s.add(again) // in the order in which they were written
	s.add(newer)
	return ok && len(s.lines) > 0
}

// take takes a batch out of the buffer.
func (s *Shipper) take() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, size := 0, 0
	for n < len(s.lines) && (n == 0 || size+len(s.lines[n]) <= s.cfg.Batch) {
		size += len(s.lines[n])
		n++
	}
	batch := s.lines[:n:n]
	s.lines = s.lines[n:] // size counts them until it is known that they are kept
	return batch
}

func (s *Shipper) count(outcome string, n int) {
	s.outcome.WithLabelValues(outcome).Add(float64(n))
}
