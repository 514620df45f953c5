package api

// Page is the envelope of a list.
type Page[T any] struct {
	Data       []T    `json:"data" doc:"The items, in the list's order."`
	NextCursor string `json:"next_cursor,omitempty" doc:"Send it as cursor to get the next page. It is opaque and holds for the same query only."`
	HasMore    bool   `json:"has_more" doc:"Whether there is a next page."`
}

// NewPage returns a page of the items. Next is the cursor of the next page, and
// empty on the last one.
func NewPage[T any](items []T, next string) Page[T] {
	if items == nil {
		items = []T{} // a list, never null
	}
	return Page[T]{Data: items, NextCursor: next, HasMore: next != ""}
}

// OrderQuery is part of the inputs of operations that list in the order of creation: embed it.
type OrderQuery struct {
	Order string `query:"order" enum:"asc,desc" default:"asc" doc:"asc: the oldest first. desc: the newest. A cursor holds for the order that it comes from."`
}

// Descending reports whether the newest come first.
func (o OrderQuery) Descending() bool { return o.Order == "desc" }

// PageQuery is part of the inputs of operations that list: embed it.
type PageQuery struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"The most items of a page."`
	Cursor string `query:"cursor" maxLength:"2048" doc:"The next_cursor of the page before; leave it out for the first page."`
}
