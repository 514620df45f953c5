package audit

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// appendForEver is a program that appends to the log in its working directory
// from four goroutines, and prints the id of every entry that was acknowledged.
func appendForEver(round int) {
	key, err := KeyFile(rand.Reader, "key", origin)
	if err != nil {
		panic(err)
	}
	storage, err := OpenFolder("log")
	if err != nil {
		panic(err)
	}
	l, err := Open(context.Background(), storage, key, Config{Recent: 512})
	if err != nil {
		panic(err)
	}
	var output sync.Mutex
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for n := 0; ; n++ {
				list := entriesFrom(round*1_000_000+worker*100_000+n*64, 1+(worker*7+n)%64)
				if _, err := l.Append(context.Background(), list); err != nil {
					panic(err)
				}
				output.Lock()
				for _, e := range list {
					fmt.Println(e.ID)
				}
				output.Unlock()
			}
		})
	}
	all.Wait()
}

// Killed at any moment, the log verifies as it lies there, goes on, and has
// every acknowledged entry once.
func TestKill(t *testing.T) {
	const rounds = 30
	folder := t.TempDir()
	acknowledged := make(map[string]bool)
	for round := range rounds {
		for _, id := range runAndKill(t, folder, round, time.Duration(mathrand.IntN(40))*time.Millisecond) {
			acknowledged[id] = true
		}
		if _, err := os.Stat(filepath.Join(folder, "log", checkpointName)); err != nil && len(acknowledged) == 0 {
			continue // killed before it began
		}
		key, err := KeyFile(rand.Reader, filepath.Join(folder, "key"), origin)
		if err != nil {
			t.Fatal(err)
		}
		logged := make(map[string]int)
		r := verify(t, os.DirFS(filepath.Join(folder, "log")), Trust{
			Keys:  []PublicKey{key.Public()},
			Entry: func(e Logged) error { logged[e.Entry.ID]++; return nil },
		})
		if !r.OK() {
			t.Fatalf("round %d: %+v", round, r.Problems)
		}
		for id := range acknowledged {
			if logged[id] != 1 {
				t.Fatalf("round %d: %s was acknowledged and is there %d times", round, id, logged[id])
			}
		}
	}
	if len(acknowledged) < rounds {
		t.Errorf("only %d entries were acknowledged in %d rounds: the test shows nothing", len(acknowledged), rounds)
	}
	t.Logf("%d entries acknowledged in %d rounds", len(acknowledged), rounds)
}

// runAndKill lets the program run for a while after its first acknowledgement.
func runAndKill(t *testing.T, folder string, round int, while time.Duration) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "AUDIT_TEST_ROUND="+strconv.Itoa(round))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if round%3 == 0 { // also while it opens the log
		time.AfterFunc(while, func() { cmd.Process.Kill() })
	}
	var ids []string
	read := bufio.NewReader(out)
	for {
		line, err := read.ReadString('\n')
		if err == io.EOF {
			break // a line that is cut off was not acknowledged to anybody
		}
		if err != nil {
			t.Fatal(err)
		}
		if ids = append(ids, line[:len(line)-1]); len(ids) == 1 && round%3 != 0 {
			time.AfterFunc(while, func() { cmd.Process.Kill() })
		}
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("round %d: the program ended by itself: %v", round, err)
	}
	return ids
}
