package audit

// Logged is an entry with its place in the log.
type Logged struct {
	Index int64
	Entry Entry
}
