package mtls

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
)

var epoch = time.Unix(1_700_000_000, 0)

func testRoles(t *testing.T) *access.Roles {
	t.Helper()
	c, err := access.NewCatalog(
		access.Declaration{Permission: "jobs:read", Roles: []string{access.Operator}},
		access.Declaration{Permission: "jobs:run", Roles: []string{access.Operator}},
	)
	if err != nil {
		t.Fatal(err)
	}
	r, err := access.NewRoles(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// certificate is what the TLS stack hands over; only fields that count are set.
func certificate(t *testing.T, name string, uris ...string) [][]*x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		Subject:   pkix.Name{CommonName: name, Organization: []string{"Acme"}},
		NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.Add(time.Hour),
	}
	for _, text := range uris {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		c.URIs = append(c.URIs, u)
	}
	return [][]*x509.Certificate{{c}}
}

func TestPeersAreMapped(t *testing.T) {
	m, err := New(testRoles(t), func() time.Time { return epoch },
		Rule{SPIFFE: "spiffe://prod.example/worker", Tenant: "exact", Roles: []string{access.Operator}, Scopes: []access.Permission{"jobs:read"}},
		Rule{SPIFFE: "spiffe://prod.example/ns/*", Tenant: "below", Roles: []string{access.Operator}},
		Rule{Subject: "CN=worker,O=Acme", Tenant: "subject"},
	)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		chains       [][]*x509.Certificate
		tenant, code string
	}{
		"exact":              {certificate(t, "", "spiffe://prod.example/worker"), "exact", ""},
		"below":              {certificate(t, "", "spiffe://prod.example/ns/a/b"), "below", ""},
		"subject":            {certificate(t, "worker"), "subject", ""},
		"other URI":          {certificate(t, "worker", "https://x.example"), "subject", ""},
		"none":               {nil, "", "certificate_unverified"},
		"empty chain":        {[][]*x509.Certificate{{}}, "", "certificate_unverified"},
		"other path":         {certificate(t, "", "spiffe://prod.example/worker2"), "", "certificate_unknown"},
		"deeper than exact":  {certificate(t, "", "spiffe://prod.example/worker/x"), "", "certificate_unknown"},
		"the prefix itself":  {certificate(t, "", "spiffe://prod.example/ns"), "", "certificate_unknown"},
		"other domain":       {certificate(t, "", "spiffe://test.example/worker"), "", "certificate_unknown"},
		"domain in path":     {certificate(t, "", "spiffe://evil.example/prod.example/worker"), "", "certificate_unknown"},
		"path that climbs":   {certificate(t, "", "spiffe://prod.example/ns/../worker"), "", "certificate_malformed"},
		"escaped path":       {certificate(t, "", "spiffe://prod.example/ns/%2e%2e/worker"), "", "certificate_malformed"},
		"empty step":         {certificate(t, "", "spiffe://prod.example/ns//a"), "", "certificate_malformed"},
		"port":               {certificate(t, "", "spiffe://prod.example:80/worker"), "", "certificate_malformed"},
		"query":              {certificate(t, "", "spiffe://prod.example/worker?x=1"), "", "certificate_malformed"},
		"two ids":            {certificate(t, "", "spiffe://prod.example/x", "spiffe://prod.example/worker"), "", "certificate_malformed"},
		"id and another URI": {certificate(t, "", "spiffe://prod.example/worker", "https://x.example"), "", "certificate_malformed"},
		"subject of an id":   {certificate(t, "worker", "spiffe://prod.example/x"), "", "certificate_unknown"},
		"subject in another": {certificate(t, "worker,O=Acme"), "", "certificate_unknown"},
		"id as subject":      {certificate(t, "spiffe://prod.example/worker"), "", "certificate_unknown"},
		"nameless":           {[][]*x509.Certificate{{{NotAfter: epoch.Add(time.Hour)}}}, "", "certificate_unknown"},
	} {
		p, err := m.Map(c.chains)
		if c.code != "" {
			if p != nil || fault.CodeOf(err) != c.code || !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("%s: %v, %v, expected %s", name, p, err, c.code)
			}
			continue
		}
		if err != nil || p.Tenant != c.tenant || p.Kind != access.KindService || p.Method != access.MethodPeer || !p.Expires.Equal(epoch.Add(time.Hour)) {
			t.Errorf("%s: %+v, %v", name, p, err)
			continue
		}
		if !strings.HasPrefix(p.Subject, "svc_") || len(p.Subject) != 30 {
			t.Errorf("%s: subject %q", name, p.Subject)
		}
		if want := (c.tenant == "below"); p.Can("jobs:run") != want || p.Can("jobs:read") != (c.tenant != "subject") {
			t.Errorf("%s: may do %v", name, p.Permissions.List())
		}
	}
}

// A connection may outlive the certificate that it was made with.
func TestCertificatesExpireWhileConnected(t *testing.T) {
	now := epoch
	m, err := New(testRoles(t), func() time.Time { return now }, Rule{Subject: "CN=worker,O=Acme", Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	for after, good := range map[time.Duration]bool{-2 * time.Hour: false, 0: true, time.Hour - 1: true, time.Hour: false} {
		now = epoch.Add(after)
		if _, err := m.Map(certificate(t, "worker")); (err == nil) != good || err != nil && fault.CodeOf(err) != "certificate_expired" {
			t.Errorf("after %s: %v", after, err)
		}
	}
}

func TestWrongRulesAreRefused(t *testing.T) {
	for name, r := range map[string]Rule{
		"nothing":            {Tenant: "acme"},
		"both":               {SPIFFE: "spiffe://a/b", Subject: "CN=x", Tenant: "acme"},
		"no tenant":          {Subject: "CN=x"},
		"unknown role":       {Subject: "CN=x", Tenant: "acme", Roles: []string{"boss"}},
		"other scheme":       {SPIFFE: "https://a/b", Tenant: "acme"},
		"no domain":          {SPIFFE: "spiffe:///b", Tenant: "acme"},
		"a star in the path": {SPIFFE: "spiffe://a/*/b", Tenant: "acme"},
		"half a step":        {SPIFFE: "spiffe://a/b*", Tenant: "acme"},
		"every domain":       {SPIFFE: "spiffe://*", Tenant: "acme"},
	} {
		if _, err := New(testRoles(t), time.Now, r); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(testRoles(t), time.Now); !fault.Is(err, fault.Invalid) {
		t.Errorf("no rule: %v", err)
	}
}
