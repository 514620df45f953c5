package main

import (
	"os"
	"path/filepath"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"go.yaml.in/yaml/v4"
)

// Servers that acknowledge before the data is on disk would pass every test and
// teach nothing about production.

func TestNATSSyncsBeforeItAcknowledges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nats.conf")
	routes := []string{"nats://127.0.0.1:3", "nats://127.0.0.1:4"}
	config := natsConfig("nats-1", "nats://127.0.0.1:2", routes[0], routes, "/d")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	o, err := natsserver.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !o.SyncAlways || !o.JetStream || o.StoreDir != "/d/data" {
		t.Errorf("sync always %v, JetStream %v, in %q", o.SyncAlways, o.JetStream, o.StoreDir)
	}
	if o.Host != "127.0.0.1" || o.Port != 2 || o.Cluster.Host != "127.0.0.1" || o.Cluster.Port != 3 || len(o.Routes) != 2 {
		t.Errorf("listens at %s:%d and %s:%d with %d routes", o.Host, o.Port, o.Cluster.Host, o.Cluster.Port, len(o.Routes))
	}
}

func TestCassandraSyncsBeforeItAcknowledges(t *testing.T) {
	dir := t.TempDir()
	if _, err := cassandraConfig(dir, "/jars", 2, 3); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "cassandra.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Sync   string `yaml:"commitlog_sync"`
		Listen string `yaml:"listen_address"`
		RPC    string `yaml:"rpc_address"`
		CQL    int    `yaml:"native_transport_port"`
	}
	if err := yaml.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	if c.Sync != "batch" || c.Listen != "127.0.0.1" || c.RPC != "127.0.0.1" || c.CQL != 2 {
		t.Errorf("cassandra.yaml says %+v", c)
	}
}
