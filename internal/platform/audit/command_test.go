package audit

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/internal/platform/fault"
)

func TestVerifyCommand(t *testing.T) {
	folder, home := t.TempDir(), t.TempDir()
	k, w := newTestKey(t), newTestWitness(t, "w")
	l := open(t, openFolder(t, folder), k, Config{})
	mustAppend(t, l, entriesFrom(0, 300))
	keyFile, saved := filepath.Join(home, "key"), filepath.Join(home, "saved")
	if err := os.WriteFile(keyFile, []byte(k.Public().String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(wantCode, wantText string, args ...string) string {
		t.Helper()
		var out strings.Builder
		err := VerifyCommand(t.Context(), args, &out)
		if codeOf(err) != wantCode || !strings.Contains(out.String(), wantText) {
			t.Errorf("%v: error is %v, want the code %q; printed is %s", args, err, wantCode, out.String())
		}
		return out.String()
	}
	run("", "VERIFIED", "-key", keyFile, "-save", saved, folder)
	run("", "nothing shows", "-key", k.Public().String(), folder)
	mustAppend(t, l, entriesFrom(300, 10))
	run("", "compared   with 1", "-key", keyFile, "-saved", saved, "-save", saved, folder)
	if got, err := os.ReadFile(saved); err != nil || string(got) != string(l.Checkpoint()) {
		t.Errorf("saved is %q, %v", got, err)
	}
	var r Report
	if err := json.Unmarshal([]byte(run("", "{", "--json", "-key", keyFile, folder)), &r); err != nil || r.Size != 310 || !r.OK() {
		t.Errorf("JSON is %+v, %v", r, err)
	}

	run("audit_not_verified", "witness", "-key", keyFile, "-witness", w.Public().String(), folder)
	run("audit_not_verified", "NOT VERIFIED", "-key", newTestKey(t).Public().String(), folder)
	if err := os.Remove(filepath.Join(folder, "tile/entries/000")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(saved); err != nil {
		t.Fatal(err)
	}
	run("audit_not_verified", "PROBLEM    entry: tile/entries/000", "-key", keyFile, "-save", saved, folder)
	run("audit_not_verified", `"code": "entry"`, "-json", "-key", keyFile, folder)
	if _, err := os.Stat(saved); err == nil {
		t.Error("the checkpoint of a copy that does not verify was saved")
	}

	run("", "usage", "-help")
	run("invalid", "usage")
	run("invalid", "usage", folder)
	run("invalid", "", "-key", "no key", folder)
	run("invalid", "", "-key", k.Private(), folder)
	run("invalid", "", "-saved", filepath.Join(home, "absent"), "-key", keyFile, folder)
	run("invalid", "", "-quorum", "3", "-key", keyFile, folder)
	if err := VerifyCommand(t.Context(), []string{"-key", k.Private(), folder}, new(strings.Builder)); strings.Contains(fault.Of(err).Message, k.Private()) {
		t.Error("the message holds the private key")
	}
}
