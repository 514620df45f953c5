package feedhttp

import "sluice/internal/platform/web/problem"

// Problems are the failures of opening and reading feeds.
func Problems() []problem.Type {
	return []problem.Type{
		{Code: "feed_request_invalid", Title: "What is asked of the stream cannot be", Fix: "Correct the parameter that detail names."},
		{Code: "cursor_malformed", Title: "The cursor is none of this API's", Fix: "Send a cursor as it came with an event, unchanged; without one the stream starts anew."},
		{Code: "cursor_lost", Title: "What the cursor is behind of is not kept any more", Fix: "Start at earliest, or without a cursor; what lies between is lost to the stream, so read the resource once."},
		{Code: "slow_consumer", Title: "The consumer was too slow", Fix: "Connect again with the last cursor, or choose another policy than slow=disconnect."},
		{Code: "stream_changing", Title: "The stream is being made again", Fix: "Connect again with the last cursor after as long as Retry-After says."},
		{Code: "stream_taken", Title: "The stream has a consumer already", Fix: "Close the other connection; where that was cut off, try again after as long as Retry-After says."},
		{Code: "streams_full", Title: "The server has as many streams as it may", Fix: "Open the stream again after as long as Retry-After says, or on another server."},
		{Code: "streams_per_tenant", Title: "The tenant has as many streams as it may", Fix: "Close some, or share one."},
		{Code: "subprotocol_missing", Title: "The WebSocket offers no subprotocol that is spoken here", Fix: "Offer the one that detail names in Sec-WebSocket-Protocol."},
		{Code: codeFrame, Title: "A frame of the WebSocket is wrong", Fix: "Connect again with the last cursor, and send what the API's document describes."},
	}
}
