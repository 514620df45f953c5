package oip

import (
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/inference/serve"
	"sluice/internal/inference/stream"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/idempotency"
)

// Config holds the settings of the REST edge.
type Config struct {
	ServerName    string // in the server metadata; default "sluice"
	ServerVersion string // in the server metadata; default "dev"
	// MaxBody is the most bytes of a request body, after decompression too;
	// default 64 MiB.
	MaxBody int64
	// MaxBodyKey names the setting that raises MaxBody, for the refusal's text.
	MaxBodyKey string
	// Memory bounds what all requests hold together: bodies, decompressed and
	// decoded, and answers; default 2 GiB.
	Memory *budget.Budget
	// BodyTimeout is how long the body of a request may take to arrive, where
	// it is larger than smallBody; default one minute. Smaller ones are left to
	// the HTTP server's own limit.
	BodyTimeout time.Duration
	// Durable serves requests that prefer it, once for each Idempotency-Key; nil
	// answers all at once.
	Durable Durable
	Once    *idempotency.Once
}

func (c Config) withDefaults() (Config, error) {
	if c.ServerName == "" {
		c.ServerName = "sluice"
	}
	if c.ServerVersion == "" {
		c.ServerVersion = "dev"
	}
	if c.MaxBody == 0 {
		c.MaxBody = 64 << 20
	}
	if c.MaxBodyKey == "" {
		c.MaxBodyKey = "the server's body limit"
	}
	if c.Memory == nil {
		c.Memory = budget.New(2<<30, "the server's memory limit")
	}
	if c.BodyTimeout == 0 {
		c.BodyTimeout = time.Minute
	}
	if c.MaxBody < 0 || c.BodyTimeout < 0 {
		return c, fault.New(fault.Invalid, "oip: MaxBody is %d and BodyTimeout %s: neither may be negative", c.MaxBody, c.BodyTimeout)
	}
	return c, nil
}

// Router is what routes are added to: an *echo.Echo or an *echo.Group.
type Router interface {
	Add(method, path string, handler echo.HandlerFunc, middleware ...echo.MiddlewareFunc) *echo.Route
}

// rest is the REST edge.
type rest struct {
	models   *stream.Models
	config   Config
	foreseer serve.Foreseer // of models; nil where they foresee nothing
}

// Register adds the protocol's REST routes. Their handlers return their errors:
// the Echo's HTTPErrorHandler must write them with WriteError.
func Register(r Router, models serve.Models, config Config) error {
	config, err := config.withDefaults()
	if err != nil {
		return err
	}
	streams, err := stream.Of(models)
	if err != nil {
		return err
	}
	a := &rest{models: streams, config: config}
	a.foreseer, _ = streams.Models.(serve.Foreseer)
	r.Add("GET", "/v2", a.serverMetadata)
	r.Add("GET", "/v2/health/live", a.live)
	r.Add("GET", "/v2/health/ready", a.ready)
	r.Add("GET", "/v2/models/stats", a.allStats)
	for _, route := range []struct {
		method, path string
		handler      echo.HandlerFunc
	}{
		{"GET", "", a.modelMetadata}, {"GET", "/ready", a.modelReady}, {"GET", "/config", a.modelConfig}, {"GET", "/stats", a.modelStats},
		{"POST", "/infer", a.infer}, {"POST", "/generate", a.generate}, {"POST", "/generate_stream", a.generateStream},
	} {
		r.Add(route.method, "/v2/models/:model"+route.path, route.handler)
		r.Add(route.method, "/v2/models/:model/versions/:version"+route.path, withVersion(route.handler))
	}
	r.Add("POST", "/v2/repository/index", a.index)
	r.Add("POST", "/v2/repository/models/:model/load", a.load)
	r.Add("POST", "/v2/repository/models/:model/unload", a.unload)
	addUnsupported(r)
	return nil
}

// withVersion refuses a path that has a place for a version and none in it: the
// model's default is not what the client meant.
func withVersion(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if c.Param("version") == "" {
			return echo.ErrNotFound
		}
		return next(c)
	}
}

// addUnsupported adds the routes of extensions that are not offered, so that a
// client learns just that.
func addUnsupported(r Router) {
	refuse := func(format string) echo.HandlerFunc {
		err := fault.New(fault.Unsupported, "%s", format)
		return func(echo.Context) error { return err }
	}
	repository := refuse("'repository_name' specification is not supported")
	r.Add("POST", "/v2/repository/:repository/index", repository)
	r.Add("POST", "/v2/repository/:repository/models/:model/load", repository)
	r.Add("POST", "/v2/repository/:repository/models/:model/unload", repository)

	memory := refuse("shared memory is not supported: send tensors in the request body")
	for _, kind := range []string{"/v2/systemsharedmemory", "/v2/cudasharedmemory"} {
		r.Add("GET", kind+"/status", memory)
		r.Add("GET", kind+"/region/:region/status", memory)
		r.Add("POST", kind+"/region/:region/register", memory)
		r.Add("POST", kind+"/region/:region/unregister", memory)
		r.Add("POST", kind+"/unregister", memory)
	}
	trace := refuse("the trace extension is not supported: traces are exported through OpenTelemetry")
	logging := refuse("the logging extension is not supported: set the log level in the server's configuration")
	for _, method := range []string{"GET", "POST"} {
		r.Add(method, "/v2/trace/setting", trace)
		r.Add(method, "/v2/models/:model/trace/setting", trace)
		r.Add(method, "/v2/logging", logging)
	}
}
