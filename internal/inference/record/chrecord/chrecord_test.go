package chrecord

import (
	"testing"

	"sluice/internal/platform/fault"
)

// Addresses that name no database are refused, and not told: they may hold a
// password.
func TestAddressesAreRefused(t *testing.T) {
	for _, address := range []string{"", "x", "clickhouse://user:secret@", "sqlite:a.db"} {
		if _, err := Open(t.Context(), address, Config{}); fault.CodeOf(err) != "invalid_store_address" {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// No text leaves its literal.
func TestLiteral(t *testing.T) {
	if got := literal("a'\\\x00"); got != "unhex('61275c00')" {
		t.Error(got)
	}
}
