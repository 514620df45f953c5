// Package registry keeps the versions of models that clients bring: their files as
// objects, what is known of them, and how far each has come.
//
// A version is made of uploads: model.onnx, or graph.yaml for one that is made of
// others, and maybe a configuration, label files and a golden run. The digest over all its
// files is its identity: the same files again are the same version. Its number in its model
// means these files for ever: a ledger gives a number to one digest only (see Ledger).
//
// The gate of package onnx reads a model file before anything is kept. What
// passes is registered; a trial in a sandboxed child process, with the golden
// run, makes it validated or rejected; what is ready is served by every node.
//
// Versions belong to the platform, as models do: every tenant sees the same.
//
// Known limits: the model file is read into memory to be inspected; a version's
// files never change, so a mistake in one takes another version to mend.
package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// ID is the id of a version, mdv_…, which follows from the model's name and the
// version's number.
type ID string

// IDOf returns the id of a model's version.
func IDOf(model string, number int64) ID { return ID("mdv_" + name(model, itoa(number))) }

func name(model, what string) string {
	sum := sha256.Sum256([]byte(model + "\x00" + what))
	return hex.EncodeToString(sum[:16])
}

// Stage is how far a version has come.
type Stage string

// The stages. Deleted is no stage: what is deleted keeps its own, and can be
// restored until its objects are removed.
const (
	Registered Stage = "registered" // kept; its trial is to come
	Validated  Stage = "validated"  // tried; held back from nodes
	Ready      Stage = "ready"      // served by every node
	Rejected   Stage = "rejected"   // its trial failed; Problem says why
	Archived   Stage = "archived"   // was ready, and is served no more
)

// Version is one version of a model.
type Version struct {
	aggregate.Root[ID]
	Model  string `json:"model"`
	Number int64  `json:"number"`
	// Digest is the version's identity, see Digest; SHA256 is the model file's,
	// which predictions name.
	Digest string `json:"digest"`
	SHA256 string `json:"sha256"`
	Files  []File `json:"files"`

	Stage   Stage    `json:"stage"`
	Hold    bool     `json:"hold,omitempty"` // stay validated until somebody says ready
	Problem *Problem `json:"problem,omitempty"`
	Trial   *Trial   `json:"trial,omitempty"`
	Claim   Claim    `json:"claim,omitzero"`

	Inputs   []Port   `json:"inputs"` // as the model file has them; of a graph, as its models make them
	Outputs  []Port   `json:"outputs"`
	Warnings []string `json:"warnings,omitempty"`

	Notes
	Lineage Lineage   `json:"lineage,omitzero"`
	Members []Member  `json:"members,omitempty"` // of a graph
	ReadyAt time.Time `json:"ready_at,omitzero"`
	// Purge is when the objects of a deleted version may go; far in the future for
	// others.
	Purge time.Time `json:"purge"`
}

// Notes are what clients may change of a version at any time.
type Notes struct {
	Card    string             `json:"card,omitempty"` // Markdown
	Metrics map[string]float64 `json:"metrics,omitempty"`
	Labels  map[string]string  `json:"labels,omitempty"`
}

// Lineage says what a version was made from. Who registered it is its CreatedBy.
type Lineage struct {
	Data   []string `json:"data,omitempty"` // names or addresses of data sets
	Code   string   `json:"code,omitempty"` // a repository and commit, say
	Parent int64    `json:"parent,omitempty"`
	Author string   `json:"author,omitempty"`
}

// File is one file of a version.
type File struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	Object string `json:"object"` // its key
}

// Port is an input or output, with -1 for extents that vary.
type Port struct {
	Name     string       `json:"name"`
	Datatype string       `json:"datatype"`
	Shape    tensor.Shape `json:"shape"` // nil where the number of dimensions is not known
	Symbols  []string     `json:"symbols,omitempty"`
}

// Problem is why a version was rejected.
type Problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Trial is what the trial of a version found.
type Trial struct {
	Invariant  bool   `json:"invariant"`  // rows of different requests may share a run
	Invariance string `json:"invariance"` // how that was established, or why not
	Golden     bool   `json:"golden"`     // a golden run was given, and answered as it says
	Runtime    string `json:"runtime"`
}

// Claim is a process's on the trial of a version.
type Claim struct {
	By       string    `json:"by,omitempty"`
	Until    time.Time `json:"until,omitzero"`
	Attempts int       `json:"attempts,omitempty"` // begun so far
}

// Versions keeps them.
var Versions = repo.Kind[ID, Version]{
	Name: "model_versions", Root: func(v *Version) *aggregate.Root[ID] { return &v.Root },
	Columns: []spec.Column[Version]{selfField, modelField, numberField, stageField, digestField, sha256Field, createdField, purgeField, graphField, placeField},
}

var (
	selfField    = spec.TextField("self", func(v *Version) ID { return v.Root.ID })
	modelField   = spec.TextField("model", func(v *Version) string { return v.Model })
	numberField  = spec.IntField("number", func(v *Version) int64 { return v.Number })
	stageField   = spec.TextField("stage", func(v *Version) Stage { return v.Stage })
	digestField  = spec.TextField("digest", func(v *Version) string { return v.Digest })
	sha256Field  = spec.TextField("sha256", func(v *Version) string { return v.SHA256 })
	createdField = spec.TimeField("created", func(v *Version) time.Time { return v.Root.CreatedAt })
	graphField   = spec.BoolField("graph", (*Version).Graph)
	// placeField orders the versions of a model, whose name has no slash, by their number.
	placeField = spec.TextField("place", func(v *Version) string { return fmt.Sprintf("%s/%019d", v.Model, v.Number) })
	purgeField = spec.TimeField("purge", func(v *Version) time.Time { return v.Purge })
)

// never is the Purge of what is not deleted.
var never = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)

// File returns a file of the version, and whether it has one of the name.
func (v *Version) File(name string) (File, bool) {
	for _, f := range v.Files {
		if f.Name == name {
			return f, true
		}
	}
	return File{}, false
}

// Graph says whether the version is a graph of other models.
func (v *Version) Graph() bool { return v.Main().Name == GraphFile }

// Main returns the file that the version is: a model, or a graph.
func (v *Version) Main() File {
	for _, f := range v.Files {
		if isMain(f.Name) {
			return f
		}
	}
	return File{}
}

// Bytes returns how large all files are together.
func (v *Version) Bytes() (n int64) {
	for _, f := range v.Files {
		n += f.Bytes
	}
	return n
}

// Ledger has the numbers that versions of a model were given. It never forgets:
// what a prediction says of its version holds for ever.
type Ledger struct {
	aggregate.Root[LedgerID]
	Model   string           `json:"model"`
	Next    int64            `json:"next"`    // one more than the greatest number that was given
	Numbers map[string]int64 `json:"numbers"` // by digest
}

// LedgerID is the id of a ledger, mdl_…, which follows from the model's name.
type LedgerID string

// Ledgers keeps them.
var Ledgers = repo.Kind[LedgerID, Ledger]{
	Name: "model_ledgers", Root: func(l *Ledger) *aggregate.Root[LedgerID] { return &l.Root },
	Columns: []spec.Column[Ledger]{spec.TextField("model", func(l *Ledger) string { return l.Model })},
}

func ledgerID(model string) LedgerID { return LedgerID("mdl_" + name(model, "")) }

// MaxVersions is the most versions that a model may ever have here.
const MaxVersions = 10_000

// Give returns the number of a digest: the one that it has had before, else the
// wanted one, or the next that is free where wanted is 0. Taken says which numbers
// others have, such as those of a folder of models.
func (l *Ledger) Give(digest string, wanted int64, taken func(int64) bool) (int64, error) {
	if n, ok := l.Numbers[digest]; ok {
		if wanted != 0 && wanted != n {
			return 0, errExists(l.Model, n)
		}
		return n, nil
	}
	if len(l.Numbers) >= MaxVersions {
		return 0, fault.New(fault.Exhausted, "model %q has had %d versions, the most that there may be: register under another name", l.Model, MaxVersions).WithCode("too_many_versions")
	}
	n := wanted
	if n == 0 {
		for n = max(l.Next, 1); taken(n); n++ {
		}
	}
	for _, other := range l.Numbers {
		if other == n {
			return 0, errNumberTaken(l.Model, n, "other files in this registry")
		}
	}
	if taken(n) {
		return 0, errNumberTaken(l.Model, n, "a file of the model repository")
	}
	if l.Numbers == nil {
		l.Numbers = map[string]int64{}
	}
	l.Numbers[digest], l.Next = n, max(l.Next, n+1)
	return n, nil
}

func errExists(model string, n int64) error {
	return fault.New(fault.Conflict, "these files are version %d of model %q already: they cannot be another, too", n, model).WithCode("version_exists")
}

func errNumberTaken(model string, n int64, by string) error {
	return fault.New(fault.Conflict, "version %d of model %q is %s: choose another number, or leave it out for the next that is free", n, model, by).WithCode("version_number_taken")
}
