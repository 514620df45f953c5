// Package arch holds no code, only the test that keeps the layers of the
// repository apart: the rules of docs/ARCHITECTURE.md, in executable form.
package arch

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// module is the prefix of the repository's own import paths.
const module = "sluice"

// pkg is what `go list -json` says about a package, with paths of the module
// itself cut down to "internal/..." and the like.
type pkg struct {
	ImportPath string
	Name, Doc  string
	Dir        string
	GoFiles    []string
	CgoFiles   []string
	Imports    []string
	Deps       []string // everything imported, directly or not, tests left out

	TestGoFiles, XTestGoFiles []string
	TestImports, XTestImports []string
}

func (p *pkg) files() []string { return slices.Concat(p.GoFiles, p.CgoFiles) }
func (p *pkg) tests() []string { return slices.Concat(p.TestGoFiles, p.XTestGoFiles) }

// rule says who must not import what. Patterns are import paths: "a/b" is that
// package alone, "a/b/..." also everything below it, "..." everything.
type rule struct {
	why     string // printed with every violation
	from    []string
	except  []string
	forbids []string
	// deep counts what is imported through other packages of the module, too.
	deep bool
}

var (
	// domain packages decide; they do no input and no output.
	domain = []string{
		"internal/inference/model/...", "internal/inference/route/...", "internal/inference/batcher/...",
		"internal/inference/tensor/...", "internal/inference/engine", "internal/inference/serve/...", "internal/inference/stream",
		"internal/inference/onnx/...", "internal/platform/fault/...",
		"internal/platform/result", "internal/platform/spec", "internal/platform/aggregate", "internal/platform/repo", "internal/platform/eventstore",
		"internal/platform/access", "internal/platform/flag", "internal/platform/webhook", "internal/platform/queue", "internal/platform/blob",
		"internal/platform/identity/directory", "internal/platform/audit", "internal/platform/feed", "internal/inference/job",
		"internal/inference/experiment/...", "internal/inference/evidence/...", "internal/inference/shadow", "internal/inference/release", "internal/inference/record", "internal/inference/rollout",
	}
	// adapters are where drivers are: one for each.
	adapters = map[string][]string{
		"github.com/mattn/go-sqlite3/...":   {"internal/platform/sqlite", "internal/platform/repo/sqliterepo/..."},
		"github.com/gocql/gocql/...":        {"internal/platform/cql/...", "internal/platform/repo/scyllarepo/...", "internal/inference/feature/cqlfeature"},
		"github.com/nats-io/...":            {"internal/platform/queue/natsqueue/...", "cmd/worker"},
		"github.com/minio/...":              {"internal/platform/blob/s3blob/..."},
		"github.com/ClickHouse/...":         {"internal/inference/record/chrecord"},
		"github.com/parquet-go/...":         {"internal/batch/encode/parquet", "internal/batch/ingest/..."},
		"github.com/spf13/cobra/...":        {"cmd/sluice"},
		"github.com/danielgtaylor/huma/...": {"internal/platform/web/api/...", "cmd/..."},
	}
	// edges speak a wire protocol; they alone know requests and connections.
	edges = []string{
		"internal/inference/oip/...", "internal/inference/api/...", "internal/platform/web/...", "internal/platform/rpc/...",
		"internal/inference/record/recordhttp",
		"internal/platform/telemetry/...", "internal/platform/feed/feedhttp/...", "internal/platform/feed/feedgrpc/...", "internal/platform/admin/...", "cmd/...", "loadtest/...",
	}
	servers = []string{
		"github.com/labstack/echo/...", "github.com/danielgtaylor/huma/...", "google.golang.org/grpc/...",
		"github.com/coder/websocket/...", "golang.org/x/net/...",
	}
	drivers = []string{
		"github.com/yalue/onnxruntime_go/...", "database/sql", "github.com/mattn/go-sqlite3/...",
		"github.com/gocql/gocql/...", "github.com/ClickHouse/...", "github.com/minio/...",
		"github.com/nats-io/...", "github.com/redis/...", "github.com/xuri/excelize/...",
	}
)

var rules = []rule{
	{
		why:     "the API base knows nothing of models, so that it can carry any other service",
		from:    []string{"internal/platform/..."},
		forbids: []string{"internal/inference/...", "internal/batch/..."},
		deep:    true,
	},
	{
		why:     "batch declares the small interfaces that it needs; cmd hands it the implementations",
		from:    []string{"internal/batch/..."},
		forbids: []string{"internal/inference/..."},
		deep:    true,
	},
	{
		why:     "inference is complete without batch processing",
		from:    []string{"internal/inference/..."},
		forbids: []string{"internal/batch/..."},
		deep:    true,
	},
	{
		why:     "cmd is wiring: what others need from it belongs into a package of its own",
		from:    []string{"..."},
		except:  []string{"cmd/..."},
		forbids: []string{"cmd/..."},
	},
	{
		why:     "clients know the API and nothing of what is behind it",
		from:    []string{"cmd/sluice", "internal/client/..."},
		forbids: []string{"internal/inference/...", "internal/batch/...", "internal/platform/repo/...", "internal/platform/queue/...", "cmd/..."},
		deep:    true,
	},
	{
		why:     "production code does not depend on load generators and comparisons",
		from:    []string{"internal/...", "cmd/..."},
		forbids: []string{"loadtest/..."},
	},
	{
		why:     "domain packages import no driver and no server: adapters depend on them, not the reverse",
		from:    domain,
		forbids: slices.Concat(servers, drivers, edges),
		deep:    true,
	},
	{
		why:     "HTTP belongs to the edges: hand the domain a codec, not a request",
		from:    domain,
		forbids: []string{"net/http/..."},
	},
	{
		why:     "requests and connections belong to the edges; everything behind them is tested without a network",
		from:    []string{"..."},
		except:  edges,
		forbids: servers,
	},
	{
		why:     "one adapter per engine: everything else speaks engine.Session",
		from:    []string{"..."},
		except:  []string{"internal/inference/engine/ortengine/...", "loadtest/..."},
		forbids: []string{"github.com/yalue/onnxruntime_go/..."},
	},
	{
		why:     "the batcher is generic: it knows rows and costs, not models, files or tensors' contents",
		from:    []string{"internal/inference/batcher/..."},
		forbids: []string{"internal/inference/engine/...", "internal/inference/serve/...", "internal/inference/onnx/...", "internal/inference/oip/..."},
		deep:    true,
	},
	{
		why:     "errors are the bottom of everything: whatever fault imported, nobody could import it",
		from:    []string{"internal/platform/fault"},
		forbids: []string{"internal/..."},
		deep:    true,
	},
	{
		why:  "testing and go-cmp say it plainly; a second dialect of assertions does not pay",
		from: []string{"..."},
		forbids: []string{
			"github.com/stretchr/testify/...", "github.com/onsi/...", "gotest.tools/...", "github.com/golang/mock/...", "go.uber.org/mock/...",
		},
	},
	{
		why:  "constructors wire the program in plain sight, log/slog logs, and package config configures",
		from: []string{"..."},
		forbids: []string{
			"github.com/google/wire/...", "go.uber.org/fx/...", "go.uber.org/dig/...", "github.com/spf13/viper/...",
			"github.com/sirupsen/logrus/...", "go.uber.org/zap/...", "github.com/rs/zerolog/...", "log",
		},
	},
}

func TestImports(t *testing.T) {
	for _, v := range violations(append(rules, adapterRules()...), list(t)) {
		t.Error(v)
	}
}

// adapterRules keep each driver in its adapter. Load tests stand outside.
func adapterRules() []rule {
	var out []rule
	for driver, homes := range adapters {
		out = append(out, rule{
			why: "one adapter per driver: everything else speaks the port", from: []string{"..."},
			except: append([]string{"loadtest/...", "tools/...", "deploy"}, homes...), forbids: []string{driver},
		})
	}
	return out
}

// A rule that names a package which does not exist guards nothing.
func TestRulesNameRealPackages(t *testing.T) {
	pkgs := list(t)
	named := slices.Clone(domain)
	for _, homes := range adapters {
		named = append(named, homes...)
	}
	for _, pattern := range named {
		if !slices.ContainsFunc(pkgs, func(p *pkg) bool { return matches(pattern, p.ImportPath) }) {
			t.Errorf("no package matches %q, which a rule names", pattern)
		}
	}
}

// violations checks every rule against every import.
func violations(rules []rule, pkgs []*pkg) []string {
	var out []string
	for _, r := range rules {
		for _, p := range pkgs {
			if !matchesAny(r.from, p.ImportPath) || matchesAny(r.except, p.ImportPath) {
				continue
			}
			imports := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
			if r.deep {
				imports = slices.Concat(imports, p.Deps)
			}
			slices.Sort(imports)
			for _, path := range slices.Compact(imports) {
				if matchesAny(r.forbids, path) && path != p.ImportPath {
					out = append(out, fmt.Sprintf("%s must not import %s (itself or through others): %s", p.ImportPath, path, r.why))
				}
			}
		}
	}
	return out
}

func matchesAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, path) })
}

func matches(pattern, path string) bool {
	if pattern == "..." {
		return true
	}
	base, below := strings.CutSuffix(pattern, "/...")
	return path == base || below && strings.HasPrefix(path, base+"/")
}

// The check is itself checked: each of these imports must be found.
func TestViolationsAreFound(t *testing.T) {
	tests := []struct {
		name string
		pkg  pkg
		want string // part of the one violation; empty for none
	}{
		{"platform imports inference", pkg{ImportPath: "internal/platform/web", Imports: []string{"internal/inference/serve"}}, "API base"},
		{"through another", pkg{ImportPath: "internal/platform/web", Deps: []string{"internal/inference/serve"}}, "API base"},
		{"in a test", pkg{ImportPath: "internal/platform/web", TestImports: []string{"internal/batch/job"}}, "API base"},
		{"in an external test", pkg{ImportPath: "internal/batch/run", XTestImports: []string{"internal/inference/model"}}, "small interfaces"},
		{"a driver in the domain", pkg{ImportPath: "internal/inference/route", Imports: []string{"github.com/gocql/gocql"}}, "no driver"},
		{"a driver's subpackage", pkg{ImportPath: "internal/inference/model", Imports: []string{"github.com/nats-io/nats.go/jetstream"}}, "no driver"},
		{"HTTP in the domain", pkg{ImportPath: "internal/inference/batcher", Imports: []string{"net/http"}}, "belongs to the edges"},
		{"a server outside the edges", pkg{ImportPath: "internal/platform/config", Imports: []string{"github.com/labstack/echo/v4"}}, "tested without a network"},
		{"the runtime outside its adapter", pkg{ImportPath: "internal/inference/oip/oiphttp", Imports: []string{"github.com/yalue/onnxruntime_go"}}, "one adapter"},
		{"cmd imported", pkg{ImportPath: "internal/batch/job", Imports: []string{"cmd/api"}}, "wiring"},
		{"testify", pkg{ImportPath: "cmd/api", XTestImports: []string{"github.com/stretchr/testify/require"}}, "go-cmp"},
		{"the old logger", pkg{ImportPath: "cmd/api", Imports: []string{"log"}}, "log/slog"},
		{"a name that only starts alike", pkg{ImportPath: "internal/platform/web", Imports: []string{"internal/inferences", "log/slog"}}, ""},
		{"an edge with a server", pkg{ImportPath: "internal/platform/rpc", Imports: []string{"google.golang.org/grpc"}}, ""},
		{"the adapter with the runtime", pkg{ImportPath: "internal/inference/engine/ortengine", Imports: []string{"github.com/yalue/onnxruntime_go"}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := violations(rules, []*pkg{&tt.pkg})
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("found %q, expected nothing", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("found %q, expected one violation that says %q", got, tt.want)
			}
		})
	}
}

// list returns every package of the module. The tests only read them.
func list(t *testing.T) []*pkg {
	t.Helper()
	pkgs, err := listed()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	if len(pkgs) < 5 {
		t.Fatalf("go list found %d packages: the rules would guard nothing", len(pkgs))
	}
	return pkgs
}

var listed = sync.OnceValues(func() ([]*pkg, error) {
	cmd := exec.Command("go", "list", "-e",
		"-json=ImportPath,Name,Doc,Dir,GoFiles,CgoFiles,Imports,Deps,TestGoFiles,XTestGoFiles,TestImports,XTestImports", "./...")
	cmd.Dir = ".." // the module's root
	cmd.Stderr = os.Stderr
	raw, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var pkgs []*pkg
	for dec := json.NewDecoder(bytes.NewReader(raw)); ; {
		p := new(pkg)
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, err
		}
		p.ImportPath = local(p.ImportPath)
		for _, paths := range [][]string{p.Imports, p.Deps, p.TestImports, p.XTestImports} {
			for i := range paths {
				paths[i] = local(paths[i])
			}
		}
		pkgs = append(pkgs, p)
	}
})

// local cuts the module's name off a path. The standard library has a folder
// "internal" of its own, which must not be taken for ours.
func local(path string) string {
	if strings.HasPrefix(path, "internal/") {
		return "std/" + path
	}
	return strings.TrimPrefix(path, module+"/")
}

// rel is a file's path as a reader of the repository knows it.
func rel(p *pkg, file string) string {
	return filepath.Join(cmp.Or(p.ImportPath, "."), file)
}
