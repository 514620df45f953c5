package modelsign

import (
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"slices"
	"strings"
)

// maxResources is how many files a manifest may list.
const maxResources = 10_000

type resource struct {
	Name      string `json:"name"`
	Digest    string `json:"digest"`
	Algorithm string `json:"algorithm"`
}

// manifest is what was signed: the files, sorted by name.
type manifest struct {
	resources []resource
	ignored   []string
}

// parseManifest reads a verified statement (OMS 1.0, sections 5 and 8.3).
func parseManifest(payload []byte) (*manifest, error) {
	var s struct {
		Type          string `json:"_type"`
		PredicateType string `json:"predicateType"`
		Predicate     struct {
			Resources     []resource `json:"resources"`
			Serialization struct {
				Method   string   `json:"method"`
				HashType string   `json:"hash_type"`
				Symlinks bool     `json:"allow_symlinks"`
				Ignore   []string `json:"ignore_paths"`
			} `json:"serialization"`
		} `json:"predicate"`
	}
	if err := json.Unmarshal(payload, &s); err != nil {
		return nil, problem(CodeInvalid, "what is signed is no statement: %.200s", err)
	}
	how, files := &s.Predicate.Serialization, s.Predicate.Resources
	switch {
	case s.Type != "https://in-toto.io/Statement/v1":
		return nil, problem(CodeUnsupported, "what is signed must be an in-toto statement v1, got %.80q", s.Type)
	case s.PredicateType != "https://model_signing/signature/v1.0":
		return nil, problem(CodeUnsupported, "the statement must be about a model (https://model_signing/signature/v1.0), got %.80q", s.PredicateType)
	case how.Method != "files":
		return nil, problem(CodeUnsupported, "only whole files are verified here, got the method %.80q", how.Method)
	case how.HashType != "sha256":
		return nil, problem(CodeUnsupported, "only SHA-256 is verified here, got digests by %.80q", how.HashType)
	case len(files) == 0 || len(files) > maxResources:
		return nil, problem(CodeInvalid, "it must be about 1 to %d files, got %d", maxResources, len(files))
	}
	for i, r := range files {
		switch digest, err := hex.DecodeString(r.Digest); {
		case !validPath(r.Name):
			return nil, problem(CodeInvalid, "file %d has the name %.120q, which is no path below the model's folder", i, r.Name)
		case i > 0 && files[i-1].Name >= r.Name:
			return nil, problem(CodeInvalid, "file %.120q is there twice, or out of order", r.Name)
		case r.Algorithm != "sha256":
			return nil, problem(CodeUnsupported, "only SHA-256 is verified here, got the digest of %.120q by %.80q", r.Name, r.Algorithm)
		case err != nil || len(digest) != 32 || strings.ToLower(r.Digest) != r.Digest:
			return nil, problem(CodeInvalid, "the digest of %.120q is not 64 lower-case hexadecimal digits", r.Name)
		}
	}
	for _, path := range how.Ignore {
		if !validPath(path) || strings.ContainsAny(path, "*?[") {
			return nil, problem(CodeInvalid, "it ignores %.120q, which is no path below the model's folder", path)
		}
	}
	return &manifest{files, append(how.Ignore, ".git", ".gitignore", ".gitattributes", ".github")}, nil
}

// validPath reports whether a name is a canonical path (OMS 1.0, section 6.1.2).
func validPath(name string) bool {
	return name != "." && fs.ValidPath(name) && !strings.ContainsAny(name, "\\\x00")
}

func (m *manifest) has(name string) bool {
	_, found := slices.BinarySearchFunc(m.resources, name, func(r resource, name string) int { return strings.Compare(r.Name, name) })
	return found
}

// ignores reports whether the signer has left a file out by name, or its folder.
func (m *manifest) ignores(name string) bool {
	return slices.ContainsFunc(m.ignored, func(path string) bool { return name == path || strings.HasPrefix(name, path+"/") })
}
