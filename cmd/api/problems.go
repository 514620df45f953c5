package main

import (
	"slices"

	batchapi "sluice/internal/batch/api"
	"sluice/internal/batch/export/exporthttp"
	inferenceapi "sluice/internal/inference/api"
	"sluice/internal/inference/evaluation/evaluationhttp"
	"sluice/internal/inference/feature/featurehttp"
	"sluice/internal/inference/record/recordhttp"
	"sluice/internal/inference/registry/registryhttp"
	"sluice/internal/inference/rollout/rollouthttp"
	"sluice/internal/platform/admin"
	"sluice/internal/platform/feed/feedhttp"
	"sluice/internal/platform/upload/uploadhttp"
	"sluice/internal/platform/web/problem"
)

// newCatalog returns every problem that the native API answers with.
func newCatalog() (*problem.Catalog, error) {
	return problem.NewCatalog("", slices.Concat(admin.Problems(), inferenceapi.Problems(), rollouthttp.Problems(), registryhttp.Problems(), uploadhttp.Problems(), exporthttp.Problems(), evaluationhttp.Problems(), batchapi.Problems(), recordhttp.Problems(), featurehttp.Problems(), feedhttp.Problems(), modelProblems())...)
}

// modelProblems are those of having models answer, whichever way they were asked.
func modelProblems() []problem.Type {
	return []problem.Type{
		{Code: "model_not_found", Title: "There is no such model", Fix: "POST /v2/repository/index lists the models that this server has. One whose setting models names some has these alone, also of the registry's, where a version may be ready for other servers."},
		{Code: "version_not_found", Title: "The model has no such version", Fix: "GET /v2/models/{model} lists its versions."},
		{Code: "model_loading", Title: "The version is being loaded", Fix: "Send the same request again after as long as Retry-After says."},
		{Code: "model_not_ready", Title: "The model cannot answer now", Fix: "Wait as long as Retry-After says; where it stays so, GET /v2/models/{model}/ready and the index say why."},
		{Code: "graph_model_missing", Title: "A model of the graph is not served", Fix: "Have the model that detail names served again: its version, or the alias that leads to it."},
		{Code: "graph_model_changed", Title: "A model of the graph takes or gives something else now", Fix: "Have its alias lead to a version of the same tensors, or change the graph's file (a comment will do) and register that: the same file is the same version."},
		{Code: "graph_too_large", Title: "The tensors of the request take too much memory", Fix: "Send fewer rows."},
		{Code: "graph_too_deep", Title: "Graphs call each other too deep", Fix: "Break the circle that detail leads to."},
		{Code: "batch_too_large", Title: "The request has more rows than the model takes at once", Fix: "Send fewer rows with each request; detail names the most."},
		{Code: "overloaded", Title: "The model cannot answer in time", Fix: "Send the same request again after as long as Retry-After says, with growing pauses, or allow more time."},
		{Code: "timeout", Title: "The model's answer did not come in time", Fix: "Try again, or allow more time."},
		{Code: "stream_not_found", Title: "There is no such stream", Fix: "Ask for a new prediction: this one ended a while ago, was cancelled while its client was away, or is another server's."},
		{Code: "stream_needed", Title: "The model answers step by step", Fix: "Ask for a stream: Accept: text/event-stream, a WebSocket, generate_stream, or gRPC's ModelStreamInfer."},
		{Code: "sequence_missing", Title: "The model keeps state, and the request names no sequence", Fix: "Send sequence_id, and sequence_start with the first step; or use a stream, which is a sequence by itself."},
		{Code: "sequence_unknown", Title: "There is no such sequence here", Fix: "Begin it again with sequence_start: it ended, expired, or lives in another process, to which all its steps must go."},
		{Code: "sequence_version_changed", Title: "The model version that the sequence is on does not answer it", Fix: "Begin again with sequence_start, or name the version in every request of a sequence."},
		{Code: "sequence_halted", Title: "An earlier step of the sequence failed", Fix: "Send the steps from the failed one on again, the first with sequence_resume."},
		{Code: "sequences_full", Title: "The server has as many sequences as it may", Fix: "Try again later, or elsewhere."},
		{Code: "sequences_per_tenant", Title: "The tenant has as many sequences as it may", Fix: "End sequences with sequence_end, or let them expire."},
		{Code: "sequences_per_stream", Title: "One stream has too many sequences", Fix: "Open another stream."},
		{Code: "states_full", Title: "The states of all sequences take as much memory as they may", Fix: "Try again later, or elsewhere."},
		{Code: "states_per_tenant", Title: "The states of the tenant's sequences take as much memory as they may", Fix: "End sequences with sequence_end, or let them expire."},
		{Code: "draining", Title: "What would answer is about to stop", Fix: "Send the same request again, or connect again with the last cursor: another version or server answers."},
	}
}
