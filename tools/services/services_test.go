//go:build services

package main

import (
	"bytes"
	"context"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gocql/gocql"
	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// address reads a variable that `make test-services` sets.
func address(t *testing.T, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s is not set: run `make test-services`, or `make services` and `eval \"$(bin/services env)\"`", name)
	}
	return v
}

// disturb runs the command as tests in other packages do.
func disturb(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), address(t, "SLUICE_TEST_SERVICES"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("services %v: %v\n%s", args, err, out)
	}
}

// A replicated stream goes on without one of its nodes, whichever way it goes.
func TestClusterOutlivesOneNode(t *testing.T) {
	// By default a client takes four minutes to notice that its node is frozen.
	nc, err := nats.Connect(address(t, "SLUICE_TEST_NATS_URL"), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.PingInterval(500*time.Millisecond), nats.MaxPingsOutstanding(2))
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "outlives", Subjects: []string{"outlives"}, Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		disturb(t, "start") // whatever the test left stopped or frozen
		_ = js.DeleteStream(context.Background(), "outlives")
		nc.Close()
	})

	var acknowledged []string
	publish := func(when string) {
		t.Helper()
		// Between two leaders nobody acknowledges; the next try may.
		for {
			try, done := context.WithTimeout(ctx, 2*time.Second)
			_, err := js.Publish(try, "outlives", []byte(when), jetstream.WithMsgID(when))
			done()
			if err == nil {
				acknowledged = append(acknowledged, when)
				return
			}
			if ctx.Err() != nil {
				t.Fatalf("%s: %v", when, err)
			}
		}
	}
	publish("before")
	for _, end := range [][2]string{{"pause", "resume"}, {"stop", "start"}, {"kill", "start"}} {
		info, err := stream.Info(ctx)
		if err != nil {
			t.Fatal(err)
		}
		leader := info.Cluster.Leader
		disturb(t, end[0], leader)
		publish("after " + end[0])
		disturb(t, end[1], leader)
		publish("after " + end[0] + " and " + end[1])
	}
	if diff := cmp.Diff(acknowledged, stored(t, stream)); diff != "" {
		t.Errorf("acknowledged and stored messages differ (-acknowledged +stored):\n%s", diff)
	}
}

// stored returns what a stream holds, in order. A message that comes twice is
// counted once: where a leader freezes between taking a message and
// acknowledging it, the repetition under the same id has been seen to be stored
// again, so whoever reads a stream must bear that.
func stored(t *testing.T, stream jetstream.Stream) []string {
	t.Helper()
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatalf("message %d: %v", seq, err)
		}
		if !slices.Contains(out, string(m.Data)) {
			out = append(out, string(m.Data))
		}
	}
	return out
}

func TestObjectsAreKept(t *testing.T) {
	u, err := url.Parse(address(t, "SLUICE_TEST_S3_URL"))
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := u.User.Password()
	c, err := minio.New(u.Host, &minio.Options{
		Creds:        credentials.NewStaticV4(u.User.Username(), secret, ""),
		Secure:       u.Query().Get("insecure") != "true",
		BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, bucket, want := t.Context(), path.Base(u.Path), []byte("kept")
	if _, err := c.PutObject(ctx, bucket, "kept", bytes.NewReader(want), int64(len(want)), minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	disturb(t, "kill", "minio")
	disturb(t, "start", "minio")
	o, err := c.GetObject(ctx, bucket, "kept", minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if got, err := io.ReadAll(o); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %q, %v; expected %q", got, err, want)
	}
}

// What the adapter stands on: a conditional batch in one partition, and that
// what it acknowledged is there after a kill.
func TestConditionalBatchIsKept(t *testing.T) {
	u, err := url.Parse(address(t, "SLUICE_TEST_CQL_URL"))
	if err != nil {
		t.Fatal(err)
	}
	open := func() *gocql.Session {
		t.Helper()
		c := gocql.NewCluster(u.Host)
		c.Keyspace = strings.TrimPrefix(u.Path, "/")
		c.Timeout = 20 * time.Second
		db, err := c.CreateSession()
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	exec := func(db *gocql.Session, statement string) {
		t.Helper()
		if err := db.Query(statement).Exec(); err != nil {
			t.Fatal(err)
		}
	}
	db := open()
	exec(db, `DROP TABLE IF EXISTS services_kept`)
	exec(db, `CREATE TABLE services_kept (id text, kind text, seq int, version int STATIC, PRIMARY KEY (id, kind, seq))`)
	add := func(seq int, condition string) bool {
		t.Helper()
		b := db.Batch(gocql.LoggedBatch)
		b.Query(condition, seq, "a")
		b.Query(`INSERT INTO services_kept (id, kind, seq) VALUES ('a', 'out', ?)`, seq)
		applied, rest, err := db.MapExecuteBatchCAS(b, map[string]any{})
		if err != nil {
			t.Fatal(err)
		}
		if rest != nil {
			_ = rest.Close()
		}
		return applied
	}
	if !add(1, `UPDATE services_kept SET version = ? WHERE id = ? IF version = null`) {
		t.Error("the first version was refused")
	}
	if add(2, `UPDATE services_kept SET version = ? WHERE id = ? IF version = 7`) {
		t.Error("a wrong version was accepted")
	}
	db.Close()
	disturb(t, "kill", "cassandra")
	disturb(t, "start", "cassandra")
	db = open()
	defer db.Close()
	var version, rows int
	if err := db.Query(`SELECT max(version), count(*) FROM services_kept WHERE id = 'a'`).Scan(&version, &rows); err != nil {
		t.Fatal(err)
	}
	if version != 1 || rows != 1 {
		t.Errorf("after a kill: version %d and %d rows, expected 1 and 1", version, rows)
	}
	exec(db, `DROP TABLE services_kept`)
}
