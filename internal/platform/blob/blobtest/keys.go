package blobtest

import (
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

func testOddKeys(t *testing.T, b blob.Bucket, f Features) {
	keys := f.legal([]string{
		"acme/tile/0/x001/x234/067", "acme/tile/0/x001/067.p/8", "acme/.hidden", "acme/...", "acme/a..b", "acme/trailing.",
		"acme/date=2026-11-26/part-00000.csv", "acme/a+b", "acme/a@b", "acme/~", "acme/a,b", "acme/-", "acme/_", "acme/=",
		"acme/UPPER", "acme/upper", "acme/a", "acme/a/a", "acme/a/a/a", "acme/a.a", "acme/a-a", "acme/tmp", "acme/uploads/1",
		"acme/lock", "tmp/x", "uploads/x", "lock/x", "acme/begin", "-/-", "acme/xl.meta", "acme/" + strings.Repeat("n", blob.MaxKeyPart),
		// The longest: MaxKey bytes. A server's own paths may leave it less.
		strings.Repeat("acme567/", 100) + "end",
	})
	for _, key := range keys {
		put(t, b, key, "content of "+key)
	}
	for _, key := range keys {
		wantContent(t, b, key, "content of "+key)
	}
	if got := list(t, b, "", ""); len(got) != len(keys) {
		t.Errorf("%d of %d keys are listed: %q", len(got), len(keys), got)
	}
	for _, key := range keys {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Errorf("delete %s: %v", key, err)
		}
	}
	if got := list(t, b, "", ""); len(got) != 0 {
		t.Errorf("left after all was deleted: %q", got)
	}
}

// Every operation checks its keys: what is no key must not reach a path.
func testBadKeys(t *testing.T, b blob.Bucket, _ Features) {
	for _, key := range []string{"", "acme", "/", "/acme", "acme/", "acme//a", "acme/.", "acme/..", "../acme/a", "acme/../a", "acme/a%", "%tmp/x", "acme/a b", "acme/a\\b", "acme/ä", "acme/\x00", "acme/\n"} {
		_, err := b.Put(t.Context(), key, strings.NewReader(""), blob.PutOptions{})
		wantCode(t, "put", err, fault.Invalid, "invalid_key")
		_, err = b.Get(t.Context(), key, blob.GetOptions{})
		wantCode(t, "get", err, fault.Invalid, "invalid_key")
		_, err = b.Stat(t.Context(), key)
		wantCode(t, "stat", err, fault.Invalid, "invalid_key")
		wantCode(t, "delete", b.Delete(t.Context(), key), fault.Invalid, "invalid_key")
		_, err = b.Copy(t.Context(), key, "acme/x", "")
		wantCode(t, "copy from", err, fault.Invalid, "invalid_key")
		_, err = b.Copy(t.Context(), "acme/x", key, "")
		wantCode(t, "copy to", err, fault.Invalid, "invalid_key")
		_, err = b.Begin(t.Context(), key, blob.UploadOptions{})
		wantCode(t, "begin", err, fault.Invalid, "invalid_key")
	}
	for _, folder := range []string{"/", "acme/", "..", "acme/..", "%tmp"} {
		for _, err := range b.List(t.Context(), folder, "") {
			wantCode(t, "list "+folder, err, fault.Invalid, "invalid_key")
		}
		for _, err := range b.Uploads(t.Context(), folder) {
			wantCode(t, "uploads "+folder, err, fault.Invalid, "invalid_key")
		}
	}
	for _, id := range []string{"", "..", "../../etc", "a/b", "NOSUCHUPLOAD"} {
		_, err := b.Part(t.Context(), blob.Upload{Key: "acme/a", ID: id}, 1, strings.NewReader(""), blob.PartOptions{})
		wantCode(t, "a part of upload "+id, err, fault.NotFound, blob.CodeUpload)
	}
}

func testBadOptions(t *testing.T, b blob.Bucket, _ Features) {
	for name, opts := range map[string]blob.PutOptions{
		"content type":   {UploadOptions: blob.UploadOptions{ContentType: "no\r\nheader"}},
		"metadata name":  {UploadOptions: blob.UploadOptions{Metadata: map[string]string{"Upper": "x"}}},
		"metadata value": {UploadOptions: blob.UploadOptions{Metadata: map[string]string{"a": "ü"}}},
		"reserved":       {UploadOptions: blob.UploadOptions{Metadata: map[string]string{"sluice-sha256": "x"}}},
		"metadata size":  {UploadOptions: blob.UploadOptions{Metadata: map[string]string{"a": strings.Repeat("x", blob.MaxMetadata)}}},
		"digest":         {PartOptions: blob.PartOptions{SHA256: "abc"}},
		"upper digest":   {PartOptions: blob.PartOptions{SHA256: strings.ToUpper(sum("x"))}},
		"size":           {PartOptions: blob.PartOptions{Size: -1}},
		"condition":      {Condition: blob.Condition{IfAbsent: true, IfMatch: "x"}},
	} {
		_, err := b.Put(t.Context(), "acme/bad", strings.NewReader("x"), opts)
		wantCode(t, name, err, fault.Invalid, "invalid_object_options")
	}
	wantNone(t, b, "acme/bad")
}

func testPresign(t *testing.T, b blob.Bucket, f Features) {
	get, err := b.PresignGet(t.Context(), "acme/x", time.Minute, "")
	put, err2 := b.PresignPut(t.Context(), "acme/x", time.Minute)
	up := begin(t, b, "acme/parts")
	address, err3 := b.PresignPart(t.Context(), up, 1, int64(len("by address")), time.Minute)
	if !f.Presign {
		wantCode(t, "presign get", err, fault.Unsupported, blob.CodePresign)
		wantCode(t, "presign put", err2, fault.Unsupported, blob.CodePresign)
		wantCode(t, "presign a part", err3, fault.Unsupported, blob.CodePresign)
		return
	}
	if err != nil || err2 != nil || err3 != nil {
		t.Fatal(err, err2, err3)
	}
	wantPresigned(t, b, get, put)
	wantPartByAddress(t, b, up, address)
	for _, d := range []time.Duration{0, -time.Second, blob.MaxExpiry + time.Second} {
		_, err := b.PresignGet(t.Context(), "acme/x", d, "")
		wantCode(t, "presign for "+d.String(), err, fault.Invalid, "")
	}
	_, err = b.PresignGet(t.Context(), "acme/../x", time.Minute, "")
	wantCode(t, "presign a bad key", err, fault.Invalid, "invalid_key")
}
