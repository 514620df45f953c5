package api

// Prefix returns what the paths of all operations begin with, such as /v1.
func (a *API) Prefix() string { return a.cfg.Prefix }
