// Package overlay changes sources of this module at build time, for `go build
// -overlay`: defects, points where a process may be killed and shorter leases are
// in the programs that are hurt, and in no other.
package overlay

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Overlay is a set of changed files. Changes of one file add up.
type Overlay struct {
	root  string
	files map[string]string // absolute path -> text
}

// New returns an overlay of the module in a folder that changes nothing.
func New(root string) (*Overlay, error) {
	root, err := filepath.Abs(root)
	return &Overlay{root, map[string]string{}}, err
}

// Clone returns an overlay of its own with the same changes.
func (o *Overlay) Clone() *Overlay {
	c := &Overlay{o.root, map[string]string{}}
	for path, text := range o.files {
		c.files[path] = text
	}
	return c
}

func (o *Overlay) read(path string) (string, error) {
	if text, ok := o.files[path]; ok {
		return text, nil
	}
	data, err := os.ReadFile(path)
	return string(data), err
}

// Replace replaces a text that the file has once; all other numbers are errors,
// since the change would not be the one that was meant.
func (o *Overlay) Replace(file, from, to string) error {
	path := filepath.Join(o.root, file)
	text, err := o.read(path)
	if err != nil {
		return err
	}
	if n := strings.Count(text, from); n != 1 {
		return fmt.Errorf("%s has %d places of %q: write the change anew", file, n, from)
	}
	o.files[path] = strings.Replace(text, from, to, 1)
	return nil
}

// Add adds a file.
func (o *Overlay) Add(file, text string) { o.files[filepath.Join(o.root, file)] = text }

// Begin has a function of the package in a folder begin with a statement. A
// method is named Type.method.
func (o *Overlay) Begin(dir, function, statement string) error {
	paths, err := o.sources(dir)
	if err != nil {
		return err
	}
	for _, path := range paths {
		text, err := o.read(path)
		if err != nil {
			return err
		}
		at, err := bodyOf(text, function)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if at > 0 {
			o.files[path] = text[:at] + statement + "; " + text[at:]
			return nil
		}
	}
	return fmt.Errorf("%s has no function %s: write the change anew", dir, function)
}

// sources are the files of a package, without tests.
func (o *Overlay) sources(dir string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(o.root, dir, "*.go"))
	return slices.DeleteFunc(paths, func(path string) bool { return strings.HasSuffix(path, "_test.go") }), err
}

// bodyOf returns where a function's body begins, or 0.
func bodyOf(text, function string) (int, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "", text, parser.SkipObjectResolution)
	if err != nil {
		return 0, err
	}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil && nameOf(f) == function {
			return set.Position(f.Body.Lbrace).Offset + 1, nil
		}
	}
	return 0, nil
}

func nameOf(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	t := f.Recv.List[0].Type
	if s, ok := t.(*ast.StarExpr); ok {
		t = s.X
	}
	if g, ok := t.(*ast.IndexExpr); ok {
		t = g.X
	}
	if i, ok := t.(*ast.Ident); ok {
		return i.Name + "." + f.Name.Name
	}
	return ""
}

// Package returns the name of the package in a folder.
func (o *Overlay) Package(dir string) (string, error) {
	paths, err := o.sources(dir)
	if err != nil || len(paths) == 0 {
		return "", fmt.Errorf("%s holds no package: %w", dir, err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), paths[0], nil, parser.PackageClauseOnly)
	if err != nil {
		return "", err
	}
	return file.Name.Name, nil
}

// Write writes the changed files and the list of them into a folder, and returns
// the list's path, for -overlay.
func (o *Overlay) Write(dir string) (string, error) {
	replaced := map[string]string{}
	for path, text := range o.files {
		to := filepath.Join(dir, fmt.Sprintf("%d.go", len(replaced)))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return "", err
		}
		replaced[path] = to
	}
	data, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	return list, os.WriteFile(list, data, 0o600)
}
