package web

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync/atomic"
)

// maxID bounds a caller's request id, in bytes.
const maxID = 128

// ids makes request ids: unique over processes by 8 random bytes, within one
// by a counter. They identify; they are no secret.
type ids struct {
	prefix [16]byte
	last   atomic.Uint64
}

func newIDs() *ids {
	var seed [8]byte
	rand.Read(seed[:]) // never fails
	g := &ids{}
	hex.Encode(g.prefix[:], seed[:])
	return g
}

// next returns 32 hexadecimal digits.
func (g *ids) next() string {
	var counter [8]byte
	var id [32]byte
	binary.BigEndian.PutUint64(counter[:], g.last.Add(1))
	copy(id[:], g.prefix[:])
	hex.Encode(id[16:], counter[:])
	return string(id[:])
}

// validID reports whether a caller's id is safe to log and to send back.
func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '_', c == '.', c == ':', c == '/', c == '+', c == '=', c == '~', c == '@':
		default:
			return false
		}
	}
	return true
}
