// Package deploy holds what people with Docker run; its test keeps that safe.
// It reads the files and starts nothing, so that an image starts at all is not
// shown here.
package deploy

import (
	"encoding/xml"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"go.yaml.in/yaml/v4"
	"golang.org/x/mod/modfile"

	"sluice/internal/platform/config"
)

type composition struct {
	Services map[string]container
	Volumes  map[string]any
}

type container struct {
	Image       string
	Build       struct{ Context, Dockerfile, Target string }
	Command     []string
	Environment map[string]string
	Ports       []string
	Volumes     []string
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func compose(t *testing.T) composition {
	t.Helper()
	var c composition
	if err := yaml.Unmarshal(read(t, "compose.yaml"), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheWholeSetIsThere(t *testing.T) {
	c := compose(t)
	for _, name := range []string{"nats-1", "nats-2", "nats-3", "minio", "scylla", "clickhouse", "api", "worker"} {
		if _, ok := c.Services[name]; !ok {
			t.Errorf("there is no %s", name)
		}
	}
}

// A name without a version is another program next month.
var pinned = regexp.MustCompile(`^[a-z/-]+:v?\d+\.\d+(\.\d+)+(-[a-z]+)?$`)

func TestImagesArePinned(t *testing.T) {
	for name, s := range compose(t).Services {
		if s.Build.Target == "" && !pinned.MatchString(s.Image) {
			t.Errorf("%s runs %q, expected an image with its whole version", name, s.Image)
		}
	}
	from := regexp.MustCompile(`(?m)^FROM (\S+)(?: AS (\S+))?$`)
	stages := []string{}
	for _, m := range from.FindAllStringSubmatch(string(read(t, "Dockerfile")), -1) {
		base := strings.TrimSuffix(strings.TrimSuffix(m[1], "-slim"), "-bookworm")
		if !slices.Contains(stages, m[1]) && !regexp.MustCompile(`:\d+\.\d+(\.\d+)?$`).MatchString(base) {
			t.Errorf("Dockerfile builds on %q, expected a whole version", m[1])
		}
		stages = append(stages, m[2])
	}
	for name, s := range compose(t).Services {
		if s.Build.Target != "" && !slices.Contains(stages, s.Build.Target) {
			t.Errorf("%s is built from %q, which Dockerfile does not have: %q", name, s.Build.Target, stages)
		}
	}
}

// The cluster runs the server that is also embedded and tested.
func TestNATSIsTheTestedVersion(t *testing.T) {
	mod, err := modfile.Parse("go.mod", read(t, "../go.mod"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Require {
		if r.Mod.Path != "github.com/nats-io/nats-server/v2" {
			continue
		}
		want := "nats:" + strings.TrimPrefix(r.Mod.Version, "v") + "-alpine"
		for _, name := range []string{"nats-1", "nats-2", "nats-3"} {
			if got := compose(t).Services[name].Image; got != want {
				t.Errorf("%s runs %s, expected %s", name, got, want)
			}
		}
		return
	}
	t.Error("go.mod does not name the NATS server")
}

func TestPortsAreOnTheLoopback(t *testing.T) {
	seen := map[string]string{}
	for name, s := range compose(t).Services {
		for _, port := range s.Ports {
			host, _, _ := strings.Cut(strings.TrimPrefix(port, "127.0.0.1:"), ":")
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s publishes %s, which others than this machine can reach", name, port)
			}
			if other := seen[host]; other != "" {
				t.Errorf("%s and %s both want port %s", name, other, host)
			}
			seen[host] = name
		}
	}
}

// What an engine acknowledges must be on disk.

func TestScyllaSyncsBeforeItAcknowledges(t *testing.T) {
	args := compose(t).Services["scylla"].Command
	if !slices.Contains(args, "--commitlog-sync=batch") {
		t.Errorf("scylla is started with %q: without --commitlog-sync=batch it may lose ten seconds", args)
	}
	for _, arg := range args {
		if strings.Contains(arg, "unsafe-bypass-fsync") {
			t.Errorf("scylla is started with %s", arg)
		}
	}
}

func TestNATSSyncsBeforeItAcknowledges(t *testing.T) {
	t.Setenv("NATS_NAME", "nats-1")
	o, err := natsserver.ProcessConfigFile("nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	if !o.JetStream || !o.SyncAlways || o.ServerName != "nats-1" || len(o.Routes) != 3 {
		t.Errorf("JetStream %v, sync always %v, name %q, %d routes", o.JetStream, o.SyncAlways, o.ServerName, len(o.Routes))
	}
	const reserved = 8800 << 20 // by the streams of docs/OPERATIONS.md
	if o.JetStreamMaxStore < reserved {
		t.Errorf("JetStream may store %d bytes: the streams reserve more, and would not be made", o.JetStreamMaxStore)
	}
	for _, name := range []string{"nats-1", "nats-2", "nats-3"} {
		s := compose(t).Services[name]
		if !slices.Contains(s.Volumes, "./nats.conf:/etc/nats/nats.conf:ro") || !slices.Contains(s.Command, "/etc/nats/nats.conf") {
			t.Errorf("%s does not read nats.conf", name)
		}
		if s.Environment["NATS_NAME"] != name || !slices.Contains(s.Volumes, name+":"+o.StoreDir) {
			t.Errorf("%s is called %q and stores in %q", name, s.Environment["NATS_NAME"], s.Volumes)
		}
	}
}

func TestClickHouseSyncsBeforeItAcknowledges(t *testing.T) {
	var c struct {
		MergeTree struct {
			Insert    string `xml:"fsync_after_insert"`
			Directory string `xml:"fsync_part_directory"`
			Merge     string `xml:"min_rows_to_fsync_after_merge"`
		} `xml:"merge_tree"`
	}
	if err := xml.Unmarshal(read(t, "clickhouse.xml"), &c); err != nil {
		t.Fatal(err)
	}
	if c.MergeTree.Insert != "1" || c.MergeTree.Directory != "1" || c.MergeTree.Merge != "1" {
		t.Errorf("clickhouse.xml says %+v, expected 1 everywhere", c.MergeTree)
	}
	const mount = "./clickhouse.xml:/etc/clickhouse-server/config.d/sluice.xml:ro"
	if got := compose(t).Services["clickhouse"].Volumes; !slices.Contains(got, mount) {
		t.Errorf("clickhouse mounts %q, expected %q", got, mount)
	}
}

// Whatever a container must keep is in a volume that is declared.
func TestDataOutlivesItsContainer(t *testing.T) {
	c := compose(t)
	for name, s := range c.Services {
		kept := false
		for _, v := range s.Volumes {
			volume, _, _ := strings.Cut(v, ":")
			_, declared := c.Volumes[volume]
			kept = kept || declared
			if !declared && !strings.HasPrefix(volume, "./") {
				t.Errorf("%s mounts %s, which is not declared", name, v)
			}
		}
		if !kept {
			t.Errorf("%s keeps nothing: its data goes with the container", name)
		}
	}
}

// The programs accept what compose.yaml tells them, as if they started.
func TestProgramsAcceptTheirSettings(t *testing.T) {
	for _, name := range []string{"api", "worker"} {
		var environ []string
		for key, value := range compose(t).Services[name].Environment {
			environ = append(environ, key+"="+value)
		}
		c, err := config.Load(nil, environ)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// Each engine is one that a program is told of.
		for engine, address := range map[string]string{"scylla": c.Database.URL, "minio": c.Blob.URL, "clickhouse": c.Record.URL} {
			if !strings.Contains(address, "://"+engine+":") && !strings.Contains(address, "@"+engine+":") {
				t.Errorf("%s does not use %s", name, engine)
			}
		}
		if c.Auth.Mode != "required" || c.NATS.Replicas != 3 || len(c.NATS.URL) != 3 {
			t.Errorf("%s: authentication %s, %d replicas on %q", name, c.Auth.Mode, c.NATS.Replicas, c.NATS.URL)
		}
	}
}
