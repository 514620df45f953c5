package telemetry

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sluice/internal/platform/loopback"
)

// OpsConfig says what the operations listener shows beside metrics and probes.
type OpsConfig struct {
	// Profiles serves Go's profiles. They show the inside of the program and slow
	// it down for whoever asks, so they are for a listener on loopback only.
	Profiles bool
}

// OnLoopback says whether a listener on the address, "host:port", can be reached
// from this machine only.
func OnLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && loopback.Host(host)
}

// NewOps returns the handler of the operations listener:
//
//	/metrics                    Prometheus metrics
//	/livez /startupz /readyz    probes: 200 or 503, each check with its reason
//	/healthz                    readiness as plain text
//	/debug/pprof/               Go profiles, where cfg says so
func NewOps(h *Health, metrics prometheus.Gatherer, log *slog.Logger, cfg OpsConfig) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError,
		EnableOpenMetrics:   true,
		MaxRequestsInFlight: 4,
	}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, r *http.Request) {
		// Answering is the proof: what a restart cannot cure is not checked here.
		writeProbe(w, true, []CheckResult{{Name: "process", Status: "pass"}})
	})
	mux.HandleFunc("GET /startupz", func(w http.ResponseWriter, r *http.Request) {
		startup := h.Startup()
		writeProbe(w, startup.Status == "pass", []CheckResult{startup})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		results, ready := h.Ready(r.Context())
		writeProbe(w, ready, results)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if _, ready := h.Ready(r.Context()); !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "not ready\n")
			return
		}
		io.WriteString(w, "ok\n")
	})
	index := "/metrics\n/livez\n/startupz\n/readyz\n/healthz\n"
	if cfg.Profiles {
		index += "/debug/pprof/\n"
		// Without cmdline: arguments may hold secrets.
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, index) })
	return mux
}

// probe is the answer of a probe endpoint.
type probe struct {
	Status string        `json:"status"`
	Checks []CheckResult `json:"checks"`
}

func writeProbe(w http.ResponseWriter, pass bool, checks []CheckResult) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	p := probe{"pass", checks}
	if !pass {
		p.Status = "fail"
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(p) // its only error is a prober that left
}
