package web

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync/atomic"
	"unsafe"
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

// next writes a new id, 32 hexadecimal digits, into room and returns it as a
// string over it: room must not be written again.
func (g *ids) next(room *[32]byte) string {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], g.last.Add(1))
	copy(room[:], g.prefix[:])
	hex.Encode(room[16:], counter[:])
	return unsafe.String(&room[0], len(room))
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
