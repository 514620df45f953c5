package password

import (
	"strings"
	"testing"

	"sluice/internal/platform/fault"
)

const (
	goodSalt = "MDEyMzQ1Njc4OWFiY2RlZg"
	goodSum  = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
	goodText = "$argon2id$v=19$m=19456,t=2,p=1$" + goodSalt + "$" + goodSum
)

func TestStoredHashesAreDecodedStrictly(t *testing.T) {
	h, err := decode(goodText)
	if err != nil || h.Params != Default || string(h.salt) != "0123456789abcdef" || len(h.sum) != 32 {
		t.Fatalf("%+v, %v", h, err)
	}
	tail := "$" + goodSalt + "$" + goodSum
	for _, bad := range []string{
		"", "$", "$$$$$", "hunter2", goodText + "$", "x" + goodText, goodText + "=", goodText + "\n",
		"$argon2i$v=19$m=19456,t=2,p=1" + tail,
		"$argon2id$v=16$m=19456,t=2,p=1" + tail,
		"$argon2id$m=19456,t=2,p=1" + tail,
		"$argon2id$v=19$t=2,m=19456,p=1" + tail,                  // another order
		"$argon2id$v=19$m=019456,t=2,p=1" + tail,                 // another spelling
		"$argon2id$v=19$m=+19456,t=2,p=1" + tail,                 //
		"$argon2id$v=19$m=4294967295,t=2,p=1" + tail,             // 4 TiB
		"$argon2id$v=19$m=18446744073709551616,t=2,p=1" + tail,   //
		"$argon2id$v=19$m=262145,t=2,p=1" + tail,                 // just over
		"$argon2id$v=19$m=19456,t=4294967295,p=1" + tail,         // forever
		"$argon2id$v=19$m=19456,t=0,p=1" + tail,                  // argon2 would panic
		"$argon2id$v=19$m=19456,t=2,p=0" + tail,                  //
		"$argon2id$v=19$m=19456,t=2,p=255" + tail,                //
		"$argon2id$v=19$m=19456,t=2,p=257" + tail,                // wraps to 1
		"$argon2id$v=19$m=7,t=2,p=1" + tail,                      // under 8 KiB a thread
		"$argon2id$v=19$m=19456,t=2,p=1,x=1" + tail,              //
		"$argon2id$v=19$m=19456,t=2,p=1$$" + goodSum,             // no salt
		"$argon2id$v=19$m=19456,t=2,p=1$AAAA$" + goodSum,         // a short one
		"$argon2id$v=19$m=19456,t=2,p=1$" + goodSalt + "$",       // no sum: would equal every other none
		"$argon2id$v=19$m=19456,t=2,p=1$" + goodSalt + "$AAAA",   //
		"$argon2id$v=19$m=19456,t=2,p=1$" + goodSalt + "h$AAAA",  // stray bits
		"$argon2id$v=19$m=19456,t=2,p=1$" + goodSalt + "\n$AAAA", //
		goodText + strings.Repeat("A", 1<<20),
	} {
		_, err := decode(bad)
		if fault.CodeOf(err) != "password_hash_malformed" {
			t.Errorf("%.100q: %v", bad, err)
			continue
		}
		if strings.Contains(err.Error(), goodSum) {
			t.Errorf("the error tells the hash: %v", err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{goodText, "", "$argon2id$v=19$m=4294967295,t=4294967295,p=255$" + goodSalt + "$" + goodSum} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := decode(text)
		if err != nil {
			return
		}
		if h.String() != text {
			t.Errorf("%q decodes to %q", text, h)
		}
		if !h.valid() || len(h.salt) > maxSalt || len(h.sum) < minSum || len(h.sum) > maxSum {
			t.Errorf("%q asks for %+v", text, h.Params)
		}
	})
}
