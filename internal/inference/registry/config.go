package registry

import (
	"slices"
	"unicode/utf8"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// ReadConfig reads the configuration among a version's files, with the class labels that it
// names. Without one it returns a configuration with nothing but the model's name. It fails
// with fault.Unprocessable where the configuration cannot be used, and as read does.
func ReadConfig(name string, files []File, read func(File) ([]byte, error)) (model.Config, error) {
	main := ModelFile
	if slices.ContainsFunc(files, func(f File) bool { return f.Name == GraphFile }) {
		main = GraphFile
	}
	cfg := model.Config{Name: name, Filename: main}
	used := []string{main, GoldenInputs, GoldenOutputs, SignatureFile}
	for _, f := range files {
		parse := map[string]func([]byte, string) (model.Config, error){ConfigYAML: model.ParseYAML, ConfigPBText: model.ParsePBText}[f.Name]
		if parse == nil {
			continue
		}
		used = append(used, f.Name)
		data, err := read(f)
		if err != nil {
			return cfg, err
		}
		if cfg, err = parse(data, f.Name); err != nil {
			return cfg, badConfig(err)
		}
	}
	switch {
	case cfg.Name != "" && cfg.Name != name:
		return cfg, badConfig(fault.New(fault.Invalid, "%s: name: must be %q, the model that the version is of, got %.80q", cfg.Source, name, cfg.Name))
	case cfg.Filename != "" && cfg.Filename != main:
		return cfg, badConfig(fault.New(fault.Invalid, "%s: filename: the version's own file is called %s, got %.80q", cfg.Source, main, cfg.Filename))
	}
	cfg.Name, cfg.Filename = name, main
	for i := range cfg.Outputs {
		out := &cfg.Outputs[i]
		if out.LabelFile == "" {
			continue
		}
		used = append(used, out.LabelFile)
		at := slices.IndexFunc(files, func(f File) bool { return f.Name == out.LabelFile })
		if at < 0 {
			return cfg, badConfig(fault.New(fault.NotFound, "%s: output %q: label file %.80q is not among the files", cfg.Source, out.Name, out.LabelFile))
		}
		data, err := read(files[at])
		if err != nil {
			return cfg, err
		}
		if !utf8.Valid(data) {
			return cfg, badConfig(fault.New(fault.Invalid, "label file %q is not UTF-8 text", out.LabelFile))
		}
		out.Labels = model.LabelLines(string(data))
	}
	for _, f := range files {
		if !slices.Contains(used, f.Name) {
			return cfg, fault.New(fault.Unprocessable, "file %q is not used: expected %s, a configuration, a golden run, or a label file that the configuration names", f.Name, main).WithCode("version_files_invalid")
		}
	}
	return model.Versioned(cfg), nil
}

func badConfig(err error) error {
	return fault.Wrap(fault.Unprocessable, err, "%s", fault.Of(err).Message).WithCode("model_config_invalid")
}

// ports returns ports as a version keeps them.
func ports(in []model.Port) []Port {
	out := make([]Port, len(in))
	for i, p := range in {
		out[i] = Port{p.Name, p.Datatype.String(), p.Shape, p.Symbols}
	}
	return out
}

// Signature returns what the model file takes and gives, as the gate has read it.
func (v *Version) Signature() (s model.Signature, err error) {
	if s.Inputs, err = modelPorts(v.Inputs); err == nil {
		s.Outputs, err = modelPorts(v.Outputs)
	}
	return s, err
}

func modelPorts(in []Port) ([]model.Port, error) {
	out := make([]model.Port, len(in))
	for i, p := range in {
		d, err := tensor.Parse(p.Datatype)
		if err != nil {
			return nil, err
		}
		out[i] = model.Port{Name: p.Name, Datatype: d, Shape: p.Shape, Symbols: p.Symbols}
	}
	return out, nil
}
