package problem

// Platform returns the types of what clients can meet of the packages below the
// edge: who may do what, stores, queues, objects and calls to others. What a
// program alone can cause, such as a wrong configuration, is not among them.
func Platform() []Type {
	const again = "Send the same request again after as long as Retry-After says, with growing pauses."
	return []Type{
		{"credential_invalid", "The credential is not valid", "Use a key or a token that is whole, has not expired and was not revoked. Which of these it is, only the server's log tells."},
		{"credential_unsupported", "This kind of credential is not accepted", "Send an API key or a token as Authorization: Bearer …"},
		{"credentials_ambiguous", "The request has several credentials", "Send one: in Authorization, in X-Api-Key, or as a client certificate."},
		{"credential_expired", "The credential has ended meanwhile", "Begin again with a new one."},
		{"credential_narrowed", "The credential may do less than before", "Open the stream again: what the credential still grants is checked then."},
		{"tenant_malformed", "This cannot be a tenant's id", "Use 1 to 64 lower case letters, digits, _ and -, the first a letter or digit."},
		{"api_keys_busy", "Too many new API keys are being looked up", again},
		{"token_keys_unavailable", "The token's issuer cannot be asked for its keys", again},
		{"password_length", "The password has a length that is not taken", "Use 8 to 1024 bytes."},
		{"password_busy", "Too many passwords are being checked", again},

		{"invalid_id", "This cannot be an id", "Use an id as it was given."},
		{"already_exists", "It exists already", "Choose another name, or change what is there."},
		{"already_processed", "It was done before", "Read what it has made: it is not done twice."},
		{"write_conflict", "Somebody else changed it at the same time", "Send the same request again."},
		{"version_mismatch", "The thing has changed", "Read it again, and send If-Match with its current ETag."},
		{"outcome_unknown", "It is not known whether the change was kept", "Read the thing, or send the same request again with the same Idempotency-Key."},
		{"invalid_cursor", "The cursor is not of this list", "Use next_cursor as it was given, with the same filter and order, or begin at the first page."},
		{"invalid_filter", "A filter cannot be used", "Correct what errors names: field:operator:value, with a field that the message lists."},
		{"unknown_field", "There is no such field to filter or order by", "Use one of the fields that detail names."},
		{"query_unsupported", "This combination of filter and order is not offered", "Filter by less, or order by another field."},
		{"one_aggregate_only", "The store changes one thing at a time", "Send one change with each request."},
		{"value_too_large", "A value is too large for the store", "Send less in one field."},
		{"store_too_large", "The thing is too large for the store", "Send less at once."},
		{"store_busy", "The store is busy", again},
		{"store_rate_limited", "The store takes no more at the moment", again},
		{"store_unavailable", "The store cannot be reached", again},
		{"store_closed", "The server is stopping", "Send the same request again: another server, or this one when it is back, will take it."},
		{"storage_full", "There is no room left", "Ask the operator for room: nothing is kept until there is some."},
		{"storage_unavailable", "The object store cannot be reached", again},

		{"queue_full", "The queue is full", again},
		{"queue_unavailable", "The queue cannot be reached", again},
		{"message_too_large", "A message is too large for the queue", "Send less at once."},
		{"dead_letter_not_found", "There is no such message", "List those that there are."},

		{"invalid_key", "This cannot be an object's name", "Use at most 1024 bytes, in parts of at most 240 between slashes."},
		{"checksum_mismatch", "The content does not have the checksum that was said", "Send it again, unchanged."},
		{"size_mismatch", "The content does not have the size that was said", "Send it again, whole."},
		{"range_not_satisfiable", "The object has no such range", "Ask for a range within its size."},
		{"invalid_part", "A part of the upload is not there, or too small", "Send the parts that are missing, and complete it again."},
		{"upload_not_found", "There is no such upload", "Begin another: it was completed, aborted or never begun."},
		{"presign_not_supported", "This store signs no addresses", "Read and write through the API."},

		{"circuit_open", "What this needs fails at the moment", again},
		{"bulkhead_full", "Too many wait for what this needs", again},
		{"call_timeout", "What this needs did not answer in time", again},
		{"unreachable", "What this needs cannot be reached", again},
	}
}
