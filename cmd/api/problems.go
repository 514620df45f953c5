package main

import (
	"slices"

	inferenceapi "sluice/internal/inference/api"
	"sluice/internal/platform/admin"
	"sluice/internal/platform/web/problem"
)

// newCatalog returns every problem that the native API answers with.
func newCatalog() (*problem.Catalog, error) {
	return problem.NewCatalog("", slices.Concat(admin.Problems(), inferenceapi.Problems(), modelProblems())...)
}

// modelProblems are those of having models answer, whichever way they were asked.
func modelProblems() []problem.Type {
	return []problem.Type{
		{Code: "model_not_found", Title: "There is no such model", Fix: "POST /v2/repository/index lists the models that there are."},
		{Code: "version_not_found", Title: "The model has no such version", Fix: "GET /v2/models/{model} lists its versions."},
		{Code: "model_not_ready", Title: "The model cannot answer now", Fix: "Wait as long as Retry-After says; where it stays so, GET /v2/models/{model}/ready and the index say why."},
		{Code: "batch_too_large", Title: "The request has more rows than the model takes at once", Fix: "Send fewer rows with each request; detail names the most."},
		{Code: "overloaded", Title: "The model cannot answer in time", Fix: "Send the same request again after as long as Retry-After says, with growing pauses, or allow more time."},
		{Code: "timeout", Title: "The model's answer did not come in time", Fix: "Try again, or allow more time."},
		{Code: "draining", Title: "What would answer is about to stop", Fix: "Send the same request again, or connect again with the last cursor: another version or server answers."},
	}
}
