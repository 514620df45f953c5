package rollouthttp

import "sluice/internal/platform/web/problem"

// Problems are the failures that only occur here.
func Problems() []problem.Type {
	return []problem.Type{
		{Code: "alias_not_found", Title: "The model has no such alias", Fix: "GET /v1/models/{model}/aliases lists those it has; PUT with If-None-Match: * makes one."},
		{Code: "alias_name_invalid", Title: "This cannot be the name of an alias", Fix: "Begin with a letter, and use up to 63 letters, digits, - or _."},
		{Code: "alias_held", Title: "An experiment or release divides the alias's requests", Fix: "Stop the experiment, or wait for the end of the release or roll it back; held_by of the alias names it."},
		{Code: "alias_proposed", Title: "A change of the alias waits for an approval", Fix: "Have it approved or rejected first."},
		{Code: "alias_not_proposed", Title: "Nothing waits for an approval", Fix: "Read the alias: somebody has decided already, or nobody has asked for a change."},
		{Code: "approval_by_requester", Title: "Who has asked for a change cannot approve it", Fix: "Have it approved by somebody else."},
		{Code: "version_missing", Title: "The model has no such version that can serve", Fix: "GET /v2/models/{model} lists its versions; POST /v2/repository/index says why one cannot serve."},
	}
}
