package rollouthttp

import "sluice/internal/platform/web/problem"

// Problems are the failures that only occur here.
func Problems() []problem.Type {
	return []problem.Type{
		{Code: "alias_not_found", Title: "The model has no such alias", Fix: "GET /v1/models/{model}/aliases lists those it has; PUT with If-None-Match: * makes one."},
		{Code: "alias_name_invalid", Title: "This cannot be the name of an alias", Fix: "Begin with a letter, and use up to 63 letters, digits, - or _."},
		{Code: "alias_held", Title: "An experiment or release divides the alias's requests", Fix: "Stop the experiment, or wait for the end of the release or roll it back; held_by of the alias names it."},
		{Code: "alias_protected", Title: "The alias is protected", Fix: "Begin a release, which waits for an approval, or have the protection taken away first: PUT with protected: false, approved by somebody else."},
		{Code: "approval_needs_identity", Title: "Nobody could approve this", Fix: "Without authentication everybody is the same: send protected: false and steps without approval, or turn authentication on."},
		{Code: "alias_proposed", Title: "A change of the alias waits for an approval", Fix: "Have it approved or rejected first."},
		{Code: "alias_not_proposed", Title: "Nothing waits for an approval", Fix: "Read the alias: somebody has decided already, or nobody has asked for a change."},
		{Code: "approval_by_requester", Title: "Who has asked for a change cannot approve it", Fix: "Have it approved by somebody else."},
		{Code: "experiment_not_found", Title: "There is no such experiment", Fix: "GET /v1/experiments lists them."},
		{Code: "experiment_arms", Title: "The arms of the experiment are wrong", Fix: "Give 1 to 64 arms, each a name of its own; arms do not change while an experiment lives."},
		{Code: "experiment_weights", Title: "The weights of the arms do not add up", Fix: "Give each arm 0 to 10000 basis points, 10000 in all."},
		{Code: "experiment_invalid", Title: "The experiment has mistakes", Fix: "errors names each."},
		{Code: "experiment_allocation", Title: "The allocation of the arms has mistakes", Fix: "thompson needs at least two arms, and every a time from 10m to 720h; the reward label needs the prediction log."},
		{Code: "experiment_allocated", Title: "The arms are allocated by what was observed of them", Fix: "Stop the experiment, and begin another with weights of your own."},
		{Code: "experiment_stopped", Title: "The experiment has been stopped", Fix: "Begin another."},
		{Code: "arms_stateful", Title: "Requests of this model are not divided", Fix: "Models that keep state, or answer step by step, have aliases, but no experiments and releases: point the alias to the version."},
		{Code: "alias_breaks_graph", Title: "A graph that uses the alias could not work with the version", Fix: "Register a version with the tensors that detail names, or archive the graph first: it is then registered anew."},
		{Code: "alias_leads_there", Title: "The alias may lead to a version that a graph cannot work with", Fix: "Read the alias: where it leads there, end what holds it and point it elsewhere, or archive the graph."},
		{Code: "arms_differ", Title: "The versions do not take and give the same tensors", Fix: "Compare versions with the same signature; point the alias to one that has another."},
		{Code: "hold_ended", Title: "An earlier attempt of the request came to nothing", Fix: "Send it again with another Idempotency-Key."},
		{Code: "reason_too_long", Title: "The reason is too long", Fix: "Send at most 255 bytes."},
		{Code: "release_not_found", Title: "There is no such release", Fix: "GET /v1/releases lists them."},
		{Code: "release_invalid", Title: "The release has mistakes", Fix: "errors names each."},
		{Code: "release_over", Title: "The release is over", Fix: "Begin another."},
		{Code: "release_needs_log", Title: "There is no prediction log to judge by", Fix: "Leave the guardrails quality and drift out, or start the server with record.url."},
		{Code: "release_not_waiting", Title: "The release waits for no approval", Fix: "Read it: its step may be under way, paused or approved."},
		{Code: "release_not_paused", Title: "The release is not paused", Fix: "Read it: it goes on already."},
		{Code: "shadow_config", Title: "How answers are to be compared is wrong", Fix: "sample is more than 0 and at most 1, top 1 to 32, and tolerances are not negative."},
		{Code: "shadow_graph", Title: "A graph of models cannot be a shadow", Fix: "Shadow by the models that it is made of, or begin the release with a small weight."},
		{Code: "shadow_not_found", Title: "Nothing is known of such a shadow", Fix: "Numbers are there a second after the first request, of steps with the weight 0 and of experiments with a shadow, and are kept for 30 days."},
		{Code: "version_missing", Title: "The model has no such version that can serve", Fix: "GET /v2/models/{model} lists its versions; POST /v2/repository/index says why one cannot serve."},
	}
}
