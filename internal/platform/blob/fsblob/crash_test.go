package fsblob

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// The test program is also the child that is killed: it writes to the folder
// that this names, and says what was acknowledged.
const childVar = "FSBLOB_TEST_CHILD"

// Killed at any moment, the program has lost nothing that it acknowledged, and
// left nothing half: every object is whole, and Open removes what was under way.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	acked := map[string]string{} // digest by key
	for round := range rounds {
		for key, digest := range writeAndDie(t, dir, round) {
			acked[key] = digest
		}
		b, err := Open(dir, Config{TempAge: time.Nanosecond})
		if err != nil {
			t.Fatal(err)
		}
		wantWhole(t, b, acked)
		if left, err := os.ReadDir(dir + "/" + tmpDir); err != nil || len(left) > 0 {
			t.Errorf("%d temporary files are left, error %v", len(left), err)
		}
		if _, err := blob.Sweep(t.Context(), b, "", time.Now().Add(time.Hour)); err != nil {
			t.Errorf("sweep: %v", err)
		}
		b.Close()
	}
	if len(acked) < rounds {
		t.Errorf("only %d objects were acknowledged in %d rounds: nothing was tested", len(acked), rounds)
	}
	t.Logf("%d objects acknowledged in %d rounds", len(acked), rounds)
}

// writeAndDie runs a child, kills it, and returns what it had acknowledged.
func writeAndDie(t *testing.T, dir string, round int) map[string]string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childVar+"="+dir, fmt.Sprintf("FSBLOB_TEST_ROUND=%d", round))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acked := map[string]string{}
	kill := time.Duration(20+rand.IntN(180)) * time.Millisecond
	for lines := bufio.NewScanner(out); lines.Scan(); {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch key, digest, whole := strings.Cut(rest, " "); {
		case word == "ready":
			time.AfterFunc(kill, func() { cmd.Process.Signal(syscall.SIGKILL) })
		case word == "ack" && whole && len(digest) == 64: // the last line may be cut
			acked[key] = digest
		case word == "fail":
			t.Errorf("child: %s", rest)
		}
	}
	cmd.Wait()
	return acked
}

// wantWhole fails unless all that was acknowledged is there, and all that is
// there is whole.
func wantWhole(t *testing.T, b *Bucket, acked map[string]string) {
	t.Helper()
	found := map[string]string{}
	for info, err := range b.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := blob.Verify(t.Context(), b, info.Key); err != nil {
			t.Errorf("%s: %v", info.Key, err)
		}
		found[info.Key] = info.SHA256
	}
	for key, digest := range acked {
		switch got, ok := found[key]; {
		case !ok:
			t.Errorf("%s was acknowledged and is lost", key)
		case got != digest && !strings.HasPrefix(key, "over/"): // which may hold a later version
			t.Errorf("%s has digest %s, acknowledged was %s", key, got, digest)
		}
	}
}

// TestChild is the program that TestKill kills; otherwise it does nothing.
func TestChild(t *testing.T) {
	dir := os.Getenv(childVar)
	if dir == "" {
		return
	}
	b := openIn(t, dir)
	fmt.Println("ready")
	var wg sync.WaitGroup
	var out sync.Mutex
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("new/%s/%d/%d", os.Getenv("FSBLOB_TEST_ROUND"), w, i)
				digest, err := childWrite(t.Context(), b, w, i, key)
				out.Lock()
				if err != nil {
					fmt.Println("fail", key, err)
				} else {
					fmt.Println("ack", digest)
				}
				out.Unlock()
			}
		})
	}
	wg.Wait()
}

// childWrite writes one object in one of the ways there are, and returns its
// key and digest.
func childWrite(ctx context.Context, b *Bucket, w, i int, key string) (string, error) {
	content := make([]byte, rand.IntN(300<<10))
	rand.NewChaCha8([32]byte{byte(rand.Uint32())}).Read(content)
	sum := sha256.Sum256(content)
	ack := func(key string) string { return key + " " + hex.EncodeToString(sum[:]) }
	switch i % 4 {
	case 0: // over and over
		key = fmt.Sprintf("over/%d", w)
		_, err := b.Put(ctx, key, bytes.NewReader(content), blob.PutOptions{})
		return ack(key), err
	case 1:
		_, err := b.Put(ctx, key, bytes.NewReader(content), blob.PutOptions{Condition: blob.Condition{IfAbsent: true}})
		return ack(key), err
	case 2:
		up, err := b.Begin(ctx, key, blob.UploadOptions{})
		if err != nil {
			return "", err
		}
		p, err := b.Part(ctx, up, 1, bytes.NewReader(content), blob.PartOptions{})
		if err != nil {
			return "", err
		}
		_, err = b.Complete(ctx, up, []blob.Part{p}, blob.Condition{})
		return ack(key), err
	}
	// A folder comes and goes.
	gone := fmt.Sprintf("gone/%d/%d", w, i)
	if _, err := b.Put(ctx, gone, bytes.NewReader(content), blob.PutOptions{}); err != nil {
		return "", err
	}
	info, err := b.Copy(ctx, gone, key, "")
	if err != nil {
		return "", err
	}
	return info.Key + " " + info.SHA256, b.Delete(ctx, gone)
}

// A disk without room: the put fails as such and leaves nothing, and the bucket
// works on. The limit on the size of files stands in for the disk's end.
func TestFull(t *testing.T) {
	if dir := os.Getenv("FSBLOB_TEST_FULL"); dir != "" {
		fullChild(t, dir)
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestFull$")
	cmd.Env = append(os.Environ(), "FSBLOB_TEST_FULL="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func fullChild(t *testing.T, dir string) {
	b := openIn(t, dir)
	if _, err := b.Put(t.Context(), "acme/old", strings.NewReader("old"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	up, err := b.Begin(t.Context(), "acme/up", blob.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("x", 3<<20)
	_, err = b.Put(t.Context(), "acme/old", strings.NewReader(big), blob.PutOptions{})
	wantFull(t, err)
	_, err = b.Part(t.Context(), up, 1, strings.NewReader(big), blob.PartOptions{})
	wantFull(t, err)
	if left, err := os.ReadDir(dir + "/" + tmpDir); err != nil || len(left) > 0 {
		t.Errorf("%d temporary files are left, error %v", len(left), err)
	}
	if info, err := blob.Verify(t.Context(), b, "acme/old"); err != nil || info.Size != 3 {
		t.Errorf("the old object is %+v, %v", info, err)
	}
	if _, err := b.Put(t.Context(), "acme/small", strings.NewReader("fits"), blob.PutOptions{}); err != nil {
		t.Errorf("a put that fits: %v", err)
	}
}

func wantFull(t *testing.T, err error) {
	t.Helper()
	if !fault.Is(err, fault.Unavailable) || fault.CodeOf(err) != blob.CodeFull || fault.Of(err).RetryAfter == 0 {
		t.Errorf("got %v, expected %s", err, blob.CodeFull)
	}
}
