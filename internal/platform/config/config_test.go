package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

func writeFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultsAreValidAndDocumented(t *testing.T) {
	c, err := Load(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		c.DataDir: "./data", c.HTTP.Addr: "127.0.0.1:8000", c.GRPC.Addr: "127.0.0.1:8001",
		c.Ops.Addr: "127.0.0.1:8002", c.Model.Repository: "./models", c.ONNXRuntime: "",
	} {
		if got != want {
			t.Errorf("default is %q, want %q", got, want)
		}
	}
	var usage strings.Builder
	if err := Usage(&usage); err != nil {
		t.Fatal(err)
	}
	leaves, _ := fields(reflect.ValueOf(&c).Elem(), "")
	for _, f := range leaves {
		if f.tag.Get("help") == "" {
			t.Errorf("%s has no help", f.key)
		}
		if !strings.Contains(usage.String(), f.tag.Get("help")) || !strings.Contains(usage.String(), f.env()) {
			t.Errorf("the usage does not explain %s", f.key)
		}
		switch f.value.Kind() {
		case reflect.Int, reflect.Int64, reflect.Float64:
			for _, tag := range []string{"min", "max", "default"} {
				if _, ok := f.tag.Lookup(tag); !ok {
					t.Errorf("%s has no %s: every limit is finite", f.key, tag)
				}
			}
		}
	}
}

func TestNamesThatScriptsUse(t *testing.T) {
	leaves, _ := fields(reflect.ValueOf(&Config{}).Elem(), "")
	have := map[string]bool{}
	for _, f := range leaves {
		have[f.env()] = true
	}
	for _, name := range []string{
		"SLUICE_DATA_DIR", "SLUICE_HTTP_ADDR", "SLUICE_GRPC_ADDR", "SLUICE_OPS_ADDR",
		"SLUICE_MODEL_REPOSITORY", "SLUICE_ONNXRUNTIME", "SLUICE_MODELS",
		"SLUICE_NATS_URL", "SLUICE_DATABASE_URL", "SLUICE_BLOB_URL", "SLUICE_AUTH_MODE",
	} {
		if !have[name] {
			t.Errorf("%s is not a setting", name)
		}
	}
}

// Every subset of the sources, each with a value of its own: the strongest wins.
func TestPrecedence(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want := 2048
		var args, env []string
		value := rapid.IntRange(1, 1_000_000)
		if rapid.Bool().Draw(rt, "file") {
			want = value.Draw(rt, "file value")
			path := writeFile(t, fmt.Sprintf("http:\n  max_in_flight: %d\n", want))
			if rapid.Bool().Draw(rt, "by flag") {
				args = append(args, "--config", path)
			} else {
				env = append(env, "SLUICE_CONFIG="+path)
			}
		}
		if rapid.Bool().Draw(rt, "env") {
			want = value.Draw(rt, "env value")
			env = append(env, fmt.Sprintf("SLUICE_HTTP_MAX_IN_FLIGHT=%d", want))
		}
		if rapid.Bool().Draw(rt, "flag") {
			want = value.Draw(rt, "flag value")
			args = append(args, fmt.Sprintf("--http-max-in-flight=%d", want))
		}
		c, err := Load(args, env)
		if err != nil {
			rt.Fatal(err)
		}
		if c.HTTP.MaxInFlight != want {
			rt.Fatalf("max_in_flight = %d, want %d", c.HTTP.MaxInFlight, want)
		}
	})
}

func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		args, env []string
		file      string
		want      []string // all in the message
	}{
		"unknown file key":      {file: "http:\n  max_boddy: 1MiB\n", want: []string{"sluice.yaml:2", `"http.max_boddy"`, "nearest known one is http.max_body"}},
		"unknown section":       {file: "htpp:\n  addr: x\n", want: []string{`"htpp"`, "is http"}},
		"key outside section":   {file: "http.addr: 127.0.0.1:1\nmax_body: 1\n", want: []string{`unknown key "max_body"`}},
		"duplicate key":         {file: "data_dir: a\ndata_dir: b\n", want: []string{"data_dir"}},
		"section is a scalar":   {file: "http: 8000\n", want: []string{"sluice.yaml:1", "mapping", "section http"}},
		"leaf is a mapping":     {file: "data_dir: {a: b}\n", want: []string{"data_dir needs one plain value"}},
		"leaf is null":          {file: "data_dir:\n", want: []string{"data_dir needs one plain value"}},
		"leaf is an alias":      {file: "data_dir: &a x\nonnxruntime: *a\n", want: []string{"onnxruntime needs one plain value"}},
		"not yaml":              {file: "a: [\n", want: []string{"sluice.yaml"}},
		"two documents":         {file: "data_dir: a\n---\ndata_dir: b\n", want: []string{"one YAML document"}},
		"list of lists":         {file: "models: [[a]]\n", want: []string{"models is a list of plain names"}},
		"missing file":          {args: []string{"--config=/does/not/exist.yaml"}, want: []string{"--config", "/does/not/exist.yaml"}},
		"unknown variable":      {env: []string{"SLUICE_HTTP_ADR=x"}, want: []string{"SLUICE_HTTP_ADR", "nearest known one is SLUICE_HTTP_ADDR"}},
		"port is no service":    {env: []string{"SLUICE_HTTP_PORT=8000"}, want: []string{"SLUICE_HTTP_PORT"}},
		"unknown flag":          {args: []string{"--htpp-addr", "x"}, want: []string{"--htpp-addr", "nearest known one is --http-addr"}},
		"wrong store":           {env: []string{"SLUICE_DATABASE_URL=postgres://u:hunter2@h/db"}, want: []string{"database.url", "sqlite:… or scylla:…"}},
		"wrong queue":           {env: []string{"SLUICE_NATS_URL=nats://a:1,http://b:2"}, want: []string{"nats.url"}},
		"wrong objects":         {env: []string{"SLUICE_BLOB_URL=./data"}, want: []string{"blob.url", "file:… or s3:…"}},
		"keys without issuer":   {env: []string{"SLUICE_AUTH_JWT_KEYS=keys.json"}, want: []string{"auth.jwt_issuer is empty"}},
		"issuer without auth":   {env: []string{"SLUICE_AUTH_JWT_ISSUER=https://id.example", "SLUICE_AUTH_JWT_KEYS=k", "SLUICE_AUTH_JWT_AUDIENCE=a"}, want: []string{"auth.mode is off"}},
		"issuer without keys":   {env: []string{"SLUICE_AUTH_MODE=required", "SLUICE_AUTH_JWT_ISSUER=https://id.example"}, want: []string{"auth.jwt_keys"}},
		"flag without value":    {args: []string{"--http-addr"}, want: []string{"--http-addr has no value"}},
		"positional":            {args: []string{"serve"}, want: []string{`"serve"`}},
		"too small":             {args: []string{"--http-max-body=1"}, want: []string{"http.max_body is 1", "at least 1KiB", "flag --http-max-body"}},
		"too large":             {env: []string{"SLUICE_MODEL_SLO=1h"}, want: []string{"model.slo is 1h0m0s", "at most 10m", "SLUICE_MODEL_SLO"}},
		"negative":              {env: []string{"SLUICE_SHUTDOWN_GRACE=-1s"}, want: []string{"shutdown.grace", "at least 0s"}},
		"not a duration":        {env: []string{"SLUICE_MODEL_SLO=10"}, want: []string{"SLUICE_MODEL_SLO", `"10" is not a duration`}},
		"NaN":                   {env: []string{"SLUICE_TRACE_SAMPLE_RATIO=NaN"}, want: []string{"SLUICE_TRACE_SAMPLE_RATIO"}},
		"overflow":              {env: []string{"SLUICE_HTTP_MAX_BODY=99999999999TiB"}, want: []string{"SLUICE_HTTP_MAX_BODY"}},
		"empty number":          {env: []string{"SLUICE_HTTP_MAX_BODY="}, want: []string{"SLUICE_HTTP_MAX_BODY"}},
		"oneof":                 {env: []string{"SLUICE_LOG_LEVEL=loud"}, want: []string{"log.level", "debug, info, warn, error"}},
		"all interfaces":        {env: []string{"SLUICE_HTTP_ADDR=:8000"}, want: []string{"http.addr", "no authentication is configured", "loopback"}},
		"public address":        {env: []string{"SLUICE_GRPC_ADDR=0.0.0.0:8001"}, want: []string{"grpc.addr", "no authentication"}},
		"public operations":     {env: []string{"SLUICE_OPS_ADDR=10.1.2.3:8002"}, want: []string{"ops.addr", "no authentication"}},
		"name":                  {env: []string{"SLUICE_HTTP_ADDR=localhost.example.com:80"}, want: []string{"no authentication"}},
		"v6 any":                {env: []string{"SLUICE_HTTP_ADDR=[::]:80"}, want: []string{"no authentication"}},
		"no port":               {env: []string{"SLUICE_HTTP_ADDR=127.0.0.1"}, want: []string{"http.addr", "not an address"}},
		"bad port":              {env: []string{"SLUICE_HTTP_ADDR=127.0.0.1:65536"}, want: []string{"65536"}},
		"same address":          {env: []string{"SLUICE_HTTP_ADDR=127.0.0.1:8002"}, want: []string{"http.addr and ops.addr are both"}},
		"timeouts out of order": {env: []string{"SLUICE_HTTP_READ_TIMEOUT=1s"}, want: []string{"http.read_header_timeout is 5s", "at most http.read_timeout (1s)"}},
		"collector":             {env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=localhost:4318"}, want: []string{"trace.endpoint"}},
		"everything at once":    {args: []string{"--nope=1"}, env: []string{"SLUICE_NOPE=1", "SLUICE_MODEL_SLO=x"}, want: []string{"--nope", "SLUICE_NOPE", "SLUICE_MODEL_SLO"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := tc.args
			if tc.file != "" {
				args = append(args, "--config", writeFile(t, tc.file))
			}
			_, err := Load(args, tc.env)
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("error is %v, want an invalid configuration", err)
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("message %q lacks %q", err, w)
				}
			}
		})
	}
}

func TestAccepted(t *testing.T) {
	path := writeFile(t, "models: [iris, 'digits']\nhttp:\n  addr: localhost:0\n  idle_timeout: 30s\n  max_body: 1.5MiB\n")
	c, err := Load([]string{"-bench-noop", "--log-format", "text", "--shutdown-grace=0s"}, []string{
		"SLUICE_CONFIG=" + path,
		"SLUICE_GRPC_ADDR=[::1]:0",
		"SLUICE_OPS_ADDR=[::ffff:127.0.0.1]:0",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318",
		"SLUICE_DATABASE_URL=scylla://a:1,b:2/sluice", "SLUICE_NATS_URL=nats://a:4222,tls://b:4222", "SLUICE_BLOB_URL=s3://k:s@minio:9000/bucket",
		// what Kubernetes sets where a service is called sluice
		"SLUICE_SERVICE_HOST=10.0.0.1", "SLUICE_SERVICE_PORT=8000", "SLUICE_SERVICE_PORT_HTTP=8000",
		"SLUICE_PORT=tcp://10.0.0.1:8000", "SLUICE_PORT_8000_TCP=tcp://10.0.0.1:8000", "SLUICE_PORT_8000_TCP_ADDR=10.0.0.1",
		"SLUICE_API_SERVICE_HOST=10.0.0.1", "OTHER=1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if !c.BenchNoop || c.Log.Format != "text" || c.Shutdown.Grace != 0 || c.HTTP.IdleTimeout != 30*time.Second ||
		c.HTTP.MaxBody != 3<<19 || c.Trace.Endpoint != "http://collector:4318" || !cmp.Equal(c.Models, []string{"iris", "digits"}) {
		t.Errorf("loaded %+v", c)
	}
	open := []string{"SLUICE_AUTH_MODE=required", "SLUICE_HTTP_ADDR=0.0.0.0:8000", "SLUICE_GRPC_ADDR=:8001",
		"SLUICE_AUTH_JWT_ISSUER=https://id.example", "SLUICE_AUTH_JWT_KEYS=https://id.example/keys", "SLUICE_AUTH_JWT_AUDIENCE=sluice"}
	if c, err := Load(nil, open); err != nil || !c.Authenticated() || c.Auth.JWTTenantClaim != "tenant" {
		t.Errorf("with authentication: %v", err)
	}
	if _, err := Load([]string{"--http-addr=x", "--help"}, nil); !errors.Is(err, ErrHelp) {
		t.Errorf("--help gives %v", err)
	}
}

// What is printed is a configuration file that gives the same settings again.
func TestPrintRoundTrip(t *testing.T) {
	text := rapid.StringOf(rapid.RuneFrom([]rune("ab/.-_ #:'\"\\\t\n{}[]&*!|>%@`,é0~"))).Filter(func(s string) bool { return s != "" })
	rapid.Check(t, func(rt *rapid.T) {
		want := Config{}
		if _, err := load(&want, nil, nil); err != nil {
			rt.Fatal(err)
		}
		want.DataDir = text.Draw(rt, "data_dir")
		want.ONNXRuntime = text.Draw(rt, "onnxruntime")
		want.Models = rapid.SliceOf(rapid.StringMatching(`[a-z0-9_.-]{1,8}`)).Draw(rt, "models")
		want.HTTP.MaxBody = Size(rapid.Int64Range(1<<10, 4<<30).Draw(rt, "max_body"))
		want.HTTP.IdleTimeout = time.Duration(rapid.Int64Range(1e7, 36e11).Draw(rt, "idle"))
		want.Trace.SampleRatio = rapid.Float64Range(0, 1).Draw(rt, "ratio")
		want.BenchNoop = rapid.Bool().Draw(rt, "noop")
		var printed strings.Builder
		if err := want.Print(&printed); err != nil {
			rt.Fatal(err)
		}
		got, err := Load([]string{"--config", writeFile(t, printed.String())}, nil)
		if err != nil {
			rt.Fatalf("%s\n%s", err, printed.String())
		}
		if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Config{}), cmpopts.EquateEmpty()); d != "" {
			rt.Fatalf("%s\n%s", d, printed.String())
		}
	})
}

type withSecret struct {
	Token string        `key:"token" secret:"true" help:"x"`
	Until time.Duration `key:"until" secret:"true" default:"1s" help:"x"`
}

func TestSecretsStayHidden(t *testing.T) {
	const secret = "hunter2"
	var c withSecret
	l, err := load(&c, []string{"--token", secret}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := printFields(&b, &c, l.origins); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), secret) || !strings.Contains(b.String(), redacted) || c.Token != secret {
		t.Errorf("printed %q", b.String())
	}
	if _, err := load(&c, nil, []string{"SLUICE_UNTIL=" + secret}); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("error %v shows the secret, or is missing", err)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "1": 1, "64KiB": 65536, "1.5GiB": 3 << 29, "2 MB": 2e6, "7B": 7} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "KiB", "1XB", "1e3", "0x10", "1__0", "NaN", "Inf", "9223372036854775807KiB", "64 KiB KiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		want := Size(rapid.Int64Range(0, 1<<62).Draw(rt, "size"))
		if got, err := ParseSize(want.String()); err != nil || got != want {
			rt.Fatalf("ParseSize(%q) = %d, %v, want %d", want, got, err, want)
		}
	})
}

func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		"", "---\n", "data_dir: x\n", "http:\n  addr: 127.0.0.1:1\n", "models: [a, b]\n", "a: &a [*a]\n", "? {a: b}\n: c\n",
		"http: !!binary aGk=\n", "<<: {data_dir: x}\n", "\xff\xfe", "data_dir: 'x\x00y'\n", "1: 2\n", "- a\n", "http:\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := Config{}
		l, err := load(&c, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		l.fromYAML("f", data)
		for _, p := range l.problems {
			if !strings.HasPrefix(p, "f:") {
				t.Errorf("problem %q does not name the file", p)
			}
		}
	})
}
