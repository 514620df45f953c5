// Package modelrepo reads a model repository on disk:
//
//	<repository>/<name>/config.yaml           optional; or config.pbtxt, as for Triton
//	<repository>/<name>/<version>/model.onnx  version: a positive decimal
//	<repository>/<name>/<version>/graph.yaml  instead: a model made of others
//
// Folders that start with "_" or "." and plain files beside the models are
// left alone. Symbolic links are followed wherever they lead: whoever writes
// the repository decides what is served, and deployments swap versions by
// swapping links. A model that cannot be served is an Entry with an error; it
// never hides the others.
package modelrepo

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sluice/internal/inference/model"
	"sluice/internal/platform/fault"
)

// Limits bound what is read. Zero values mean the ones named here.
type Limits struct {
	Models     int   // folders in the repository; 10 000
	Versions   int   // folders in a model's; 10 000
	ModelBytes int64 // size of a model file; 4 GiB
	LabelBytes int64 // size of a label file; 16 MiB
}

func (l Limits) withDefaults() (Limits, error) {
	if l.Models < 0 || l.Versions < 0 || l.ModelBytes < 0 || l.LabelBytes < 0 {
		return l, fault.New(fault.Invalid, "repository limits must not be negative, got %+v", l)
	}
	if l.Models == 0 {
		l.Models = 10_000
	}
	if l.Versions == 0 {
		l.Versions = 10_000
	}
	if l.ModelBytes == 0 {
		l.ModelBytes = 4 << 30
	}
	if l.LabelBytes == 0 {
		l.LabelBytes = 16 << 20
	}
	return l, nil
}

// Repo is a model repository. It holds no state of the disk: every call looks
// anew, and calls may be concurrent.
type Repo struct {
	dir    string
	limits Limits
}

// Open returns the repository in a folder, which must exist.
func Open(dir string, l Limits) (*Repo, error) {
	l, err := l.withDefaults()
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "model repository %s cannot be opened", dir)
	}
	if !info.IsDir() {
		return nil, fault.New(fault.Invalid, "model repository %s is not a folder", dir)
	}
	return &Repo{dir: dir, limits: l}, nil
}

// Entry is one model of the repository.
type Entry struct {
	Name string
	// Config is as written, before Resolve; its Name is set.
	Config model.Config
	// Versions are those with a model file, ascending.
	Versions []Version
	// Chosen are the numbers of the versions to serve, ascending: never empty
	// where Err is nil.
	Chosen []int64
	// Fingerprint changes when the configuration, a label file or a model file
	// does, as far as size, time and inode tell.
	Fingerprint string
	// Warnings name what is odd about the files, beside Config.Warnings.
	Warnings []string
	// Err says why the model cannot be served.
	Err error
}

// Version is one version of a model.
type Version struct {
	Number int64
	Path   string // of the model file; empty for one held in memory
	Size   int64
	Graph  bool // the file is a graph of other models, see model.ParseGraph
	// Fingerprint changes when the file does.
	Fingerprint string

	data []byte // in memory, from an Override
}

// Scan returns every model of the repository, sorted by name. It fails only
// where the repository itself cannot be read.
func (r *Repo) Scan(ctx context.Context) ([]Entry, error) {
	dirs, err := r.folders(r.dir, r.limits.Models)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, name := range dirs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		entries = append(entries, r.entry(name))
	}
	return entries, nil
}

// Find returns one model of the repository. It fails with fault.NotFound where
// there is none, and with the entry's own error where it cannot be served.
func (r *Repo) Find(ctx context.Context, name string) (Entry, error) {
	if err := ctx.Err(); err != nil {
		return Entry{}, err
	}
	if err := model.ValidName(name); err != nil {
		return Entry{}, err
	}
	if err := r.holds(name); err != nil {
		return Entry{}, err
	}
	e := r.entry(name)
	return e, e.Err
}

// holds returns an error unless there is a folder of the name.
func (r *Repo) holds(name string) error {
	info, err := os.Stat(filepath.Join(r.dir, name))
	if err != nil || !info.IsDir() {
		return fault.New(fault.NotFound, "model %q is not in the repository", name)
	}
	return nil
}

// show returns a path as messages show it: from the repository on, since
// clients need not know where that is.
func (r *Repo) show(path string) string {
	if rel, err := filepath.Rel(r.dir, path); err == nil && rel != "." {
		return rel
	}
	return "the model repository"
}

// folders lists the folders in dir, links to folders included, without those
// that start with "_" or ".".
func (r *Repo) folders(dir string, limit int) ([]string, error) {
	children, err := os.ReadDir(dir)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "%s cannot be listed", r.show(dir))
	}
	var names []string
	for _, c := range children {
		if strings.HasPrefix(c.Name(), "_") || strings.HasPrefix(c.Name(), ".") || !isFolder(dir, c) {
			continue
		}
		if names = append(names, c.Name()); len(names) > limit {
			return nil, fault.New(fault.TooLarge, "%s has more than %d folders", r.show(dir), limit)
		}
	}
	return names, nil
}

func isFolder(dir string, c os.DirEntry) bool {
	if c.Type()&os.ModeSymlink == 0 {
		return c.IsDir()
	}
	info, err := os.Stat(filepath.Join(dir, c.Name()))
	return err == nil && info.IsDir()
}

// entry reads everything about one model but its model files.
func (r *Repo) entry(name string) Entry {
	e := Entry{Name: name}
	marks := &marks{}
	e.Err = r.fill(&e, marks)
	if e.Err != nil {
		e.Chosen = nil
		marks.add("error", e.Err.Error())
	}
	e.Fingerprint = marks.sum()
	return e
}

func (r *Repo) fill(e *Entry, m *marks) error {
	if err := model.ValidName(e.Name); err != nil {
		return err
	}
	dir := filepath.Join(r.dir, e.Name)
	cfg, err := r.config(dir, e.Name, m)
	if err != nil {
		return err
	}
	e.Config = cfg
	if err := r.labels(&e.Config, r.labelFiles(dir, m)); err != nil {
		return err
	}
	if e.Versions, err = r.versions(dir, e.Config.Filename, m); err != nil {
		return err
	}
	return e.choose()
}

// choose applies the version policy.
func (e *Entry) choose() error {
	available := make([]int64, len(e.Versions))
	for i, v := range e.Versions {
		available[i] = v.Number
	}
	e.Chosen = e.Config.Policy.Choose(available)
	for _, want := range e.Config.Policy.Specific {
		if !slices.Contains(e.Chosen, want) {
			return fault.New(fault.NotFound, "model %q: version %d of its version policy is not in the repository, which has %v", e.Name, want, available)
		}
	}
	if len(e.Chosen) == 0 {
		return fault.New(fault.NotFound, "model %q has no version: expected %s or %s", e.Name,
			filepath.Join(e.Name, "1", e.Config.Filename), filepath.Join(e.Name, "1", model.GraphFilename))
	}
	for _, label := range slices.Sorted(maps.Keys(e.Config.Labels)) {
		if version := e.Config.Labels[label]; !slices.Contains(e.Chosen, version) {
			e.Warnings = append(e.Warnings,
				fmt.Sprintf("%s: label %q names version %d, which is not served", e.Config.Source, label, version))
		}
	}
	return nil
}
