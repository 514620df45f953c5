package main

import (
	"encoding/json"
	"net/url"
	"slices"
	"testing"
)

// Lists are read from either end, page by page, and a cursor holds for its order only.
func TestListsHaveAnOrder(t *testing.T) {
	a, _ := startApp(t)
	base := "http://" + a.http.Addr()
	for range 5 {
		infer(t, "POST", base+"/v1/models/iris/predictions", []byte(`{"rows":[{"input":[5.1,3.5,1.4,0.2]}]}`), "Content-Type", "application/json", "Prefer", "respond-async")
		submitted(t, base, `{"input":{"inline":[{"input":[5.1,3.5,1.4,0.2]}]},"model":"iris"}`)
		post(t, base+"/v1/uploads", `{"content_type":"text/csv"}`)
	}
	for _, list := range []string{"/v1/predictions?model=iris", "/v1/batches?model=iris", "/v1/uploads?state=open"} {
		var ids [2][]string
		var first string
		for i, order := range []string{"asc", "desc"} {
			for cursor := ""; ; {
				got := infer(t, "GET", base+list+"&limit=2&order="+order+"&cursor="+url.QueryEscape(cursor), nil)
				var page struct {
					Data []struct{ ID string }
					Next string `json:"next_cursor"`
				}
				if err := json.Unmarshal(got.body, &page); err != nil || got.StatusCode != 200 {
					t.Fatalf("%s: %d %s", list, got.StatusCode, got.body)
				}
				for _, d := range page.Data {
					ids[i] = append(ids[i], d.ID)
				}
				if cursor == "" {
					first = page.Next
				}
				if cursor = page.Next; cursor == "" {
					break
				}
			}
		}
		slices.Reverse(ids[1])
		if len(ids[0]) < 5 || !slices.Equal(ids[0], ids[1]) || !slices.IsSorted(ids[0]) {
			t.Errorf("%s: %v, and from the other end %v", list, ids[0], ids[1])
		}
		if got := infer(t, "GET", base+list+"&limit=2&cursor="+url.QueryEscape(first), nil); got.StatusCode != 400 {
			t.Errorf("%s: a cursor of the other order: %d %s", list, got.StatusCode, got.body)
		}
		if got := infer(t, "GET", base+list+"&order=up", nil); got.StatusCode != 422 {
			t.Errorf("%s in no order: %d %s", list, got.StatusCode, got.body)
		}
	}
}
