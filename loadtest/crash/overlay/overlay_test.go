package overlay

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// module writes a module with one program.
func module(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":       "module example\n\ngo 1.26\n",
		"main.go":      "package main\n\ntype T[A any] struct{}\n\nfunc (t *T[A]) say(a A) { println(a) }\n\nfunc main() {\n\tnew(T[string]).say(\"one\")\n}\n",
		"main_test.go": "package main\n\nfunc other() {}\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// What is built has the changes, and the sources have not.
func TestChangesAreBuiltIn(t *testing.T) {
	root := module(t)
	o, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Replace("main.go", `"one"`, `"two"`); err != nil {
		t.Fatal(err)
	}
	kept := o.Clone()
	for function, statement := range map[string]string{"main": `defer more("end")`, "T.say": `more("begin")`} {
		if err := o.Begin(".", function, statement); err != nil {
			t.Fatal(err)
		}
	}
	name, err := o.Package(".")
	if err != nil || name != "main" {
		t.Fatal(name, err)
	}
	o.Add("more.go", "package "+name+"\n\nfunc more(s string) { println(s) }\n")
	for want, overlay := range map[string]*Overlay{"begin two end": o, "two": kept} {
		if got := output(t, root, overlay); got != want {
			t.Errorf("it says %q, expected %q", got, want)
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "main.go"))
	if err != nil || !strings.Contains(string(text), `"one"`) {
		t.Errorf("%s %v", text, err)
	}
}

func output(t *testing.T, root string, o *Overlay) string {
	t.Helper()
	list, err := o.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", "-overlay", list, ".")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v", out, err)
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

// A change that has no place, or several, is an error: nothing would be tested.
func TestChangesWithoutAPlace(t *testing.T) {
	o, err := New(module(t))
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"no place": o.Replace("main.go", "absent", ""), "two places": o.Replace("main.go", "say", ""), "no file": o.Replace("absent.go", "", ""),
		"no function": o.Begin(".", "absent", ""), "a test's function": o.Begin(".", "other", ""), "a function without its type": o.Begin(".", "say", ""),
	} {
		if err == nil {
			t.Errorf("%s is no error", what)
		}
	}
}
