package main

import (
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	batch "sluice/internal/batch/job"
	"sluice/internal/inference/job"
	"sluice/internal/platform/access"
	"sluice/internal/platform/web"
)

// plainRoute describes a route with a handler of its own, as those of the Open
// Inference Protocol are.
type plainRoute struct {
	method, path, id, summary string
	request, answer           *huma.Schema // nil: no body
	stream                    bool         // the answers are server-sent events
	versioned                 bool         // there is a route for one version of the model, too
	durable                   bool         // it takes Prefer
}

// oipOperations are those that package oip serves. Extensions that it refuses
// are not among them.
var oipOperations = []plainRoute{
	{method: "GET", path: "/v2", id: "oip-server", summary: "Server metadata", answer: object("name", text, "version", text, "extensions", list(text))},
	{method: "GET", path: "/v2/health/live", id: "oip-live", summary: "Is the server alive?"},
	{method: "GET", path: "/v2/health/ready", id: "oip-ready", summary: "Are all models ready?"},
	{method: "GET", path: "/v2/models/stats", id: "oip-all-stats", summary: "Statistics of all models", answer: object("model_stats", list(anything))},
	{method: "GET", path: "/v2/models/{model}", id: "oip-model", summary: "Model metadata", versioned: true,
		answer: object("name", text, "versions", list(text), "platform", text, "inputs", list(port), "outputs", list(port), "properties", anything)},
	{method: "GET", path: "/v2/models/{model}/ready", id: "oip-model-ready", summary: "Is the model ready?", versioned: true, answer: object("name", text, "ready", boolean)},
	{method: "GET", path: "/v2/models/{model}/config", id: "oip-model-config", summary: "Model configuration", versioned: true, answer: anything},
	{method: "GET", path: "/v2/models/{model}/stats", id: "oip-model-stats", summary: "Statistics of a model", versioned: true, answer: object("model_stats", list(anything))},
	{method: "POST", path: "/v2/models/{model}/infer", id: "oip-infer", summary: "Predict", versioned: true, durable: true,
		request: required(object("id", text, "parameters", anything, "inputs", list(given), "outputs", list(wanted)), "inputs"),
		answer:  object("model_name", text, "model_version", text, "id", text, "parameters", anything, "outputs", list(given))},
	{method: "POST", path: "/v2/models/{model}/generate", id: "oip-generate", summary: "Predict, with inputs and outputs by name", versioned: true, request: anything, answer: anything},
	{method: "POST", path: "/v2/models/{model}/generate_stream", id: "oip-generate-stream", summary: "Predict, answered as a stream", versioned: true, request: anything, answer: anything, stream: true},
	{method: "POST", path: "/v2/repository/index", id: "oip-index", summary: "List the models of the repository",
		request: object("ready", boolean), answer: list(object("name", text, "version", text, "state", text, "reason", text))},
	{method: "POST", path: "/v2/repository/models/{model}/load", id: "oip-load", summary: "Load a model", request: object("parameters", anything)},
	{method: "POST", path: "/v2/repository/models/{model}/unload", id: "oip-unload", summary: "Unload a model", request: object("parameters", anything)},
}

// feedOperations are the streams of events, which are plain routes as well.
var feedOperations = []plainRoute{
	{method: "GET", path: "/v1/events", id: "list-events", summary: "List events", answer: object("data", list(anything), "next_cursor", text, "has_more", boolean, "gap", anything)},
	{method: "GET", path: "/v1/events/stream", id: "stream-events", summary: "Follow events", answer: anything, stream: true},
	{method: "GET", path: "/v1/predictions/{id}/events", id: "stream-prediction-events", summary: "Follow a durable prediction", answer: anything, stream: true},
	{method: "GET", path: "/v1/batches/{id}/events", id: "stream-batch-events", summary: "Follow a batch", answer: anything, stream: true},
	{method: "GET", path: "/v1/models/{model}/predictions/events", id: "stream-model-predictions", summary: "Follow the durable predictions of a model", answer: anything, stream: true},
}

// streamOperations are the streams of inference, which are plain routes as well.
var streamOperations = []plainRoute{
	{method: "GET", path: "/v1/models/{model}/stream", id: "stream-model", summary: "Stream inputs over a WebSocket, and get outputs in order"},
	{method: "GET", path: "/v1/streams/{id}/events", id: "resume-stream", summary: "Resume a prediction that is answered as events", answer: anything, stream: true},
}

// The schemas that they are made of.
var (
	text     = &huma.Schema{Type: huma.TypeString}
	boolean  = &huma.Schema{Type: huma.TypeBoolean}
	anything = &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
	shape    = list(&huma.Schema{Type: huma.TypeInteger})
	port     = object("name", text, "datatype", text, "shape", shape)
	// The data may come in binary after the JSON, so no member but these is sure.
	given  = required(object("name", text, "datatype", text, "shape", shape, "parameters", anything, "data", list(&huma.Schema{})), "name", "datatype", "shape")
	wanted = required(object("name", text, "parameters", anything), "name")
)

func list(of *huma.Schema) *huma.Schema { return &huma.Schema{Type: huma.TypeArray, Items: of} }

// object returns the schema of an object with members, which are names and
// schemas by turns. Others may come with them.
func object(members ...any) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{}, AdditionalProperties: true}
	for pair := range slices.Chunk(members, 2) {
		s.Properties[pair[0].(string)] = pair[1].(*huma.Schema)
	}
	return s
}

func required(s *huma.Schema, names ...string) *huma.Schema {
	s.Required = names
	return s
}

// plainRoutes describes the routes that are no operations of the API itself for
// its document.
func plainRoutes() []huma.Operation {
	var all []huma.Operation
	for _, o := range feedOperations {
		permission := eventsRead
		if strings.Contains(o.path, "/predictions/") {
			permission = job.Read
		}
		if strings.Contains(o.path, "/batches/") {
			permission = batch.Read
		}
		all = append(all, o.describe("events", permission))
	}
	for _, o := range streamOperations {
		all = append(all, o.describe("predictions", job.Run))
	}
	const tag = "open_inference_protocol"
	for _, o := range oipOperations {
		all = append(all, o.describe(tag, oipPermission(o.method, o.path)))
		if o.versioned {
			v := o
			v.id += "-version"
			v.path = strings.Replace(o.path, "{model}", "{model}/versions/{version}", 1)
			all = append(all, v.describe(tag, oipPermission(v.method, v.path)))
		}
	}
	return all
}

func (o plainRoute) describe(tag string, permission access.Permission) huma.Operation {
	op := huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary, Tags: []string{tag},
		Extensions: map[string]any{"x-permission": string(permission)},
		Responses: map[string]*huma.Response{
			"200":     {Description: http.StatusText(http.StatusOK), Content: o.content(o.answer)},
			"default": {Description: "What is wrong", Content: map[string]*huma.MediaType{"application/json": {Schema: object("error", text)}}},
		},
	}
	if permission != web.Public {
		op.Security = []map[string][]string{{"bearer": {}}, {"key": {}}}
	}
	if o.durable {
		op.Description = "Answers at once, unless Prefer says respond-async (202, durably) or wait=N (durably, and the answer if it comes within N seconds). Its output is kept in the form that is asked for here."
		op.Parameters = append(op.Parameters,
			&huma.Param{Name: "Prefer", In: "header", Description: "respond-async, or wait=N with 1 to 60 seconds (RFC 7240).", Schema: text},
			&huma.Param{Name: "Idempotency-Key", In: "header", Description: "With Prefer: the prediction is accepted once.", Schema: text},
			&huma.Param{Name: "Cancel-After", In: "header", Description: "With Prefer: the time after which it expires if it has not ended: 30s, 5m.", Schema: text})
		op.Responses["202"] = &huma.Response{Description: "Accepted: Location has the prediction in the native API", Content: o.content(anything)}
	}
	if o.request != nil {
		op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"application/json": {Schema: o.request}}}
	}
	for _, name := range []string{"model", "version", "id"} {
		if strings.Contains(o.path, "{"+name+"}") {
			op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "path", Required: true, Schema: text})
		}
	}
	return op
}

// content returns the body of an answer, which is nil where there is none.
func (o plainRoute) content(s *huma.Schema) map[string]*huma.MediaType {
	switch {
	case s == nil:
		return nil
	case o.stream:
		return map[string]*huma.MediaType{"text/event-stream": {Schema: text}}
	}
	return map[string]*huma.MediaType{"application/json": {Schema: s}}
}
