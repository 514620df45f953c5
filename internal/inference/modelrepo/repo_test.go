package modelrepo

import "testing"

func TestSampleRepositoryScans(t *testing.T) {
	r, err := Open("../../../models", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := r.Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) == 0 {
		t.Fatal("the sample repository is empty")
	}
	for _, e := range entries {
		if e.Err != nil {
			t.Errorf("%s: %v", e.Name, e.Err)
			continue
		}
		for _, v := range e.Chosen {
			data, err := r.Read(t.Context(), e, v)
			if err != nil || len(data) == 0 {
				t.Errorf("%s/%d: %d bytes, %v", e.Name, v, len(data), err)
			}
		}
	}
}
