package modelrepo

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"sluice/internal/inference/model"
	"sluice/internal/inference/modelsign"
	"sluice/internal/platform/fault"
)

// maxConfigBytes is above what the parsers accept, so that they word the refusal.
const maxConfigBytes = 2 << 20

// marks gathers what a fingerprint depends on.
type marks struct{ b strings.Builder }

func (m *marks) add(what, mark string) { fmt.Fprintf(&m.b, "%q %q\n", what, mark) }

func (m *marks) sum() string { return digest([]byte(m.b.String())) }

func digest(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:16])
}

// stamp tells two states of a file apart without reading it.
func stamp(info fs.FileInfo) string {
	inode := uint64(0)
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = s.Ino
	}
	return fmt.Sprintf("%d-%d-%d", info.Size(), info.ModTime().UnixNano(), inode)
}

// config reads the model's configuration file; there may be none.
func (r *Repo) config(dir, name string, m *marks) (model.Config, error) {
	yaml, yamlInfo, err := r.readSmall(filepath.Join(dir, "config.yaml"), maxConfigBytes)
	if err != nil {
		return model.Config{}, err
	}
	pbtxt, pbtxtInfo, err := r.readSmall(filepath.Join(dir, "config.pbtxt"), maxConfigBytes)
	if err != nil {
		return model.Config{}, err
	}
	var cfg model.Config
	switch {
	case yamlInfo != nil && pbtxtInfo != nil:
		m.add("config", stamp(yamlInfo)+stamp(pbtxtInfo))
		return cfg, fault.New(fault.Invalid, "model %q has both config.yaml and config.pbtxt: remove one", name)
	case yamlInfo != nil:
		m.add("config.yaml", stamp(yamlInfo))
		cfg, err = model.ParseYAML(yaml, filepath.Join(name, "config.yaml"))
	case pbtxtInfo != nil:
		m.add("config.pbtxt", stamp(pbtxtInfo))
		cfg, err = model.ParsePBText(pbtxt, filepath.Join(name, "config.pbtxt"))
	}
	if err != nil {
		return model.Config{}, err
	}
	return named(cfg, name)
}

// named sets the folder's name, which a configured one must equal.
func named(cfg model.Config, name string) (model.Config, error) {
	if cfg.Name != "" && cfg.Name != name {
		return model.Config{}, fault.New(fault.Invalid, "%s: name: must be %q, as the model's folder is called, got %q", cfg.Source, name, cfg.Name)
	}
	cfg.Name = name
	if cfg.Filename == "" {
		cfg.Filename = model.DefaultFilename
	}
	return cfg, nil
}

// readSmall reads a whole file of limited size; info is nil where there is none.
func (r *Repo) readSmall(path string, limit int64) (data []byte, info fs.FileInfo, err error) {
	info, err = os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, nil
	case err != nil:
		return nil, nil, fault.Wrap(fault.Unavailable, err, "%s cannot be read", r.show(path))
	case !info.Mode().IsRegular(): // a pipe would block
		return nil, nil, fault.New(fault.Invalid, "%s is not a regular file", r.show(path))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Unavailable, err, "%s cannot be read", r.show(path))
	}
	defer f.Close()
	data, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, nil, fault.Wrap(fault.Unavailable, err, "%s cannot be read", r.show(path))
	}
	if int64(len(data)) > limit {
		return nil, nil, fault.New(fault.TooLarge, "%s has more than %d bytes", r.show(path), limit)
	}
	return data, info, nil
}

// labelFiles returns a reader of label files beside the configuration.
func (r *Repo) labelFiles(dir string, m *marks) func(name string) ([]byte, bool, error) {
	return func(name string) ([]byte, bool, error) {
		data, info, err := r.readSmall(filepath.Join(dir, name), r.limits.LabelBytes)
		if info != nil {
			m.add(name, stamp(info))
		}
		return data, info != nil, err
	}
}

// labels loads the class labels that outputs name files for.
func (r *Repo) labels(cfg *model.Config, read func(string) ([]byte, bool, error)) error {
	for i := range cfg.Outputs {
		out := &cfg.Outputs[i]
		if out.LabelFile == "" {
			continue
		}
		data, found, err := read(out.LabelFile)
		if err != nil {
			return err
		}
		if !found {
			return fault.New(fault.NotFound, "%s: output %q: label file %q is not beside the configuration", cfg.Source, out.Name, out.LabelFile)
		}
		if !utf8.Valid(data) {
			return fault.New(fault.Invalid, "%s: output %q: label file %q is not UTF-8 text", cfg.Source, out.Name, out.LabelFile)
		}
		out.Labels = model.LabelLines(string(data))
	}
	return nil
}

// versions lists the versions that have a model file. One whose file is not
// there yet is still being uploaded and does not count.
func (r *Repo) versions(dir, filename string, m *marks) ([]Version, error) {
	folders, err := r.folders(dir, r.limits.Versions)
	if err != nil {
		return nil, err
	}
	var out []Version
	for _, folder := range folders {
		number, ok := versionNumber(folder)
		if !ok {
			continue
		}
		v, there, err := r.version(filepath.Join(dir, folder), filename)
		if err != nil {
			return nil, err
		}
		if there {
			v.Number = number
			m.add(folder, v.Fingerprint)
			if info, err := os.Stat(filepath.Join(dir, folder, modelsign.Filename)); err == nil {
				m.add(folder+" signature", stamp(info))
			}
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b Version) int { return cmp.Compare(a.Number, b.Number) })
	return out, nil
}

// version looks for the model file of a version, or its graph.
func (r *Repo) version(dir, filename string) (v Version, there bool, err error) {
	for _, name := range []string{filename, model.GraphFilename} {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return v, false, fault.Wrap(fault.Unavailable, err, "%s cannot be read", r.show(path))
		case !info.Mode().IsRegular():
			return v, false, fault.New(fault.Invalid, "%s is not a regular file: models are single files without external data", r.show(path))
		case there && name != filename:
			return v, false, fault.New(fault.Invalid, "%s is there beside %s: remove one", r.show(path), filename)
		}
		v, there = Version{Path: path, Size: info.Size(), Fingerprint: stamp(info), Graph: name == model.GraphFilename}, true
	}
	return v, there, nil
}

// versionNumber parses a positive decimal without sign or leading zeros.
func versionNumber(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n > 0 && s[0] != '+' && s[0] != '0'
}
