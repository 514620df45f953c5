package ingest

// pace calls yield once for each stretch of content.
type pace struct {
	yield func()
	left  int64 // bytes until then
}

// stretch is what takes some 100 µs to read, in bytes.
const stretch = 32 << 10

// took says that so many bytes have been read.
func (p *pace) took(n int64) {
	if p.left -= n; p.left <= 0 {
		p.left = stretch
		p.yield()
	}
}
