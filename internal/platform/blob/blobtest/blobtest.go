// Package blobtest says what every adapter of package blob must do: Run is the
// contract suite, Bench the benchmarks. Faulty is a bucket that fails on demand,
// for the tests of what stands on package blob.
//
// Known limits: durability cannot be seen from outside a process that lives;
// each adapter tests it itself. Sizes are kept small enough for a short run.
package blobtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// Features say where an adapter differs, by its nature, from the others.
type Features struct {
	// Presign: clients can be given addresses. Otherwise they are Unsupported.
	Presign bool
	// UploadSHA256: objects completed from parts have their digest.
	UploadSHA256 bool
	// ListsAll: lists carry content type, digest and metadata.
	ListsAll bool
	// Nests: a key may be the folder of others, as a beside a/b, and all are listed.
	Nests bool
	// Slow: an operation takes milliseconds; the suite does fewer of them.
	Slow bool
}

// Run runs the contract suite. Open returns an empty bucket; the test's clean-up closes it.
func Run(t *testing.T, open func(t *testing.T) blob.Bucket, f Features) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, blob.Bucket, Features){
		"PutGet":            testPutGet,
		"Sizes":             testSizes,
		"Info":              testInfo,
		"Missing":           testMissing,
		"DeleteIsFinal":     testDelete,
		"OddKeys":           testOddKeys,
		"BadKeys":           testBadKeys,
		"BadOptions":        testBadOptions,
		"Ranges":            testRanges,
		"File":              testFile,
		"Checksum":          testChecksum,
		"ShortAndLong":      testShortAndLong,
		"BrokenBody":        testBrokenBody,
		"Cancelled":         testCancelled,
		"IfAbsent":          testIfAbsent,
		"IfMatch":           testIfMatch,
		"OneCreates":        testOneCreates,
		"CountWithIfMatch":  testCountWithIfMatch,
		"OverwriteIsAtomic": testOverwriteIsAtomic,
		"OpenBodyIsStable":  testOpenBodyIsStable,
		"Copy":              testCopy,
		"CopyIsNew":         testCopyIsNew,
		"List":              testList,
		"ListPages":         testListPages,
		"ListUnderChange":   testListUnderChange,
		"Multipart":         testMultipart,
		"PartsAgain":        testPartsAgain,
		"CompleteTwice":     testCompleteTwice,
		"OneCompletes":      testOneCompletes,
		"CompleteIf":        testCompleteIf,
		"CompleteBadParts":  testCompleteBadParts,
		"PartChecks":        testPartChecks,
		"Abort":             testAbort,
		"Uploads":           testUploads,
		"Presign":           testPresign,
		"Model":             testModel,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t), f) })
	}
}

// put writes an object that must succeed.
func put(t testing.TB, b blob.Bucket, key, content string) blob.Info {
	t.Helper()
	info, err := b.Put(t.Context(), key, strings.NewReader(content), blob.PutOptions{})
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return info
}

// get reads a whole object.
func get(ctx context.Context, b blob.Reader, key string) (string, error) {
	obj, err := b.Get(ctx, key, blob.GetOptions{})
	if err != nil {
		return "", err
	}
	defer obj.Body.Close()
	content, err := io.ReadAll(obj.Body)
	return string(content), err
}

// wantContent fails unless the object is there with the content.
func wantContent(t testing.TB, b blob.Reader, key, want string) {
	t.Helper()
	if got, err := get(t.Context(), b, key); err != nil || got != want {
		t.Errorf("%s holds %q (%d bytes), error %v; expected %q (%d bytes)", key, fault.Clip(got, 40), len(got), err, fault.Clip(want, 40), len(want))
	}
}

// wantNone fails unless there is nothing at all in the bucket under the key.
func wantNone(t testing.TB, b blob.Bucket, key string) {
	t.Helper()
	if info, err := b.Stat(t.Context(), key); !fault.Is(err, fault.NotFound) {
		t.Errorf("stat %s says %+v, error %v; expected nothing", key, info, err)
	}
	if got, err := get(t.Context(), b, key); !fault.Is(err, fault.NotFound) {
		t.Errorf("%s holds %d bytes, error %v; expected nothing", key, len(got), err)
	}
	if keys := list(t, b, "", ""); slices.Contains(keys, key) {
		t.Errorf("%s is listed; expected nothing", key)
	}
}

// wantCode fails unless err has the kind and, if it is not empty, the code.
func wantCode(t testing.TB, what string, err error, kind fault.Kind, code string) {
	t.Helper()
	if err == nil || !fault.Is(err, kind) || code != "" && fault.CodeOf(err) != code {
		t.Errorf("%s: got %v (%s), expected %s with code %q", what, err, kindOf(err), kind, code)
	}
}

func kindOf(err error) string {
	if err == nil {
		return "no error"
	}
	return fault.Of(err).Kind.String() + ", " + fault.CodeOf(err)
}

func list(t testing.TB, b blob.Lister, folder, after string) []string {
	t.Helper()
	keys := []string{}
	for info, err := range b.List(t.Context(), folder, after) {
		if err != nil {
			t.Fatalf("list %q after %q: %v", folder, after, err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

// sum returns the digest of a content.
func sum(content string) string {
	digest := sha256.Sum256([]byte(content))
	return hex.EncodeToString(digest[:])
}

// noise returns n bytes, always the same for the seed, that no compression and
// no mix-up of offsets leaves alike.
func noise(seed byte, n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return string(b)
}

// legal returns the keys without those that lie below others, unless the
// adapter can have them.
func (f Features) legal(keys []string) []string {
	if f.Nests {
		return keys
	}
	return slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
		return slices.ContainsFunc(keys, func(other string) bool { return strings.HasPrefix(key, other+"/") })
	})
}
