package modelrepo

import (
	"cmp"
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sluice/internal/inference/model"
	"sluice/internal/platform/fault"
)

// Override replaces parts of a model for one load, as the load API's "config"
// and "file:…" parameters do. It lives in memory only.
type Override struct {
	// Config is a Triton ModelConfig in JSON that replaces the repository's
	// whole configuration, but for the version labels; empty keeps it.
	Config string
	// Files replace all of the model's files, by path in its folder:
	// "1/model.onnx", "labels.txt". They need a Config. The entry keeps them.
	Files map[string][]byte
}

// Overlay returns the model as Find does, with parts replaced. With Files the
// model need not be in the repository.
func (r *Repo) Overlay(ctx context.Context, name string, o Override) (Entry, error) {
	if o.Config == "" && len(o.Files) == 0 {
		return r.Find(ctx, name)
	}
	if o.Config == "" {
		return Entry{}, fault.New(fault.Invalid, "Load parameter 'config' must be specified for model file override")
	}
	if err := cmp.Or(ctx.Err(), model.ValidName(name)); err != nil {
		return Entry{}, err
	}
	cfg, err := model.ParseTritonJSON([]byte(o.Config), "config override")
	if err == nil {
		cfg, err = named(cfg, name)
	}
	if err != nil {
		return Entry{}, err
	}
	dir := filepath.Join(r.dir, name)
	marks := &marks{}
	marks.add("override", digest([]byte(o.Config)))
	if kept, err := r.config(dir, name, marks); err == nil {
		cfg.Labels = kept.Labels
	}
	e := Entry{Name: name, Config: cfg}
	if len(o.Files) > 0 {
		err = r.overlayFiles(&e, o.Files, marks)
	} else if err = r.holds(name); err == nil {
		err = r.overlayDisk(&e, dir, marks)
	}
	if err == nil {
		err = e.choose()
	}
	if err != nil {
		return Entry{}, err
	}
	e.Fingerprint = marks.sum()
	return e, nil
}

// overlayDisk takes labels and versions from the model's folder.
func (r *Repo) overlayDisk(e *Entry, dir string, m *marks) (err error) {
	if err := r.labels(&e.Config, r.labelFiles(dir, m)); err != nil {
		return err
	}
	e.Versions, err = r.versions(dir, e.Config.Filename, m)
	return err
}

// overlayFiles takes labels and versions from memory. Every file must be one
// that is used.
func (r *Repo) overlayFiles(e *Entry, files map[string][]byte, m *marks) error {
	used := map[string]bool{}
	for path, data := range files {
		folder, file, _ := strings.Cut(path, "/")
		number, ok := versionNumber(folder)
		if !ok || file != e.Config.Filename && file != model.GraphFilename {
			continue
		}
		if int64(len(data)) > r.limits.ModelBytes {
			return fault.New(fault.TooLarge, "file %q has %d bytes; at most %d are allowed", path, len(data), r.limits.ModelBytes)
		}
		if _, twice := files[folder+"/"+model.GraphFilename]; twice && file != model.GraphFilename {
			return fault.New(fault.Invalid, "file %q is there beside %q: leave one out", path, folder+"/"+model.GraphFilename)
		}
		used[path] = true
		e.Versions = append(e.Versions, Version{Number: number, Size: int64(len(data)), Fingerprint: digest(data), Graph: file == model.GraphFilename, data: data})
	}
	slices.SortFunc(e.Versions, func(a, b Version) int { return cmp.Compare(a.Number, b.Number) })
	for _, v := range e.Versions {
		m.add(strconv.FormatInt(v.Number, 10), v.Fingerprint)
	}
	err := r.labels(&e.Config, func(name string) ([]byte, bool, error) {
		data, found := files[name]
		used[name] = true
		m.add(name, digest(data))
		if int64(len(data)) > r.limits.LabelBytes {
			return nil, found, fault.New(fault.TooLarge, "file %q has %d bytes; at most %d are allowed", name, len(data), r.limits.LabelBytes)
		}
		return data, found, nil
	})
	if err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if !used[path] {
			return fault.New(fault.Invalid, "file %.200q is not part of model %q: expected \"<version>/%s\" or a label file that the config names", path, e.Name, e.Config.Filename)
		}
	}
	return nil
}
