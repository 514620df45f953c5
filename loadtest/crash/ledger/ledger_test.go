package ledger

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.jsonl")
	l := &Ledger{Run: Run{7, 3, 10, 9}, Hooked: "acme", Jobs: []Job{
		{Kind: Plain, Tenant: "acme", Key: "k", Model: "iris", Input: json.RawMessage(`[1]`), ID: "pred_1", Told: []string{"succeeded"}, Output: json.RawMessage(`{"outputs":[]}`)},
		{Kind: Poison, Tenant: "acme", Key: "l", Input: json.RawMessage(`[2]`), Deadline: true},
	}, Hooks: []Hook{{"evt_1", "prediction.succeeded", "pred_1", 3, time.Unix(1, 0).UTC()}}}
	if err := l.Write(path); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(path); err != nil || !reflect.DeepEqual(got, l) {
		t.Errorf("%+v, %v; expected %+v", got, err, l)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string][]byte{"half of it": data[:len(data)/3], "nothing": nil} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(path); err == nil {
			t.Errorf("%s is read as %+v", what, got)
		}
	}
}
