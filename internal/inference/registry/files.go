package registry

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sluice/internal/inference/model"
	"sluice/internal/inference/modelsign"
	"sluice/internal/platform/fault"
)

// The names of files that have a meaning. Any other is a label file that the
// configuration names.
const (
	ModelFile     = model.DefaultFilename
	GraphFile     = model.GraphFilename // instead of a model file
	ConfigYAML    = "config.yaml"
	ConfigPBText  = "config.pbtxt"
	GoldenInputs  = "golden_inputs.json"
	GoldenOutputs = "golden_outputs.json"
	SignatureFile = modelsign.Filename
)

// Limits of files beside the model file, in bytes, and of their number.
const (
	MaxFiles     = 20
	maxGraph     = 1 << 20
	maxConfig    = 256 << 10
	maxLabels    = 16 << 20
	maxGolden    = 8 << 20
	maxSignature = modelsign.MaxBytes
)

// fileName is what a file may be called: nothing that could lead out of a folder,
// and nothing that a shell or a terminal would take for more than a name.
var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// limit returns how large a file of the name may be.
func limit(name string, maxModel int64) int64 {
	switch name {
	case ModelFile:
		return maxModel
	case GraphFile:
		return maxGraph
	case ConfigYAML, ConfigPBText:
		return maxConfig
	case GoldenInputs, GoldenOutputs:
		return maxGolden
	case SignatureFile:
		return maxSignature
	}
	return maxLabels
}

// isMain reports whether a file of the name is a version's main file: a model or a graph.
func isMain(name string) bool { return name == ModelFile || name == GraphFile }

// checkNames returns what is wrong with the names of a version's files.
func checkNames(names []string) error {
	var wrong []fault.Detail
	add := func(i int, code, format string, args ...any) {
		wrong = append(wrong, fault.Detail{Pointer: "/files/" + strconv.Itoa(i) + "/name", Code: code, Message: fmt.Sprintf(format, args...)})
	}
	for i, n := range names {
		switch {
		case !fileName.MatchString(n):
			add(i, "file_name_invalid", "%.120q is no name of a file: expected 1 to 100 letters, digits and ._- without folders, the first a letter or digit", n)
		case slices.Contains(names[:i], n):
			add(i, "file_twice", "%q is there twice", n)
		case path.Ext(n) == ".onnx" && n != ModelFile:
			add(i, "file_unknown", "the model file is called %s, and there is one: external data is not taken", ModelFile)
		}
	}
	has := func(n string) bool { return slices.Contains(names, n) }
	if !has(ModelFile) && !has(GraphFile) {
		wrong = append(wrong, fault.Detail{Pointer: "/files", Code: "model_file_missing", Message: "none of the files is called " + ModelFile + ", or " + GraphFile})
	}
	if has(ModelFile) && has(GraphFile) {
		wrong = append(wrong, fault.Detail{Pointer: "/files", Code: "file_twice", Message: "there is a " + ModelFile + " and a " + GraphFile + ": a version is a model or a graph of others"})
	}
	if has(ConfigYAML) && has(ConfigPBText) {
		wrong = append(wrong, fault.Detail{Pointer: "/files", Code: "file_twice", Message: "there is a config.yaml and a config.pbtxt: send one"})
	}
	if has(GoldenInputs) != has(GoldenOutputs) {
		wrong = append(wrong, fault.Detail{Pointer: "/files", Code: "golden_incomplete", Message: "a golden run has golden_inputs.json and golden_outputs.json: send both or none"})
	}
	if len(wrong) == 0 {
		return nil
	}
	return fault.New(fault.Unprocessable, "%d things are wrong with the files: %s", len(wrong), wrong[0].Message).WithCode("version_files_invalid").WithDetails(wrong...)
}

// Digest returns the identity of a version with these files: SHA-256 over the lines that
// sha256sum prints for them, sorted by name in the order of bytes. In their folder that is
// sha256sum * | sha256sum, with LC_ALL=C. The signature does not count: with another it is
// still the same version.
func Digest(files []File) string {
	sorted := slices.SortedFunc(slices.Values(files), func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	var lines strings.Builder
	for _, f := range sorted {
		if f.Name != SignatureFile {
			fmt.Fprintf(&lines, "%s  %s\n", f.SHA256, f.Name)
		}
	}
	sum := sha256.Sum256([]byte(lines.String()))
	return hex.EncodeToString(sum[:])
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
