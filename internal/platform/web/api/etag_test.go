package api

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
)

func TestConditionalReads(t *testing.T) {
	b := start(t, setting{})
	b.send("POST", "/v1/widgets", `{"name":"cog"}`, writer)
	for condition, want := range map[string]int{
		`"1"`: 304, `W/"1"`: 304, `"0", "1"`: 304, `*`: 304, `"1-gzip"`: 304, `"1-br"`: 304, `"2"`: 200, `1`: 200, `"1`: 200, ``: 200,
	} {
		for _, method := range []string{"GET", "HEAD"} {
			got := b.send(method, "/v1/widgets/w1", "", reader, "If-None-Match", condition)
			if got.StatusCode != want || want == 304 && (got.text != "" || !strings.HasPrefix(got.Header.Get("ETag"), `"1`) || got.Header.Get("Content-Type") != "") {
				t.Errorf("%s If-None-Match %s: %d %q %v", method, condition, got.StatusCode, got.text, got.Header)
			}
		}
	}
	if got := b.send("GET", "/v1/widgets/none", "", reader, "If-None-Match", "*"); got.StatusCode != 404 {
		t.Errorf("a failure became %d", got.StatusCode)
	}
	if log := b.log.String(); !strings.Contains(log, `"http.response.status_code":304`) {
		t.Error("the log does not show 304")
	}
}

func TestConditionalChanges(t *testing.T) {
	b := start(t, setting{})
	b.send("POST", "/v1/widgets", `{"name":"cog"}`, writer)
	for _, tc := range []struct {
		condition string
		status    int
		code      string
	}{
		{"", 428, "precondition_required"}, {`"7"`, 412, "precondition_failed"}, {`W/"1"`, 412, "precondition_failed"}, {`x`, 400, "etag_invalid"},
		{`"1"`, 200, ""}, {`"1"`, 412, "precondition_failed"}, {`"9", "2"`, 200, ""}, {`"3-gzip"`, 200, ""}, {`*`, 200, ""},
	} {
		got := b.send("PUT", "/v1/widgets/w1", `{"name":"gear"}`, writer, "If-Match", tc.condition)
		if got.StatusCode != tc.status || tc.code != "" && got.problem(t).Code != tc.code {
			t.Errorf("If-Match %s: %d %s", tc.condition, got.StatusCode, got.text)
		}
	}
}

func TestIfMatchVersion(t *testing.T) {
	for text, want := range map[string]int64{`"7"`: 7, `"7-zstd"`: 7, ` "12" `: 12} {
		if v, anything, err := (IfMatch{text}).Version(); v != want || anything || err != nil {
			t.Errorf("%s is version %d, %v, %v", text, v, anything, err)
		}
	}
	if _, anything, err := (IfMatch{"*"}).Version(); !anything || err != nil {
		t.Errorf("* is %v, %v", anything, err)
	}
	for text, code := range map[string]string{"": web.CodePreconditionRequired, `"x"`: "precondition_failed", `W/"7"`: "precondition_failed", `"1","2"`: "precondition_failed", `7`: "etag_invalid"} {
		if _, _, err := (IfMatch{text}).Version(); fault.CodeOf(err) != code {
			t.Errorf("%q gives %v, want %s", text, err, code)
		}
	}
}

// Law: a list of tags, written with any white space, is read as it was.
func TestTagsRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tags := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) tag {
			return tag{rapid.Bool().Draw(rt, "weak"), `"` + rapid.StringMatching(`[!#-+\--~]{0,8}`).Draw(rt, "value") + `"`}
		}), 1, 5).Draw(rt, "tags")
		text := ""
		for _, x := range tags {
			if text != "" {
				text += rapid.SampledFrom([]string{",", ", ", " ,\t"}).Draw(rt, "comma")
			}
			if x.weak {
				text += "W/"
			}
			text += x.value
		}
		got, anything, err := parseTags(text)
		if err != nil || anything || len(got) != len(tags) {
			rt.Fatalf("%s is read as %v, %v, %v", text, got, anything, err)
		}
		for i := range got {
			if got[i] != tags[i] {
				rt.Fatalf("%s is read as %v", text, got)
			}
		}
	})
}

func FuzzParseTags(f *testing.F) {
	for _, s := range []string{`"1"`, `W/"1", "2-gzip"`, `*`, `"`, `W/`, `",`, `"a"b`, ",", `"1",,`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tags, anything, err := parseTags(s)
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%q gives %v", s, err)
		}
		if anything && len(tags) > 0 {
			t.Errorf("%q is anything and %v", s, tags)
		}
		for _, x := range tags {
			if len(x.value) < 2 || strings.Count(x.value, `"`) != 2 {
				t.Errorf("%q has the tag %q", s, x.value)
			}
		}
	})
}
