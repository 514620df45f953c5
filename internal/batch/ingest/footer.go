package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"sluice/internal/platform/fault"
)

// Bounds of a Parquet file's footer: what is read of it, and what that takes once it is
// decoded, some hundred bytes for each element of its lists at most.
const (
	maxFooter  = 32 << 20
	maxEntries = 1 << 20 // a thousand columns in a thousand groups of rows
	maxNesting = 64
)

// errFooter is returned for a footer that is not what it says.
var errFooter = errors.New("the footer contradicts itself")

// checkFooter refuses a Parquet file whose footer says that it has more than it has room
// for. The library sets memory aside for a list by its length, which is a few bytes, before
// it looks whether there is one.
func checkFooter(r io.ReaderAt, size int64) error {
	const tail = 8 // the footer's length, and "PAR1"
	if size < tail+4 {
		return nil // it is told what is wrong
	}
	var end [tail]byte
	if err := readAt(r, end[:], size-tail); err != nil {
		return err
	}
	if string(end[4:]) != "PAR1" {
		return nil // likewise
	}
	n := int64(binary.LittleEndian.Uint32(end[:]))
	switch {
	case n > size-tail-4: // for which the library would set as much aside as it says
		return damaged(fmt.Errorf("%w: it has %d bytes, more than the file", errFooter, n))
	case n > maxFooter:
		return fault.New(fault.Unprocessable, "the Parquet file's footer has %d bytes, at most %d are possible: write fewer and larger groups of rows", n, maxFooter).WithCode(codeDamaged)
	}
	text := make([]byte, n)
	if err := readAt(r, text, size-tail-n); err != nil {
		return err
	}
	w := walk{text: text, left: maxEntries}
	if err := w.fields(0); err != nil {
		return damaged(err)
	}
	text = text[:len(text)-len(w.text)] // a signature may follow, of a file with encrypted columns
	var meta format.FileMetaData
	err := guarded(func() error { return thrift.Unmarshal(new(thrift.CompactProtocol), text, &meta) })
	if err == nil {
		err = checkShape(&meta)
	}
	if err != nil {
		return damaged(err)
	}
	if encrypted(&meta) {
		return fault.New(fault.Unprocessable, "the Parquet file has encrypted columns, or a footer that is signed with a key: decrypt it before the upload, or write it without encryption").WithCode(codeEncrypted)
	}
	return nil
}

// encrypted says whether it takes a key to read a file whose footer takes none, or to know that
// the footer is what was written.
func encrypted(meta *format.FileMetaData) bool {
	for i := range meta.RowGroups {
		if slices.ContainsFunc(meta.RowGroups[i].Columns, func(c format.ColumnChunk) bool { return c.CryptoMetadata.Value != nil }) {
			return true
		}
	}
	return meta.EncryptionAlgorithm.Value != nil
}

// checkShape refuses a schema that is deeper than any is, of whose columns the library
// would note the paths, and groups of rows that have not the schema's columns, for each of
// which it would note where it is.
func checkShape(meta *format.FileMetaData) error {
	leaves := 0
	var open []int64 // of the elements around, how many children are to come
	for i := range meta.Schema {
		s := &meta.Schema[i]
		if s.Type.Valid {
			leaves++
		}
		children := int64(s.NumChildren.V)
		if children > 0 {
			open = append(open, children+1) // and itself
		}
		if len(open) > maxNesting {
			return fmt.Errorf("%w: the schema is nested %d deep and more", errFooter, maxNesting)
		}
		for len(open) > 0 {
			if open[len(open)-1]--; open[len(open)-1] > 0 {
				break
			}
			open = open[:len(open)-1]
		}
	}
	for i := range meta.RowGroups {
		if n := len(meta.RowGroups[i].Columns); n != leaves {
			return fmt.Errorf("%w: the schema has %d columns, and a group of rows %d", errFooter, leaves, n)
		}
	}
	return nil
}

// walk goes through a value in Thrift's compact protocol
// (https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md), as far
// as it takes to know that all of it is there.
type walk struct {
	text []byte
	left int // elements of lists that there may be yet
}

// The types of the protocol, of fields of structs; bools are in their type there.
const (
	thriftStop byte = iota
	thriftTrue
	thriftFalse
	thriftI8
	thriftI16
	thriftI32
	thriftI64
	thriftDouble
	thriftBinary
	thriftList
	thriftSet
	thriftMap
	thriftStruct
)

// fields goes through a struct.
func (w *walk) fields(depth int) error {
	for {
		head, err := w.byte()
		if err != nil || head&0xf == thriftStop {
			return err
		}
		if head>>4 == 0 { // the field's number follows, which else is added to the one before
			if _, err := w.varint(); err != nil {
				return err
			}
		}
		if kind := head & 0xf; kind != thriftTrue && kind != thriftFalse {
			if err := w.value(kind, depth+1); err != nil {
				return err
			}
		}
	}
}

func (w *walk) value(kind byte, depth int) error {
	if depth > maxNesting {
		return errFooter
	}
	switch kind {
	case thriftTrue, thriftFalse, thriftI8: // bools only where they are elements
		return w.skip(1)
	case thriftI16, thriftI32, thriftI64:
		_, err := w.varint()
		return err
	case thriftDouble:
		return w.skip(8)
	case thriftBinary:
		n, err := w.varint()
		if err != nil {
			return err
		}
		return w.skip(n)
	case thriftList, thriftSet:
		return w.list(depth)
	case thriftMap:
		return w.pairs(depth)
	case thriftStruct:
		return w.fields(depth)
	}
	return errFooter
}

func (w *walk) list(depth int) error {
	head, err := w.byte()
	if err != nil {
		return err
	}
	n := uint64(head >> 4)
	if n == 15 {
		if n, err = w.varint(); err != nil {
			return err
		}
	}
	return w.elements(n, depth, head&0xf)
}

func (w *walk) pairs(depth int) error {
	n, err := w.varint()
	if err != nil || n == 0 {
		return err
	}
	kinds, err := w.byte()
	if err != nil {
		return err
	}
	return w.elements(n, depth, kinds>>4, kinds&0xf)
}

// elements goes through n times the kinds.
func (w *walk) elements(n uint64, depth int, kinds ...byte) error {
	if n > uint64(w.left) || n > uint64(len(w.text)) {
		return errFooter
	}
	w.left -= int(n)
	for range n {
		for _, kind := range kinds {
			if err := w.value(kind, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) byte() (byte, error) {
	if len(w.text) == 0 {
		return 0, errFooter
	}
	b := w.text[0]
	w.text = w.text[1:]
	return b, nil
}

func (w *walk) varint() (uint64, error) {
	v, n := binary.Uvarint(w.text)
	if n <= 0 {
		return 0, errFooter
	}
	w.text = w.text[n:]
	return v, nil
}

func (w *walk) skip(n uint64) error {
	if n > uint64(len(w.text)) {
		return errFooter
	}
	w.text = w.text[n:]
	return nil
}
