package registryhttp

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sluice/internal/inference/registry"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/api"
)

func TestNumber(t *testing.T) {
	if n, err := number("12"); err != nil || n != 12 {
		t.Errorf("%d %v", n, err)
	}
	for _, text := range []string{"", "0", "-1", "+1", "01", "1.0", "1e3", "latest", "9223372036854775808", "１"} {
		if n, err := number(text); !fault.Is(err, fault.NotFound) {
			t.Errorf("%q is %d, %v", text, n, err)
		}
	}
}

func TestExpected(t *testing.T) {
	if _, _, err := expected("1", api.IfMatch{}); err == nil {
		t.Error("no If-Match is taken")
	}
	_, expect, err := expected("1", api.IfMatch{IfMatch: `"3"`})
	if err != nil || expect(3) != nil || !fault.Is(expect(4), fault.PreconditionFailed) {
		t.Errorf("%v, %v, %v", err, expect(3), expect(4))
	}
}

// Lists and maps are never null, names are escaped, and nobody sees objects' keys.
func TestView(t *testing.T) {
	e := &edge{prefix: "/v1"}
	v := &registry.Version{Model: "a b?", Number: 7, Files: []registry.File{{Name: "model.onnx", Object: "_platform/models/secret"}}, Inputs: []registry.Port{}, Outputs: []registry.Port{}, Purge: time.Now()}
	data, err := json.Marshal(e.view(v))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, never := range []string{"null", "secret", "purge_at"} {
		if strings.Contains(text, never) {
			t.Errorf("%s shows %s", text, never)
		}
	}
	if !strings.Contains(text, `"/v1/models/a%20b%3F/versions/7"`) {
		t.Errorf("%s has no address", text)
	}
}
