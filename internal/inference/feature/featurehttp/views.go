package featurehttp

import (
	"context"
	"encoding/json"
	"time"

	"sluice/internal/inference/feature"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/resource"
)

// Feature is one of the values of a view's rows.
type Feature struct {
	Name     string          `json:"name" minLength:"1" maxLength:"64"`
	Datatype string          `json:"datatype" enum:"BOOL,INT8,INT16,INT32,INT64,UINT8,UINT16,UINT32,UINT64,FP32,FP64,BYTES"`
	Shape    []int64         `json:"shape,omitempty" maxItems:"8" doc:"Of lists; one value without it."`
	Default  json.RawMessage `json:"default,omitempty" doc:"Stands for what is missing or too old, a value or a list of values."`
	MaxAge   string          `json:"max_age,omitempty" maxLength:"20" doc:"How long after its event time a value counts, such as 24h; for ever without it."`
}

// NewView is what makes a view.
type NewView struct {
	Name        string    `json:"name" minLength:"1" maxLength:"64" doc:"Names the view, in the configurations of models too."`
	Description string    `json:"description,omitempty" maxLength:"500"`
	Features    []Feature `json:"features" minItems:"1" maxItems:"256"`
	Keep        string    `json:"keep,omitempty" maxLength:"20" doc:"How long after its event time a row is kept; 2160h without it."`
}

// ViewChange is what changes one; what is left out stays.
type ViewChange struct {
	Description *string   `json:"description,omitempty" maxLength:"500"`
	Features    []Feature `json:"features,omitempty" maxItems:"256" doc:"All of them. One keeps its datatype and shape."`
	Keep        *string   `json:"keep,omitempty" maxLength:"20" doc:"Of rows that come later."`
}

// ViewView is what is shown of one.
type ViewView struct {
	resource.Meta
	Description string    `json:"description"`
	Features    []Feature `json:"features"`
	Keep        string    `json:"keep"`
}

func views() resource.Resource[feature.Name, feature.View, NewView, ViewChange, ViewView] {
	return resource.Resource[feature.Name, feature.View, NewView, ViewChange, ViewView]{
		Kind: feature.Views, Singular: "feature_view", Read: Read, Write: Views,
		Description: "A view says what is known of a kind of entities, users say. Models take its features as inputs; rows of it are brought with PUT /v1/features/{view}/rows.",
		New: func(_ context.Context, tx *repo.Tx, in *NewView) (*feature.View, error) {
			features, keep, err := featuresOf(in.Features, in.Keep)
			if err != nil {
				return nil, err
			}
			return feature.NewView(feature.Name(in.Name), in.Description, features, keep, string(repo.NewID[feature.Name](tx, "fvr")))
		},
		Change: func(_ context.Context, _ *repo.Tx, v *feature.View, in *ViewChange) error {
			description, keep := v.Description, v.Keep.String()
			if in.Description != nil {
				description = *in.Description
			}
			if in.Keep != nil {
				keep = *in.Keep
			}
			features, kept, err := featuresOf(in.Features, keep)
			if err != nil {
				return err
			}
			if in.Features == nil {
				features = v.Features
			}
			return v.Set(description, features, kept)
		},
		View: func(v *feature.View, m resource.Meta) ViewView {
			out := ViewView{m, v.Description, []Feature{}, v.Keep.String()}
			for _, f := range v.Features {
				shown := Feature{Name: f.Name, Datatype: f.Datatype, Shape: f.Shape, Default: f.Default}
				if f.MaxAge > 0 {
					shown.MaxAge = f.MaxAge.String()
				}
				out.Features = append(out.Features, shown)
			}
			return out
		},
	}
}

func featuresOf(in []Feature, keep string) (out []feature.Feature, kept time.Duration, err error) {
	for _, f := range in {
		one := feature.Feature{Name: f.Name, Datatype: f.Datatype, Shape: tensor.Shape(f.Shape), Default: f.Default}
		if one.MaxAge, err = span("max_age of "+fault.Clip(f.Name, 64), f.MaxAge); err != nil {
			return nil, 0, err
		}
		out = append(out, one)
	}
	kept, err = span("keep", keep)
	return out, kept, err
}

func span(what, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fault.New(fault.Unprocessable, "%s is %q, expected a time such as 24h", what, fault.Clip(text, 20)).WithCode("feature_view_invalid")
	}
	return d, nil
}
