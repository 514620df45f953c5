package ingest

import (
	"sort"

	"github.com/parquet-go/parquet-go"
)

// arrowWords is a dictionary as far as it has been read.
type arrowWords struct {
	since, end int // of the parts with its number, those that it is made of
	values     []parquet.Value
	size       int64 // bytes
}

// give gives a column its dictionary, or that of its lists, as it is for a batch.
func (r *arrowReader) give(c *arrowColumn, batch int) (err error) {
	for ; c.child != nil; c = c.child {
	}
	if c.field.dictionary != nil {
		c.words, err = r.dictionary(c.field, batch)
	}
	return err
}

// dictionary returns the values of a dictionary as they are for a batch. Those that were
// read for another are kept where they are still the same.
func (r *arrowReader) dictionary(field *arrowField, batch int) ([]parquet.Value, error) {
	id := *field.dictionary
	all := r.file.dictionaries[id]
	end := len(all)
	if !r.file.whole {
		end = sort.Search(len(all), func(i int) bool { return all[i].order > batch })
	}
	if end == 0 {
		delete(r.words, id)
		return nil, nil
	}
	w := r.words[id]
	if since := all[end-1].since; w == nil || w.since != since || w.end > end {
		w = &arrowWords{since: since, end: since}
		r.words[id] = w
	}
	for w.end < end {
		o, rows, err := r.file.opener(&all[w.end], 3)
		if err != nil {
			return nil, err
		}
		more, size, err := o.dictionary(field.values, rows, w.values, r.room())
		if err != nil {
			return nil, err
		}
		w.values, w.size, w.end = more, w.size+size, w.end+1
	}
	return w.values, nil
}

// room is how many bytes are left for dictionaries.
func (r *arrowReader) room() int64 {
	room := int64(maxDictionaries)
	for _, w := range r.words {
		room -= w.size
	}
	return room
}

// textOf is the text that a value is, if it is one.
func textOf(v parquet.Value) []byte {
	if v.IsNull() || v.Kind() != parquet.ByteArray {
		return nil
	}
	return v.ByteArray()
}
