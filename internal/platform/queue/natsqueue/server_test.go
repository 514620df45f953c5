package natsqueue

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// listen runs a server with a port on loopback.
func listen(t testing.TB, with func(*server.Options)) *server.Server {
	t.Helper()
	o := &server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, NoSigs: true, NoLog: true, DisableJetStreamBanner: true}
	with(o)
	if o.StoreDir == "" {
		o.StoreDir = t.TempDir()
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the test's server did not start")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

func connect(t testing.TB, cfg Config) *Queue {
	t.Helper()
	q, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return q
}

// healthy waits for the first connection.
func healthy(t testing.TB, q *Queue) (err error) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = q.Healthy(t.Context()); err == nil {
			return nil
		}
	}
	return err
}

func TestLoginByUserAndToken(t *testing.T) {
	byUser := listen(t, func(o *server.Options) { o.Username, o.Password = "u", "p" })
	byToken := listen(t, func(o *server.Options) { o.Authorization = "secret" })
	for _, cfg := range []Config{
		{URLs: []string{byUser.ClientURL()}, Login: Login{User: "u", Password: "p"}},
		{URLs: []string{byToken.ClientURL()}, Login: Login{Token: "secret"}},
	} {
		if err := healthy(t, connect(t, cfg)); err != nil {
			t.Errorf("%v", err)
		}
	}
	q := connect(t, Config{URLs: []string{byUser.ClientURL()}, Login: Login{User: "u", Password: "wrong"}})
	if err := q.Healthy(t.Context()); fault.CodeOf(err) != "queue_unavailable" || strings.Contains(err.Error(), "wrong") {
		t.Errorf("with a wrong password: %v", err)
	}
}

func TestTLSChecksBothSides(t *testing.T) {
	dir := t.TempDir()
	cert, key := selfSigned(t, dir, "server")
	clientCert, clientKey := selfSigned(t, dir, "client")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	raw, _ := os.ReadFile(clientCert)
	clients.AppendCertsFromPEM(raw)
	s := listen(t, func(o *server.Options) {
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
		o.TLSTimeout = 5
	})
	url := []string{strings.Replace(s.ClientURL(), "nats://", "tls://", 1)}
	good := connect(t, Config{URLs: url, TLS: TLS{CA: cert, Cert: clientCert, Key: clientKey}})
	if err := healthy(t, good); err != nil {
		t.Errorf("with the right certificates: %v", err)
	}
	for name, bad := range map[string]TLS{
		"no client certificate": {CA: cert},
		"another authority":     {CA: clientCert, Cert: clientCert, Key: clientKey},
	} {
		q := connect(t, Config{URLs: url, TLS: bad})
		time.Sleep(300 * time.Millisecond) // for several attempts
		if q.Healthy(t.Context()) == nil {
			t.Errorf("%s: connected", name)
		}
	}
}

// selfSigned writes a certificate for loopback and its key.
func selfSigned(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(suffix, kind string, b []byte) string {
		path := filepath.Join(dir, name+suffix)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write(".crt", "CERTIFICATE", der), write(".key", "PRIVATE KEY", raw)
}

func TestWrongConfigurations(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	url := []string{"nats://127.0.0.1:1"}
	for name, cfg := range map[string]Config{
		"no server":          {},
		"two servers":        {URLs: url, Server: &Server{}},
		"not a URL":          {URLs: []string{"nats://a b"}},
		"no CA file":         {URLs: url, TLS: TLS{CA: missing}},
		"an empty CA file":   {URLs: url, TLS: TLS{CA: empty}},
		"a cert, no key":     {URLs: url, TLS: TLS{Cert: empty}},
		"no credentials":     {URLs: url, Login: Login{Credentials: missing}},
		"no nkey":            {URLs: url, Login: Login{NKeySeed: missing}},
		"two ways to log in": {URLs: url, Login: Login{User: "u", Token: "t"}},
	} {
		q, err := Open(cfg)
		if err == nil {
			q.Close()
			t.Errorf("%s: opened", name)
		} else if fault.CodeOf(err) != "queue_config_invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, cfg := range map[string]ServerConfig{"negative": {Sync: -1}, "small": {MaxMessage: 100}, "large": {MaxMessage: 9 << 20}} {
		if _, err := Start(t.Context(), t.TempDir(), cfg); fault.CodeOf(err) != "queue_config_invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Start(t.Context(), filepath.Join(empty, "below-a-file"), ServerConfig{}); fault.CodeOf(err) != "queue_start_failed" && fault.CodeOf(err) != "queue_config_invalid" {
		t.Errorf("a folder that cannot be: %v", err)
	}
}

// A server that cannot be reached is no error at the start: Healthy tells, and
// requests fail with a type and within their time.
func TestServerThatIsAway(t *testing.T) {
	q := connect(t, Config{URLs: []string{"nats://127.0.0.1:1"}, Timeout: time.Second})
	unavailable := func(what string, err error) {
		t.Helper()
		if fault.CodeOf(err) != "queue_unavailable" || fault.Of(err).RetryAfter <= 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
	unavailable("Healthy", q.Healthy(t.Context()))
	began := time.Now()
	unavailable("Publish", q.Publish(t.Context(), queue.Message{ID: "m", Subject: "s"}))
	if took := time.Since(began); took > time.Second {
		t.Errorf("Publish took %s to fail", took)
	}
	_, err := q.Bounds(t.Context(), "S")
	unavailable("Bounds", err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := q.Ensure(ctx, queue.Stream{Name: "S", Subjects: []string{"s"}}); err == nil {
		t.Error("Ensure succeeded")
	}
	if err := q.Consume(ctx, queue.Consumer{Name: "c", Stream: "S", Concurrency: 1}, nil); err != nil {
		t.Errorf("a consumer waits for its server, and ended with %v", err)
	}
}

// Streams reserve their room: a server that has less says which stream, how much and what
// to set, and not that the queue is full, which would pass.
func TestServerWithoutRoomForAStream(t *testing.T) {
	s, err := Start(t.Context(), t.TempDir(), ServerConfig{MaxStore: 96 << 20})
	if err != nil {
		t.Fatal(err)
	}
	q := connect(t, Config{Server: s})
	t.Cleanup(func() { end(t, s, q) })
	err = q.Ensure(t.Context(), queue.Stream{Name: "LARGE", Subjects: []string{"large.>"}, MaxBytes: 64 << 20})
	for _, part := range []string{"LARGE_DEAD", "64 MiB", "max_file_store", "nats.max_store"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
	if fault.CodeOf(err) != "queue_full" {
		t.Errorf("the code is %s", fault.CodeOf(err))
	}
}

// A server that the disk failed starts again once the disk takes writes. Clients
// and consumers go on by themselves, and nothing is lost.
func TestServerStartsAgainAfterTheDiskFailed(t *testing.T) {
	folder := t.TempDir()
	s, err := Start(t.Context(), folder, ServerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	q := connect(t, Config{Server: s})
	if err := q.Ensure(t.Context(), queue.Stream{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 2)
	ctx, stop := context.WithCancel(t.Context())
	consumed := make(chan error, 1)
	go func() {
		consumed <- q.Consume(ctx, queue.Consumer{Name: "c", Stream: "S"}, func(_ context.Context, d queue.Delivery) error {
			got <- d.ID
			return nil
		})
	}()
	defer func() {
		stop()
		if err := <-consumed; err != nil {
			t.Error(err)
		}
	}()
	if err := q.Publish(t.Context(), queue.Message{ID: "m1", Subject: "s.a"}); err != nil {
		t.Fatal(err)
	}
	if id := <-got; id != "m1" {
		t.Error(id)
	}
	obstacle := filepath.Join(folder, "writable") // no file can be made where a folder is
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	first := s.server
	logger{s.cfg.Log, s.failed}.Errorf("JetStream stream '%s' critical write error: %v", "S", "no space left on device")
	time.Sleep(2 * tryInterval)
	if err := q.Healthy(t.Context()); fault.CodeOf(err) != "queue_full" {
		t.Errorf("with a disk that takes no writes: %v", err)
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	if err := healthy(t, q); err != nil {
		t.Fatal(err)
	}
	s.mu.RLock()
	if s.server == first {
		t.Error("it is healthy without having started again")
	}
	s.mu.RUnlock()
	for end := time.Now().Add(10 * time.Second); ; {
		err := q.Publish(t.Context(), queue.Message{ID: "m2", Subject: "s.a"})
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	select {
	case id := <-got:
		if id != "m2" {
			t.Errorf("delivered %s", id)
		}
	case <-time.After(45 * time.Second):
		t.Error("the consumer did not go on")
	}
	if b, err := q.Bounds(t.Context(), "S"); err != nil || b.Last != 2 {
		t.Errorf("the stream has %+v, %v", b, err)
	}
}
