package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// batch is what a writer decided: the leaves that follow the first start ones.
// It is swapped into the storage before anything else is written, so that the
// rest is a function of it, for this writer and for one that takes over: tiles
// of one name never differ, and nothing is signed that was not decided. The
// batch itself is signed lest the log vouch for what others put there.
type batch struct {
	epoch  int64 // counts writers; the latest to open the log wins
	start  int64
	leaves [][]byte
}

// batchHeader keeps the text apart from a checkpoint's, whose first line is
// an origin: those have no spaces.
const batchHeader = "sluice audit batch v1"

func (b batch) end() int64 { return b.start + int64(len(b.leaves)) }

func (b batch) text(body []byte) string {
	sum := sha256.Sum256(body)
	return fmt.Sprintf("%s\n%d\n%d\n%d\n%s\n", batchHeader, b.epoch, b.start, len(b.leaves), hex.EncodeToString(sum[:]))
}

// encode returns a signed note about the leaves, and then these, all of them
// behind their lengths as in a bundle.
func (b batch) encode(key Key) ([]byte, error) {
	var body []byte
	if len(b.leaves) > 0 {
		body = make([]byte, 0, len(b.leaves)*(2+len(b.leaves[0])+16)) // they are much alike
	}
	for _, leaf := range b.leaves {
		body = appendLeaf(body, leaf)
	}
	head, err := signNote(&note.Note{Text: b.text(body)}, time.Time{}, key)
	if err != nil {
		return nil, err
	}
	return append(appendLeaf(nil, head), body...), nil
}

func decodeBatch(data []byte, keys []PublicKey) (batch, error) {
	parts, err := splitBundle(data)
	if err != nil || len(parts) == 0 {
		return batch{}, errors.New("the batch decided last is damaged")
	}
	n, err := openNote(parts[0], keys)
	if err != nil {
		return batch{}, fmt.Errorf("the batch decided last: %w", err)
	}
	b := batch{leaves: parts[1:]}
	_, numbers, _ := bytes.Cut([]byte(n.Text), []byte("\n"))
	if _, err := fmt.Sscanf(string(numbers), "%d\n%d\n", &b.epoch, &b.start); err != nil {
		return batch{}, fmt.Errorf("the batch decided last: %w", err)
	}
	if b.text(data[2+len(parts[0]):]) != n.Text {
		return batch{}, errors.New("the batch decided last is not the one that was signed")
	}
	return b, nil
}
