package node

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice/internal/platform/config"
	"sluice/internal/platform/fault"
)

func TestCalling(t *testing.T) {
	got, err := calling(config.Webhook{Ports: []string{"8443"}, Allow: []string{"10.1.0.0/16", "fd00::/8"}, Timeout: time.Second})
	if err != nil || got.Timeout != time.Second || len(got.Egress.Ports) != 1 || got.Egress.Ports[0] != 8443 || len(got.Egress.Allow) != 2 || got.Roots != nil {
		t.Errorf("%+v, %v", got, err)
	}
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []config.Webhook{
		{Ports: []string{"0"}}, {Ports: []string{"https"}}, {Ports: []string{"70000"}}, {Allow: []string{"10.1.2.3"}}, {Allow: []string{"10.1.2.3/8"}}, {CA: empty}, {CA: empty + "x"},
	} {
		if _, err := calling(c); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
