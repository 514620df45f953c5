package registry_test

import (
	"errors"
	"maps"
	"testing"
	"time"

	"sluice/internal/inference/registry"
)

// A signature is handed over with the digests of all other files, and its verdict is
// the version's.
func TestVerifyGetsFilesAndSignature(t *testing.T) {
	no := errors.New("no")
	files := []registry.File{{Name: "model.onnx", SHA256: "a"}, {Name: "config.yaml", SHA256: "b"}}
	read := func(f registry.File) ([]byte, error) { return []byte("the " + f.Name), nil }
	for _, signed := range []bool{true, false} {
		want := ""
		if signed {
			files, want = append(files, registry.File{Name: registry.SignatureFile, SHA256: "c"}), "the model.sig"
		} else {
			files = files[:2]
		}
		v := registry.Verify(func(model string, _ time.Time, signature []byte, digests map[string]string) error {
			if model != "m" || string(signature) != want || (signature == nil) == signed || !maps.Equal(digests, map[string]string{"model.onnx": "a", "config.yaml": "b"}) {
				t.Errorf("%s, %q, %v", model, signature, digests)
			}
			return no
		})
		if err := v.Files("m", time.Time{}, files, read); !errors.Is(err, no) {
			t.Errorf("%v", err)
		}
	}
	if err := registry.Verify(nil).Files("m", time.Time{}, files, nil); err != nil {
		t.Errorf("without a policy: %v", err)
	}
}
