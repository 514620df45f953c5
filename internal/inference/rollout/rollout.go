// Package rollout says which versions of models serve whom, and keeps how that
// came about: aliases, the experiments and releases that divide an alias's
// requests among versions, and who changed what when.
//
// Everything here is event-sourced and belongs to the platform, as models do. A
// Follower on each node makes a routing table of it (package route) and swaps it
// whole, within a second of any change and between two requests.
//
// An alias is divided by one experiment or release at a time, which holds it: nobody
// else changes it meanwhile. The alias and its holder are separate aggregates, changed
// one after the other, since some stores change one at a time; the Driver mends what a
// crash leaves between the two.
//
// Known limit: models that keep state, or answer step by step, have aliases, but
// are not divided: a sequence's steps would meet different versions.
package rollout

import (
	"strconv"

	"sluice/internal/inference/model"
	"sluice/internal/platform/access"
)

// The permissions of rollouts.
const (
	Read    access.Permission = "rollouts:read"
	Write   access.Permission = "rollouts:write"
	Approve access.Permission = "rollouts:approve"
)

// Permissions declares them.
func Permissions() []access.Declaration {
	return []access.Declaration{
		{Permission: Read, About: "see which versions of models serve whom, and how that came about", Roles: []string{access.Viewer, access.Operator, access.MLEngineer, access.Analyst}},
		{Permission: Write, About: "change aliases, experiments and releases of models", Roles: []string{access.Operator, access.MLEngineer}},
		{Permission: Approve, About: "approve changes that others have asked for", Roles: []string{access.Operator, access.MLEngineer}},
	}
}

// Artifact is a version of a model that can serve.
type Artifact struct {
	Version   int64
	Digest    string // SHA-256 of its file, hex
	Signature model.Signature
	// Steps says that it keeps state or answers step by step.
	Steps bool
	Graph bool // it is a graph of models
}

// Catalog knows which versions can serve.
type Catalog interface {
	// Find returns a version by its number in decimal. Where there is no such model it fails
	// with fault.NotFound and the code "model_not_found"; where the model has no such version,
	// with another code or with fault.Unavailable.
	Find(model, version string) (Artifact, error)
}

// find returns the version of a number.
func find(c Catalog, model string, version int64) (Artifact, error) {
	text := strconv.FormatInt(version, 10)
	a, err := c.Find(model, text)
	if err != nil {
		err = missing(model, text, err)
	}
	return a, err
}
