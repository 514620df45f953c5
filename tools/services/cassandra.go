package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/template"

	"github.com/gocql/gocql"
)

const cassandraKeyspace = "sluice"

var cassandraPorts = []int{31, 32} // CQL, storage

// cassandraFiles are the project file that names the jars and the server's
// configuration.
//
//go:embed cassandra
var cassandraFiles embed.FS

// addCassandra adds one node, which stands in for ScyllaDB: the same CQL, with
// lightweight transactions and conditional batches, but no tablets and no
// shards, and its conditional batches answer with fewer rows.
func (s *set) addCassandra() {
	port := s.base + cassandraPorts[0]
	addr, dir := loopback(port), s.dir("cassandra")
	s.add(&server{
		name:    "cassandra",
		addr:    addr,
		install: s.place.installCassandra,
		command: func(jars string) ([]string, error) {
			return cassandraCommand(dir, jars, port, s.base+cassandraPorts[1])
		},
		ready: func(ctx context.Context) error { return cassandraReady(ctx, port) },
	})
	s.env = append(s.env, [2]string{"SLUICE_TEST_CQL_URL", "scylla://" + addr + "/" + cassandraKeyspace})
}

// cassandraCommand writes the configuration into dir and starts the server as
// its own scripts, which are not among the jars, would.
func cassandraCommand(dir, jars string, port, storage int) ([]string, error) {
	java, err := java17()
	if err != nil {
		return nil, err
	}
	options, err := cassandraConfig(dir, jars, port, storage)
	return []string{java, "@" + options, "org.apache.cassandra.service.CassandraDaemon"}, err
}

// cassandraConfig fills the configuration files in and returns the path of the
// Java options.
func cassandraConfig(dir, jars string, port, storage int) (options string, err error) {
	t, err := template.ParseFS(cassandraFiles, "cassandra/cassandra.yaml", "cassandra/jvm.options", "cassandra/logback.xml")
	if err != nil {
		return "", err
	}
	values := struct {
		Dir, Jars     string
		Port, Storage int
	}{dir, jars, port, storage}
	for _, one := range t.Templates() {
		var filled bytes.Buffer
		if err := one.Execute(&filled, values); err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, one.Name()), filled.Bytes(), 0o644); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "jvm.options"), nil
}

// cassandraReady makes the keyspace that the address for tests names. The port
// opens before statements are answered.
func cassandraReady(ctx context.Context, port int) error {
	c := gocql.NewCluster("127.0.0.1")
	c.Port = port
	c.DisableInitialHostLookup = true
	c.Logger = silent{}
	db, err := c.CreateSession()
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Query(`CREATE KEYSPACE IF NOT EXISTS ` + cassandraKeyspace +
		` WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 1}`).WithContext(ctx).Exec()
}

// silent drops what the driver would log about a server that is not up yet.
type silent struct{}

func (silent) Print(...any)          {}
func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}

// installCassandra fetches the jars that the project file names.
func (p *place) installCassandra(ctx context.Context) (string, error) {
	pom, err := cassandraFiles.ReadFile("cassandra/pom.xml")
	if err != nil {
		return "", err
	}
	var project struct {
		Version string `xml:"dependencies>dependency>version"`
		Plugin  string `xml:"properties>copy"`
	}
	if err := xml.Unmarshal(pom, &project); err != nil {
		return "", err
	}
	return p.installed("cassandra-"+project.Version, func(target string) error {
		if _, err := exec.LookPath("mvn"); err != nil {
			return fmt.Errorf("missing: Maven, which fetches Cassandra's jars\n  install it with: %s", install("maven", "maven"))
		}
		_, err := p.output(ctx, "mvn", "--batch-mode", "--quiet", "--file", filepath.Join(p.root, "tools/services/cassandra/pom.xml"),
			project.Plugin, "-DincludeScope=runtime", "-DoutputDirectory="+target)
		return err
	})
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// java17 finds a Java 17: Cassandra 5.0 starts on 11 and 17 and on no later
// one, since it installs a security manager.
func java17() (string, error) {
	candidates := []string{"java"}
	if home := os.Getenv("JAVA_HOME"); home != "" {
		candidates = append(candidates, filepath.Join(home, "bin", "java"))
	}
	for _, pattern := range []string{
		"/usr/lib/jvm/*17*/bin/java",
		"/Library/Java/JavaVirtualMachines/*17*/Contents/Home/bin/java",
		"/opt/homebrew/opt/openjdk@17/bin/java",
	} {
		found, _ := filepath.Glob(pattern) // the patterns are well formed
		candidates = append(candidates, found...)
	}
	for _, java := range candidates {
		out, err := exec.CommandContext(context.Background(), java, "-version").CombinedOutput() //nolint:gosec // G204: one of the candidates above
		if m := javaVersion.FindSubmatch(out); err == nil && m != nil && string(m[1]) == strconv.Itoa(17) {
			return java, nil
		}
	}
	return "", fmt.Errorf("missing: Java 17, which runs Cassandra (looked at %s)\n  install it with: %s",
		strings.Join(candidates, ", "), install("openjdk-17-jre-headless", "openjdk@17"))
}

func install(debian, homebrew string) string {
	return "apt-get install " + debian + " (Debian) or brew install " + homebrew + " (macOS)"
}
