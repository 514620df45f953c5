package mtls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
)

// authority issues certificates for one hour around now.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{}
	made := a.issue(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	cert, err := x509.ParseCertificate(made.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, made.PrivateKey.(*ecdsa.PrivateKey)}
}

// issue signs the certificate; an authority without one signs its own.
func (a authority) issue(t *testing.T, c *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(1), pkix.Name{CommonName: "test"}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// handshake returns what the server learns of a client with the certificate.
func (a authority) handshake(t *testing.T, auth tls.ClientAuthType, client tls.Certificate) (tls.ConnectionState, error) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	server := a.issue(t, &x509.Certificate{DNSNames: []string{"server"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	s := tls.Server(here, &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: auth, ClientCAs: pool, MinVersion: tls.VersionTLS13})
	c := tls.Client(there, &tls.Config{Certificates: []tls.Certificate{client}, RootCAs: pool, ServerName: "server", MinVersion: tls.VersionTLS13})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c.HandshakeContext(t.Context()) == nil {
			_, _ = c.Read(make([]byte, 1)) // takes the session tickets, or the alert
		}
	}()
	err := s.HandshakeContext(t.Context())
	state := s.ConnectionState()
	here.Close()
	<-done
	return state, err
}

// What the TLS stack hands over is what the mapper reads, and a certificate that
// it did not verify is nobody's.
func TestRealHandshakes(t *testing.T) {
	m, err := New(testRoles(t), time.Now, Rule{SPIFFE: "spiffe://prod.example/worker", Tenant: "acme", Roles: []string{access.Operator}})
	if err != nil {
		t.Fatal(err)
	}
	own, foreign := newAuthority(t), newAuthority(t)
	worker := &url.URL{Scheme: "spiffe", Host: "prod.example", Path: "/worker"}
	leaf := func(a authority, usage x509.ExtKeyUsage) tls.Certificate {
		return a.issue(t, &x509.Certificate{URIs: []*url.URL{worker}, ExtKeyUsage: []x509.ExtKeyUsage{usage}})
	}

	state, err := own.handshake(t, tls.RequireAndVerifyClientCert, leaf(own, x509.ExtKeyUsageClientAuth))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := m.Map(state.VerifiedChains); err != nil || p.Tenant != "acme" || !p.Can("jobs:run") {
		t.Errorf("%+v, %v", p, err)
	}
	for name, c := range map[string]tls.Certificate{
		"foreign authority": leaf(foreign, x509.ExtKeyUsageClientAuth),
		"server's use":      leaf(own, x509.ExtKeyUsageServerAuth),
	} {
		if _, err := own.handshake(t, tls.RequireAndVerifyClientCert, c); err == nil {
			t.Errorf("%s: the handshake succeeded", name)
		}
		// A server that asks but does not verify learns a name, not who it is.
		state, err := own.handshake(t, tls.RequireAnyClientCert, c)
		if err != nil || len(state.PeerCertificates) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		if p, err := m.Map(state.VerifiedChains); fault.CodeOf(err) != "certificate_unverified" {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}
