package oip

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"sluice/internal/inference/model"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// platformONNX is Triton's name of what every model here is.
const platformONNX = "onnxruntime_onnx"

// Extensions returns the protocol's extensions that the server offers.
func Extensions() []string {
	return []string{
		"classification", "sequence", "model_repository", "model_configuration",
		"binary_tensor_data", "parameters", "statistics", "generate",
	}
}

func (a *rest) serverMetadata(c echo.Context) error {
	return writeJSON(c, struct {
		Name       string   `json:"name"`
		Version    string   `json:"version"`
		Extensions []string `json:"extensions"`
	}{a.config.ServerName, a.config.ServerVersion, Extensions()})
}

func (a *rest) live(c echo.Context) error { return writeHealth(c, true, `{"live":true}`) }

func (a *rest) ready(c echo.Context) error {
	if a.models.Ready() {
		return writeHealth(c, true, `{"ready":true}`)
	}
	return writeHealth(c, false, `{"ready":false}`)
}

// writeHealth answers 200 for yes and 400 for no, as clients expect; they do
// not read the body.
func writeHealth(c echo.Context, yes bool, body string) error {
	status := http.StatusOK
	if !yes {
		status = http.StatusBadRequest
	}
	c.Response().Header()["Content-Type"] = jsonContent
	c.Response().WriteHeader(status)
	_, err := c.Response().Write([]byte(body))
	return err
}

func (a *rest) modelReady(c echo.Context) error {
	name, version := target(c)
	if _, err := a.models.Lookup(name, version); err != nil {
		return fault.Wrap(fault.Invalid, err, "Model version not ready")
	}
	return writeJSON(c, struct {
		Name  string `json:"name"`
		Ready bool   `json:"ready"`
	}{name, true})
}

// tensorMetadata is one input or output in the model metadata.
type tensorMetadata struct {
	Name     string       `json:"name"`
	Datatype string       `json:"datatype"`
	Shape    tensor.Shape `json:"shape"`
}

// modelMetadata lists all live versions, or the one that the path names.
func (a *rest) modelMetadata(c echo.Context) error {
	name, version := target(c)
	v, err := a.models.Lookup(name, version)
	if err != nil {
		return err
	}
	versions := []*serve.Version{v}
	if version == "" {
		if versions, err = a.models.Versions(name); err != nil {
			return err
		}
	}
	texts := make([]string, len(versions))
	for i, v := range versions {
		texts[i] = v.Text
	}
	platform := v.Config.Platform
	if platform == "" {
		platform = platformONNX
	}
	return writeJSON(c, struct {
		Name       string            `json:"name"`
		Versions   []string          `json:"versions"`
		Platform   string            `json:"platform"`
		Inputs     []tensorMetadata  `json:"inputs"`
		Outputs    []tensorMetadata  `json:"outputs"`
		Properties map[string]string `json:"properties"`
	}{v.Name, texts, platform, describe(v.Signature.Inputs), describe(v.Signature.Outputs), Properties(v)})
}

func describe(ports []model.Port) []tensorMetadata {
	list := make([]tensorMetadata, len(ports))
	for i, p := range ports {
		list[i] = tensorMetadata{p.Name, p.Datatype.String(), append(tensor.Shape{}, p.Shape...)}
	}
	return list
}

// Properties says what else a client may want to know of a version: which file
// answers ("sha256"), whether answers may be computed in one run with those of
// other requests ("batching"), and why ("batch_invariance").
func Properties(v *serve.Version) map[string]string {
	p := map[string]string{"sha256": v.SHA256, "batching": "none"}
	switch {
	case v.Batches && v.CrossRequest:
		p["batching"] = "across requests"
	case v.Batches:
		p["batching"] = "within one request"
	}
	if v.Invariance != "" {
		p["batch_invariance"] = v.Invariance
	}
	return p
}

func (a *rest) modelConfig(c echo.Context) error {
	v, err := a.models.Lookup(target(c))
	if err != nil {
		return err
	}
	config := v.Config
	// Its dynamic_batching tells clients that requests share runs.
	config.NoBatching = config.NoBatching || !v.CrossRequest
	c.Response().Header()["Content-Type"] = jsonContent
	c.Response().WriteHeader(http.StatusOK)
	_, err = c.Response().Write(config.TritonJSON(v.Signature))
	return err
}
