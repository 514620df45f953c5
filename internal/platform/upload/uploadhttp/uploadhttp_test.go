package uploadhttp

import (
	"strings"
	"testing"

	"sluice/internal/platform/fault"
)

func TestContentDigest(t *testing.T) {
	const empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	for text, want := range map[string]string{
		"":                        "",
		"md5=:aaaa:":              "",
		"sha-256=:" + empty + ":": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"sha-512=:eA==:, SHA-256=:" + empty + ":": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"sha-256=" + empty:                        "digest_invalid",
		"sha-256=:eA==:":                          "digest_invalid",
		"sha-256=:":                               "digest_invalid",
		"sha-256":                                 "digest_invalid",
		"sha-256=:" + strings.Repeat("!", 44) + ":": "digest_invalid",
	} {
		got, err := contentDigest(text)
		if err != nil {
			got = fault.CodeOf(err)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
